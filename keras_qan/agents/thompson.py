"""A learned policy that learns one more number on the user's own task, by Thompson sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_qan.agents.base import ActionChoice, Agent, check_shapes, random_stream
from keras_qan.agents.dqn import DQN
from keras_qan.storage.serialization import configurable
from keras_qan.utils.validation import check

#: The biases that are tried, in action value for a change of the rate by a factor of e.
BIASES = (-0.04, -0.02, -0.01, 0.0, 0.01, 0.02, 0.04)

#: The prior of returns, in nats: the deviation between biases and that between trainings with one
#: bias; the correlation length in biases; and the penalty on the outermost biases.
DEVIATION, NOISE, LENGTH, PENALTY = 0.15, 0.15, 1.5, 0.1

#: The factor by which a bias moves the rate of a training at most. It counts at each decision, so
#: that without a bound a small one takes the rate to zero.
MOST_FACTOR = 5.0

#: Its logarithm; rounding is no shift too far.
LARGEST_SHIFT = math.log(MOST_FACTOR) + 1e-4

#: Names of its saved arrays, in files too.
_KEPT = ("counts", "sums", "total", "current", "draws")


@configurable
class ThompsonDQN(Agent):
    """A policy that stays as it is but for a bias to higher or to lower learning rates.

    With Q the policy's values and d_a the logarithm of the factor by which action a multiplies the
    rate, it acts by Q(s, a) + b·d_a. The bias b is a choice among `BIASES`, made for each
    training: by Thompson sampling while it learns (from the posterior of a Gaussian process over
    the biases, given the returns of the trainings so far), by the highest posterior mean
    afterwards. It moves the rate by a factor of five at most away from where the policy's own
    choices would lead; beyond, those are taken. Trainings differ by their seeds in more than any
    single decision changes, so that a network fitted to a few of their returns unlearns what it
    knew; one number can be learned.

    Args:
      agent: the policy.
      directions: d_a, a number for each action.
      seed: seed of the draws. Defaults to 0.

    Raises:
      ValueError: a direction is no finite number.
    """

    def __init__(self, agent: DQN, directions: Sequence[float], seed: int = 0) -> None:
        self.agent, self.seed = agent, int(seed)
        self.directions = tuple(float(d) for d in directions)
        check(
            bool(np.isfinite(self.directions).all()),
            "ThompsonDQN's directions",
            self.directions,
            "a finite number for each action, such as log(0.5) for one that halves the rate",
        )
        self._counts = np.zeros(len(BIASES), np.float32)
        self._sums = np.zeros(len(BIASES), np.float32)
        self._total = 0.0
        self._current = len(BIASES) // 2
        self._draws = 0
        self._shift = 0.0

    def build(self, num_features: int, num_actions: int) -> None:
        """Build the policy.

        Raises:
          ValueError: there are more or fewer actions than directions, or the policy was built for
            other sizes.
        """
        check(
            num_actions == len(self.directions),
            "ThompsonDQN's directions",
            self.directions,
            f"one for each of the {num_actions} actions",
        )
        self.agent.build(num_features, num_actions)

    def begin(self) -> None:
        """Begin a training: the bias has moved nothing in it."""
        self.agent.begin()
        self._shift = 0.0

    def act(self, observation: np.ndarray, explore: bool) -> ActionChoice:
        """Choose as the policy does with the training's bias, or with the best one known."""
        known = self.agent.act(observation, False)
        bias = BIASES[self._current] if explore else self._best_bias()
        values = known.q_values + np.float32(bias) * np.array(self.directions, np.float32)
        bonus = self.agent.action_bonus()
        action, own = int(np.argmax(values + bonus)), int(np.argmax(known.q_values + bonus))
        shift = self._shift + self.directions[action] - self.directions[own]
        if abs(shift) > max(LARGEST_SHIFT, abs(self._shift)):
            return ActionChoice(own, known.q_values, known.epsilon)
        self._shift = shift
        return ActionChoice(action, values, known.epsilon)

    def _best_bias(self) -> float:
        return BIASES[int(np.argmax(self._posterior()[0]))]

    def learn(
        self,
        observation: np.ndarray,  # noqa: ARG002
        action: int,  # noqa: ARG002
        reward: float,
        discount: float,
    ) -> float:
        """Add up the return; when the training is over, learn from it and draw a bias."""
        self._total += reward
        if discount > 0.0:
            return math.nan
        self._counts[self._current] += 1.0
        self._sums[self._current] += self._total
        self._total = 0.0
        mean, covariance = self._posterior()
        self._draws += 1
        draw = random_stream(self.seed, self._draws).standard_normal(len(BIASES))
        root = np.linalg.cholesky(covariance + 1e-5 * np.eye(len(BIASES)))
        self._current = int(np.argmax(mean + root @ draw))
        return math.nan

    def _posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean `[K]` and covariance `[K, K]` of the biases' returns."""
        place = np.arange(len(BIASES)) - len(BIASES) // 2
        covariance = DEVIATION**2 * np.exp(-0.5 * (np.subtract.outer(place, place) / LENGTH) ** 2)
        penalty = PENALTY * (place / place.max()) ** 2
        counts = self._counts.astype(np.float64)
        level = np.sum(self._sums + counts * penalty) / max(np.sum(counts), 1.0)
        expected = level - penalty
        averages = self._sums / np.maximum(counts, 1.0)
        # A bias that was never tried has no data: its noise is infinite.
        noise = NOISE**2 / np.maximum(counts, 1e-6)
        solved = np.linalg.solve(covariance + np.diag(noise), covariance)
        gap = np.where(counts > 0.0, averages - expected, 0.0)
        return expected + solved.T @ gap, covariance - covariance @ solved

    def abandon(self, num_transitions: int) -> None:
        """Forget the rewards of a training that was interrupted."""
        if num_transitions:
            self._total = 0.0

    def action_scores(self, observations: np.ndarray) -> np.ndarray:
        """Return the scores that the greedy policy maximises, `[N, A]` for states `[N, F]`.

        Args:
          observations: states, float32 `[N, F]`, not normalised.
        """
        bias = np.float32(self._best_bias()) * np.array(self.directions, np.float32)
        return self.agent.action_scores(observations) + bias

    def _own_arrays(self) -> dict[str, np.ndarray]:
        return {
            "leaning/counts": self._counts.copy(),
            "leaning/sums": self._sums.copy(),
            "leaning/total": np.array(self._total, np.float32),
            "leaning/current": np.array(self._current, np.int32),
            "leaning/draws": np.array(self._draws, np.int32),
            "leaning/shift": np.array(self._shift),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the statistics of the biases, and the policy's parameters."""
        return self.agent.parameters() | self._own_arrays()

    def parameters(self) -> dict[str, np.ndarray]:
        """Return the arrays that the greedy policy needs."""
        return self.arrays()

    def adopt(self, parameters: dict[str, np.ndarray]) -> None:
        """Take over what `parameters` gave, of a policy alone or of one with biases.

        Raises:
          ValueError: an array is missing or has another shape.
        """
        self.agent.adopt(parameters)
        if "leaning/counts" in parameters:
            self._take(parameters)

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `arrays` gave.

        Raises:
          ValueError: an array is missing or has another shape.
        """
        own = {name: array.shape for name, array in self._own_arrays().items()}
        del own["leaning/shift"]  # not in files of before 0.2.0
        check_shapes(own, arrays)
        self.agent.adopt(arrays)
        self._take(arrays)

    def _take(self, arrays: dict[str, np.ndarray]) -> None:
        counts, sums, total, current, draws = (arrays[f"leaning/{name}"] for name in _KEPT)
        self._counts, self._sums = np.array(counts, np.float32), np.array(sums, np.float32)
        self._total, self._current, self._draws = float(total), int(current), int(draws)
        self._shift = float(arrays.get("leaning/shift", 0.0))
