"""Q-learning over architectures: the value table, the ε schedule, and the agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_qan.metaqnn.space import Architecture, Layer, parse_architecture
from keras_qan.metaqnn.state_space import StateSpace
from keras_qan.utils.validation import check, check_integer, check_number


@dataclasses.dataclass(frozen=True)
class QStep:
    """One decision: an action in a state, and the legal actions in the next one.

    Args:
      state: key of the state.
      action: the action taken in it.
      next_state: key of the next state.
      next_actions: the legal actions there. Defaults to none, at the end.
    """

    state: str
    action: str
    next_state: str
    next_actions: tuple[str, ...] = ()


class QTable:
    """Action values, learned backwards over trajectories.

    Q(s, u) ← (1 − α) Q(s, u) + α (r + γ max_u' Q(s', u')): equation 3 of arXiv:1611.02167, where r
    is the reward at the end and 0 elsewhere. Steps are updated last to first, so that one pass
    carries the reward to the beginning.

    Args:
      initial: Q₀, the value of an action never tried; the published advice is below the average
        reward. Defaults to 0.5.
      learning_rate: α, in (0, 1]. Defaults to 0.01.
      discount: γ, in [0, 1]. Defaults to 1.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> table = QTable(initial=0.0, learning_rate=0.5)
      >>> table.learn([QStep("a", "x", "b", ("y",)), QStep("b", "y", "end")], reward=1.0)
      >>> table.value("b", "y"), table.value("a", "x")
      (0.5, 0.25)
    """

    def __init__(
        self, initial: float = 0.5, learning_rate: float = 0.01, discount: float = 1.0
    ) -> None:
        check_number("learning_rate", learning_rate, above=0, maximum=1)
        check_number("discount", discount, 0, 1)
        self.initial = initial
        self.learning_rate = learning_rate
        self.discount = discount
        self.values: dict[str, dict[str, float]] = {}

    def value(self, state: str, action: str) -> float:
        """Return Q(state, action).

        Args:
          state: its name.
          action: its name.
        """
        return self.values.get(state, {}).get(action, self.initial)

    def best_value(self, state: str, actions: Sequence[str]) -> float:
        """Return the largest value of the actions; 0 where there are none.

        Args:
          state: its name.
          actions: names of those to compare.
        """
        return max((self.value(state, action) for action in actions), default=0.0)

    def learn(self, steps: Sequence[QStep], reward: float) -> None:
        """Update along a trajectory that ended with a reward, last step first.

        Args:
          steps: of the trajectory, the first first.
          reward: at its end.
        """
        rate = self.learning_rate
        for place in range(len(steps) - 1, -1, -1):
            step = steps[place]
            best_next = self.best_value(step.next_state, step.next_actions)
            target = (reward if place == len(steps) - 1 else 0.0) + self.discount * best_next
            known = self.values.setdefault(step.state, {})
            before = known.get(step.action, self.initial)
            known[step.action] = (1.0 - rate) * before + rate * target

    def choose(
        self, state: str, actions: Sequence[str], epsilon: float, rng: np.random.Generator
    ) -> str:
        """Choose any action with probability ε, else one of the best, ties broken at random.

        Args:
          state: its name.
          actions: names of those to choose from.
          epsilon: probability of any action, in [0, 1].
          rng: what is random.

        Returns:
          One of the actions.
        """
        if rng.random() < epsilon:
            return actions[int(rng.integers(len(actions)))]
        best = self.best_value(state, actions)
        ties = [action for action in actions if self.value(state, action) >= best]
        return ties[int(rng.integers(len(ties)))]

    def as_data(self) -> dict[str, Any]:
        """Return the values as plain data."""
        return {state: dict(known) for state, known in self.values.items()}


@dataclasses.dataclass(frozen=True)
class EpsilonSchedule:
    """Exploration in stages, counted in unique models.

    Args:
      steps: (ε, number of unique models), one after the other; the last ε holds for ever.

    Raises:
      ValueError: an ε is not a probability, or a count is negative.

    Example:
      >>> schedule = EpsilonSchedule(((1.0, 2), (0.1, 1)))
      >>> [schedule.epsilon_at(count) for count in range(5)]
      [1.0, 1.0, 0.1, 0.1, 0.1]
    """

    steps: tuple[tuple[float, int], ...]

    def __post_init__(self) -> None:
        steps = tuple((float(epsilon), int(count)) for epsilon, count in self.steps)
        object.__setattr__(self, "steps", steps)
        valid = bool(steps) and all(0.0 <= e <= 1.0 and count >= 0 for e, count in steps)
        expected = "pairs of a probability and a number of models, as in ((1.0, 20), (0.1, 20))"
        check(valid, "steps", self.steps, expected)

    @property
    def total(self) -> int:
        """Number of unique models of all stages."""
        return sum(count for _, count in self.steps)

    def epsilon_at(self, num_models: int) -> float:
        """Return ε for the next model after a number of unique ones.

        Args:
          num_models: unique models so far.
        """
        remaining = num_models
        for epsilon, count in self.steps:
            if remaining < count:
                return epsilon
            remaining -= count
        return self.steps[-1][0]

    @classmethod
    def paper(cls) -> EpsilonSchedule:
        """Return table 2 of arXiv:1611.02167: 1,500 models at random, 2,700 in all."""
        falling = [(e / 10, 100 if e >= 7 else 150) for e in range(9, 0, -1)]
        return cls(((1.0, 1500), *falling))

    @classmethod
    def scaled(cls, total: int) -> EpsilonSchedule:
        """Return the paper's schedule, shrunk to a number of models.

        Args:
          total: number of models, 1 or more.

        Raises:
          ValueError: the number is below 1.

        Example:
          >>> EpsilonSchedule.scaled(27).steps[:3], EpsilonSchedule.scaled(27).total
          (((1.0, 15), (0.9, 1), (0.8, 1)), 27)
        """
        check_integer("total", total, 1, hint="It counts models.")
        paper = cls.paper()
        ends = np.cumsum([count for _, count in paper.steps]) / paper.total * total
        places = np.rint(ends).astype(int)
        counts = np.diff(places, prepend=0)
        return cls(tuple((e, int(n)) for (e, _), n in zip(paper.steps, counts, strict=True)))


@dataclasses.dataclass(frozen=True)
class QLearning:
    """Settings of the agent.

    Args:
      epsilon: exploration. Defaults to the paper's schedule shrunk to 60 models.
      learning_rate: α. Defaults to 0.01.
      discount: γ. Defaults to 1.
      initial: Q₀. Defaults to 0.5.
      replays: trajectories replayed for each new model: 128 in the released code, 100 in the
        paper. Defaults to 128.

    Raises:
      ValueError: an argument is out of range.
    """

    epsilon: EpsilonSchedule = dataclasses.field(default_factory=lambda: EpsilonSchedule.scaled(60))
    learning_rate: float = 0.01
    discount: float = 1.0
    initial: float = 0.5
    replays: int = 128

    def __post_init__(self) -> None:
        check_integer("replays", self.replays, 0)
        self.make_table()

    def make_table(self) -> QTable:
        """Return an empty table of action values."""
        return QTable(self.initial, self.learning_rate, self.discount)


class QLearningAgent:
    """Q-learning over the states of a state space, with a replay memory.

    Args:
      state_space: of the architectures.
      settings: of the learning.

    Attributes:
      table: the action values.
      memory: (trajectory, reward) of every model, once for each time that it was sampled.
    """

    def __init__(self, state_space: StateSpace, settings: QLearning) -> None:
        self.state_space = state_space
        self.table = settings.make_table()
        self.memory: list[tuple[tuple[QStep, ...], float]] = []
        self._replays = settings.replays

    def sample(self, epsilon: float, rng: np.random.Generator) -> Architecture:
        """Sample an architecture: at each layer, any with probability ε, else the best."""
        state, layers = self.state_space.initial_state(), []
        while not state.ends:
            actions = [str(layer) for layer in self.state_space.legal_actions(state)]
            layer = Layer.parse(self.table.choose(state.key, actions, epsilon, rng))
            layers.append(layer)
            state = self.state_space.next_state(state, layer)
        return tuple(layers)

    def trajectory(self, layers: Sequence[Layer]) -> tuple[QStep, ...]:
        """The decisions that make an architecture."""
        state, steps = self.state_space.initial_state(), []
        for layer in layers:
            after = self.state_space.next_state(state, layer)
            follow = tuple(str(other) for other in self.state_space.legal_actions(after))
            steps.append(QStep(state.key, str(layer), after.key, follow))
            state = after
        return tuple(steps)

    def remember(self, text: str, reward: float, rng: np.random.Generator) -> None:
        """Learn from a model, and from replayed ones, drawn uniformly with replacement."""
        steps = self.trajectory(parse_architecture(text))
        self.memory.append((steps, reward))
        self.table.learn(steps, reward)
        for place in rng.integers(len(self.memory), size=self._replays):
            self.table.learn(*self.memory[int(place)])
