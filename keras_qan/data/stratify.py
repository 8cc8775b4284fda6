"""Random orders of which every prefix is stratified by class."""

import numpy as np
import numpy.typing as npt


def stratified_order(
    labels: npt.NDArray[np.int64], *, seed: int, stream: int = 0
) -> npt.NDArray[np.int64]:
    """Return a random order of the examples of which every prefix is stratified.

    The r-th example of a class of n (in random order, r from 0) gets the place (r + 1/2) / n, and
    the examples are sorted by their places. A prefix of any length m is thus Webster's
    apportionment of m seats: no class could pass a seat to another and bring both closer to
    their share. A smaller subset is a subset of a larger one, and its size is exact, unlike with
    rounding class by class.

    Args:
        labels: class of each example, int64 [N].
        seed: seed of the order, at least 0.
        stream: number of an order among several of one seed. Defaults to 0.

    Returns:
        A permutation of 0 .. N-1, int64 [N].

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> sorted(labels[stratified_order(labels, seed=3)[:3]].tolist())
        [0, 0, 1]
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(stream,))
    shuffled = np.random.default_rng(sequence).permutation(labels.size)
    _, positions, counts = np.unique(labels[shuffled], return_inverse=True, return_counts=True)
    by_class = np.argsort(positions, kind="stable")
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    ranks = np.arange(labels.size) - starts
    places = np.empty(labels.size)
    places[by_class] = (ranks + 0.5) / np.repeat(counts, counts)
    # A stable sort, so that equal places keep the random order and no class is always first.
    return np.asarray(shuffled[np.argsort(places, kind="stable")], dtype=np.int64)
