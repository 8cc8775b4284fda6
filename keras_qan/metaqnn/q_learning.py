"""Q-learning over trajectories, and when to explore.

The agent: samples architectures, remembers them, and replays what it remembers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_qan.metaqnn.space import Architecture, Layer, architecture
from keras_qan.metaqnn.state_space import StateSpace


@dataclasses.dataclass(frozen=True)
class QStep:
    """One decision: an action in a state, and what could be done next.

    Args:
      state: key of the state.
      action: what was chosen in it.
      next_state: key of the state that followed.
      next_actions: what was legal there; none at the end.
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
      initial: Q₀, the value of what was never tried; below the average reward is the published
        advice.
      learning_rate: α, in (0, 1].
      discount: γ, in [0, 1].

    Example:
      >>> table = QTable(initial=0.0, learning_rate=0.5)
      >>> table.learn([Step("a", "x", "b", ("y",)), Step("b", "y", "end")], reward=1.0)
      >>> table.value("b", "y"), table.value("a", "x")
      (0.5, 0.25)
    """

    def __init__(
        self, initial: float = 0.5, learning_rate: float = 0.01, discount: float = 1.0
    ) -> None:
        if not 0.0 < learning_rate <= 1.0 or not 0.0 <= discount <= 1.0:
            raise ValueError(
                f"Received learning_rate={learning_rate} and discount={discount}; expected α in "
                "(0, 1] and γ in [0, 1]."
            )
        self.initial = initial
        self.learning_rate = learning_rate
        self.discount = discount
        self.values: dict[str, dict[str, float]] = {}

    def value(self, state: str, action: str) -> float:
        """Q(state, action)."""
        return self.values.get(state, {}).get(action, self.initial)

    def best_value(self, state: str, actions: Sequence[str]) -> float:
        """The largest value of the actions; 0 where there are none."""
        return max((self.value(state, action) for action in actions), default=0.0)

    def learn(self, steps: Sequence[QStep], reward: float) -> None:
        """Updates along a trajectory that ended with a reward, last step first."""
        rate = self.learning_rate
        for place in range(len(steps) - 1, -1, -1):
            step = steps[place]
            earned = reward if place == len(steps) - 1 else 0.0
            target = earned + self.discount * self.best_value(step.next_state, step.next_actions)
            known = self.values.setdefault(step.state, {})
            before = known.get(step.action, self.initial)
            known[step.action] = (1.0 - rate) * before + rate * target

    def choose(
        self, state: str, actions: Sequence[str], epsilon: float, rng: np.random.Generator
    ) -> str:
        """An action: any with probability ε, else one of the best, ties broken at random."""
        if rng.random() < epsilon:
            return actions[int(rng.integers(len(actions)))]
        best = self.best_value(state, actions)
        ties = [action for action in actions if self.value(state, action) >= best]
        return ties[int(rng.integers(len(ties)))]

    def as_data(self) -> dict[str, Any]:
        """The values as plain data."""
        return {state: dict(known) for state, known in self.values.items()}


@dataclasses.dataclass(frozen=True)
class EpsilonSchedule:
    """How much is explored, counted in unique models.

    Args:
      steps: (ε, how many unique models), one after the other; the last ε holds for ever.

    Raises:
      ValueError: an ε is no probability, or a count is negative.

    Example:
      >>> schedule = EpsilonSchedule(((1.0, 2), (0.1, 1)))
      >>> [schedule.at(count) for count in range(5)]
      [1.0, 1.0, 0.1, 0.1, 0.1]
    """

    steps: tuple[tuple[float, int], ...]

    def __post_init__(self) -> None:
        steps = tuple((float(epsilon), int(count)) for epsilon, count in self.steps)
        object.__setattr__(self, "steps", steps)
        if not steps or any(not 0.0 <= e <= 1.0 or count < 0 for e, count in steps):
            raise ValueError(
                f"Received steps={self.steps}; expected pairs of a probability and a number of "
                "models, as in ((1.0, 20), (0.1, 20))."
            )

    @property
    def total(self) -> int:
        """How many unique models there are in all."""
        return sum(count for _, count in self.steps)

    def at(self, num_models: int) -> float:
        """ε for the next model, once so many unique ones are trained."""
        left = num_models
        for epsilon, count in self.steps:
            if left < count:
                return epsilon
            left -= count
        return self.steps[-1][0]

    @classmethod
    def paper(cls) -> EpsilonSchedule:
        """Table 2 of arXiv:1611.02167: 1,500 models at random, 2,700 in all."""
        falling = [(e / 10, 100 if e >= 7 else 150) for e in range(9, 0, -1)]
        return cls(((1.0, 1500), *falling))

    @classmethod
    def scaled(cls, total: int) -> EpsilonSchedule:
        """The paper's schedule, shrunk to so many models.

        Example:
          >>> EpsilonSchedule.scaled(27).steps[:3], EpsilonSchedule.scaled(27).total
          (((1.0, 15), (0.9, 1), (0.8, 1)), 27)
        """
        if total < 1:
            raise ValueError(f"Received total={total}; expected at least one model.")
        paper = cls.paper()
        ends = np.cumsum([count for _, count in paper.steps]) / paper.total * total
        places = np.rint(ends).astype(int)
        counts = np.diff(places, prepend=0)
        return cls(tuple((e, int(n)) for (e, _), n in zip(paper.steps, counts, strict=True)))


@dataclasses.dataclass(frozen=True)
class QLearning:
    """How the agent learns.

    Args:
      epsilon: how much is explored; by default the paper's schedule shrunk to 60 models.
      learning_rate: α.
      discount: γ.
      initial: Q₀.
      replays: how many trajectories are replayed for each new model: 128 in the released code, 100
        in the paper.
    """

    epsilon: EpsilonSchedule = dataclasses.field(default_factory=lambda: EpsilonSchedule.scaled(60))
    learning_rate: float = 0.01
    discount: float = 1.0
    initial: float = 0.5
    replays: int = 128

    def __post_init__(self) -> None:
        if self.replays < 0:
            raise ValueError(f"Received replays={self.replays}; expected at least 0.")
        self.table()

    def table(self) -> QTable:
        """A table that nothing was learned into yet."""
        return QTable(self.initial, self.learning_rate, self.discount)


class QLearningAgent:
    """Q-learning over the states of a grammar, with a replay memory.

    Args:
      grammar: what may be built.
      learning: how it learns.

    Attributes:
      table: the action values.
      memory: (trajectory, reward) of every model, again for every time that it was sampled again.
    """

    def __init__(self, grammar: StateSpace, learning: QLearning) -> None:
        self.grammar = grammar
        self.table = learning.table()
        self.memory: list[tuple[tuple[QStep, ...], float]] = []
        self._replays = learning.replays

    def sample(self, epsilon: float, rng: np.random.Generator) -> Architecture:
        """Builds an architecture: at each layer, any with probability ε, else the best."""
        state, layers = self.grammar.start(), []
        while not state.ends:
            actions = [str(layer) for layer in self.grammar.actions(state)]
            layer = Layer.parse(self.table.choose(state.key, actions, epsilon, rng))
            layers.append(layer)
            state = self.grammar.next(state, layer)
        return tuple(layers)

    def trajectory(self, layers: Sequence[Layer]) -> tuple[QStep, ...]:
        """The decisions that make an architecture."""
        state, steps = self.grammar.start(), []
        for layer in layers:
            after = self.grammar.next(state, layer)
            follow = tuple(str(other) for other in self.grammar.actions(after))
            steps.append(QStep(state.key, str(layer), after.key, follow))
            state = after
        return tuple(steps)

    def remember(self, text: str, reward: float, rng: np.random.Generator) -> None:
        """Learns from a model, and from as many remembered ones as are replayed.

        Those are drawn uniformly, with replacement; what is sampled often is replayed often.
        """
        steps = self.trajectory(architecture(text))
        self.memory.append((steps, reward))
        self.table.learn(steps, reward)
        for place in rng.integers(len(self.memory), size=self._replays):
            self.table.learn(*self.memory[int(place)])
