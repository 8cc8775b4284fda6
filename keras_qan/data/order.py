"""The order in which an epoch visits the examples."""

import numpy as np
import numpy.typing as npt


def epoch_order(num_examples: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the random order of one epoch, a function of its arguments alone.

    Args:
        num_examples: N, at least 0.
        seed: at least 0; two runs with the same seed see the same orders.
        epoch: number of the epoch, from 0.

    Returns:
        A permutation of 0 .. N-1, int64 [N].

    Example:
        >>> epoch_order(4, seed=1, epoch=0).tolist() == epoch_order(4, seed=1, epoch=0).tolist()
        True
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch,))
    return np.random.default_rng(sequence).permutation(num_examples).astype(np.int64)
