"""What the branched trainings showed, and the action values that follow from it."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

#: The forest that returns are smoothed by: trees, and the fewest states in a leaf.
TREES = 100
LEAF = 4

#: States that are made by crossing, and how many of a state's numbers another one gives.
CROSSED = 60_000
CROSSED_SHARE = 0.15


class Branches:
    """States at which tasks branched, and the return of each action there.

    The return of a single training is its seed's as much as the action's. A network fitted to the
    returns themselves learns both; so they are smoothed first, by extremely randomised trees over
    the states (fitted Q-values as in Ernst et al. 2005, for the fixed policy that follows the
    branching, so that one fit is enough), and the network is fitted to what the trees say: at the
    states themselves, where the trees still remember their returns, and at many more that are
    crossed from them, where they do not.

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
        """Takes in states `[N, F]` with the returns `[N, A]` of all actions."""
        self.states = np.concatenate([self.states, states.astype(np.float32)])
        self.returns = np.concatenate([self.returns, returns.astype(np.float32)])

    def lessons(self, seed: int, crossed: int = CROSSED) -> tuple[np.ndarray, np.ndarray]:
        """What a network is to be fitted to.

        Args:
          seed: the trees and the crossings follow from it.
          crossed: how many states are made by crossing.

        Returns:
          States float32 `[N + crossed, F]`, the branches' own first, and the action values that the
          trees find there, float32 `[N + crossed, A]`.
        """
        trees = ExtraTreesRegressor(
            TREES, min_samples_leaf=LEAF, max_features=0.7, random_state=seed, n_jobs=1
        )
        trees.fit(self.states, self.returns)
        states = np.concatenate([self.states, self._cross(crossed, np.random.default_rng(seed))])
        return states, trees.predict(states).astype(np.float32)

    def _cross(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """States some of whose numbers are those of others, float32 `[count, F]`."""
        crossed = self.states[rng.integers(len(self), size=count)]
        for column in range(crossed.shape[1]):
            taken = rng.random(count) < CROSSED_SHARE
            others = rng.integers(len(self), size=int(taken.sum()))
            crossed[taken, column] = self.states[others, column]
        return crossed

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, for a checkpoint."""
        return {"branches/states": self.states, "branches/returns": self.returns}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave."""
        self.states, self.returns = arrays["branches/states"], arrays["branches/returns"]
