"""Agents in several processes: one that gathers transitions, and one that workers share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from keras_qan.agents.base import ActionChoice, Agent

if TYPE_CHECKING:
    from keras_qan.distribute.collectives import WorkerGroup


class TransitionCollector(Agent):
    """Act and explore as an agent does, learn nothing, and gather transitions for it.

    Args:
      agent: the agent that acts.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent, self.gamma = agent, agent.gamma
        self._gathered: list[tuple[np.ndarray, ...]] = []

    def build(self, num_features: int, num_actions: int) -> None:
        """Build the agent."""
        self.agent.build(num_features, num_actions)

    def begin(self) -> None:
        """Tell the agent that a training begins."""
        self.agent.begin()

    def act(self, observation: np.ndarray, explore: bool) -> ActionChoice:
        """Act as the agent does."""
        return self.agent.act(observation, explore)

    def learn(self, observation: np.ndarray, action: int, reward: float, discount: float) -> float:
        """Keep the transition; not-a-number, as nothing was learned."""
        self._gathered.append(
            (
                np.array(observation, np.float32),
                np.array(action, np.int64),
                np.array(reward, np.float32),
                np.array(discount, np.float32),
            )
        )
        return math.nan

    def take(self) -> dict[str, np.ndarray]:
        """Return the transitions since the last call, oldest first.

        Returns:
          `observation` float32 `[T, F]`, `action` int64 `[T]`, `reward` and `discount` float32
          `[T]`; nothing at all where T is 0.
        """
        names = ("observation", "action", "reward", "discount")
        columns = [np.stack(column) for column in zip(*self._gathered, strict=True)]
        self._gathered = []
        return dict(zip(names, columns, strict=False))

    def abandon(self, num_transitions: int) -> None:
        """Forget the last transitions."""
        del self._gathered[len(self._gathered) - num_transitions :]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the agent's."""
        return self.agent.arrays()

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore the agent."""
        self.agent.restore(arrays)


#: The tolerance for the states of two workers, relative and absolute: they differ only by the order
#: of sums in float32.
TOLERANCE = 1e-3


class SharedAgent(Agent):
    """Let every worker of a training act on the choices of the chief's agent.

    On the chief it hands everything on to the agent. On the others there is none: they hold no
    parameters and learn nothing. At each choice the workers meet once: every one brings the state
    that it sees, the chief also its choice, and all take the chief's.

    Args:
      agent: the agent that decides; used on the chief alone.
      workers: the workers.
    """

    def __init__(self, agent: Agent, workers: WorkerGroup) -> None:
        self.workers = workers
        self.agent, self.gamma = agent, agent.gamma
        self._num_actions = 0

    def build(self, num_features: int, num_actions: int) -> None:
        """Build the chief's agent."""
        self._num_actions = num_actions
        if self.workers.is_chief:
            self.agent.build(num_features, num_actions)

    def begin(self) -> None:
        """Tell the chief's agent that a training begins."""
        if self.workers.is_chief:
            self.agent.begin()

    def act(self, observation: np.ndarray, explore: bool) -> ActionChoice:
        """Return the chief's choice.

        Raises:
          RuntimeError: on every worker, where one sees another state than the chief: their
            trainings have drifted apart.
        """
        own = ActionChoice(0, np.zeros(self._num_actions, np.float32), 0.0)
        if self.workers.is_chief:
            own = self.agent.act(observation, explore)
        head = [float(own.action), own.epsilon]
        mine = np.concatenate([head, own.q_values, observation]).astype(np.float64)
        everyone = self.workers.gather_numbers(mine)  # [W, 2 + A + F]
        seen = everyone[:, 2 + self._num_actions :]
        apart = np.abs(seen - seen[:1]) - TOLERANCE * (1.0 + np.abs(seen[:1]))
        if np.max(apart) > 0.0:
            raise RuntimeError(
                "The workers see different states of what should be one training; expected the "
                "same. Give every worker the same code, seed, data and callbacks, and start again "
                f"from the last checkpoint. States, one worker a row: {seen}"
            )
        chief = everyone[0]
        values = chief[2 : 2 + self._num_actions].astype(np.float32)
        return ActionChoice(int(chief[0]), values, float(chief[1]))

    def learn(self, observation: np.ndarray, action: int, reward: float, discount: float) -> float:
        """Let the chief's agent learn; the others learn nothing."""
        if self.workers.is_chief:
            return self.agent.learn(observation, action, reward, discount)
        return math.nan

    def abandon(self, num_transitions: int) -> None:
        """Let the chief's agent forget the last transitions."""
        if self.workers.is_chief:
            self.agent.abandon(num_transitions)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the chief's agent; nothing elsewhere."""
        return self.agent.arrays() if self.workers.is_chief else {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore the chief's agent."""
        if self.workers.is_chief:
            self.agent.restore(arrays)

    def adopt(self, parameters: dict[str, np.ndarray]) -> None:
        """Give the chief's agent a policy to start from."""
        if self.workers.is_chief:
            self.agent.adopt(parameters)
