"""Checks of saved arrays against an agent, without TensorFlow."""

from __future__ import annotations

import numpy as np

from keras_qan.agents.base import check_shapes


def check_optimizer(arrays: dict[str, np.ndarray], parameters: dict[str, tuple[int, ...]]) -> None:
    """Raise ValueError where saved arrays hold no state of Adam for these parameters."""
    network = [shape for name, shape in parameters.items() if name.startswith("network/")]
    # Adam's count of steps, then two moments of each parameter.
    shapes = [(), *(shape for shape in network for _ in range(2))]
    check_shapes({f"optimizer/{number}": shape for number, shape in enumerate(shapes)}, arrays)


def check_memory(arrays: dict[str, np.ndarray], num_features: int, capacity: int) -> None:
    """Raise ValueError where saved arrays are no replay buffer of this size.

    Args:
      arrays: see `ReplayBuffer.arrays`.
      num_features: the length of a state.
      capacity: the number of transitions kept.
    """
    rows: dict[str, tuple[int, ...]] = {
        "observation": (num_features,),
        "action": (),
        "reward": (),
        "discount": (),
    }
    for name in [*rows, "written", "ended", "oldest"]:
        if name not in arrays:
            raise ValueError(f"The kept replay memory has no {name!r}: it is not whole.")
    written, oldest = int(arrays["written"]), int(arrays["oldest"])
    went_round = oldest > 0 or written > capacity
    for name, shape in rows.items():
        found, full = arrays[name].shape, (capacity, *shape)
        too_many = len(found) == 0 or found[0] > capacity
        if found[1:] != shape or too_many or (went_round and found != full):
            expected = "exactly" if went_round else "at most"
            raise ValueError(
                f"The kept replay memory holds {name!r} of shape {found}; expected {expected} "
                f"{full}. Build the agent with the settings it was saved with."
            )
