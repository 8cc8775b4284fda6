"""Returns of branched trainings, and the action values that a network is fitted to."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

#: The forest that smooths returns: trees, and the fewest states in a leaf.
TREES = 100
LEAF = 4

#: States made by crossing, and the share of a state's features taken from another one.
CROSSED = 60_000
CROSSED_SHARE = 0.15


class Branches:
    """States at which tasks branched, and the return of each action there.

    The return of a single training depends on its seed as much as on the action. So the returns are
    smoothed by extremely randomised trees over the states (fitted Q-values as in Ernst et al. 2005,
    for the fixed policy that follows the branching, so that one fit is enough), and the network is
    fitted to the trees' values: at the states themselves, where the trees remember their returns,
    and at many more that are crossed from them, where they do not.

    Args:
      num_features: F, numbers in a state.
      num_actions: A.
    """

    def __init__(self, num_features: int, num_actions: int) -> None:
        self.states = np.zeros((0, num_features), np.float32)
        self.returns = np.zeros((0, num_actions), np.float32)

    def __len__(self) -> int:
        return len(self.states)

    def add(self, states: np.ndarray, returns: np.ndarray) -> None:
        """Add states `[N, F]` with the returns `[N, A]` of all actions."""
        self.states = np.concatenate([self.states, states.astype(np.float32)])
        self.returns = np.concatenate([self.returns, returns.astype(np.float32)])

    def training_data(self, seed: int, crossed: int = CROSSED) -> tuple[np.ndarray, np.ndarray]:
        """Return states and action values to fit a network to.

        Args:
          seed: of the trees and the crossings.
          crossed: the number of crossed states. Defaults to `CROSSED`.

        Returns:
          States float32 `[N + crossed, F]`, the branches' own first, and the trees' action values
          there, float32 `[N + crossed, A]`.
        """
        trees = ExtraTreesRegressor(
            TREES, min_samples_leaf=LEAF, max_features=0.7, random_state=seed, n_jobs=1
        )
        trees.fit(self.states, self.returns)
        states = np.concatenate([self.states, self._cross(crossed, np.random.default_rng(seed))])
        return states, trees.predict(states).astype(np.float32)

    def _cross(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return states with some features of other states, float32 `[count, F]`."""
        crossed = self.states[rng.integers(len(self), size=count)]
        for column in range(crossed.shape[1]):
            taken = rng.random(count) < CROSSED_SHARE
            others = rng.integers(len(self), size=int(taken.sum()))
            crossed[taken, column] = self.states[others, column]
        return crossed

    def arrays(self) -> dict[str, np.ndarray]:
        """The contents, for a checkpoint."""
        return {"branches/states": self.states, "branches/returns": self.returns}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore the contents that `arrays` gave."""
        self.states, self.returns = arrays["branches/states"], arrays["branches/returns"]
