"""The agent: samples architectures, remembers them, and replays what it remembers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_qan.metaqnn.grammar import Grammar
from keras_qan.metaqnn.layers import Architecture, Layer, architecture
from keras_qan.metaqnn.q_learning import Learning, Step


class Agent:
    """Q-learning over the states of a grammar, with a replay memory.

    Args:
      grammar: what may be built.
      learning: how it learns.

    Attributes:
      table: the action values.
      memory: (trajectory, reward) of every model, again for every time that it was sampled again.
    """

    def __init__(self, grammar: Grammar, learning: Learning) -> None:
        self.grammar = grammar
        self.table = learning.table()
        self.memory: list[tuple[tuple[Step, ...], float]] = []
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

    def trajectory(self, layers: Sequence[Layer]) -> tuple[Step, ...]:
        """The decisions that make an architecture."""
        state, steps = self.grammar.start(), []
        for layer in layers:
            after = self.grammar.next(state, layer)
            follow = tuple(str(other) for other in self.grammar.actions(after))
            steps.append(Step(state.key, str(layer), after.key, follow))
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
