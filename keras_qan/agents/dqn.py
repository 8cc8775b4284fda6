"""The deep Q-network: acts in NumPy, and learns with TF-Agents' DQN once it has to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_qan.agents.base import ActionChoice, Agent, check_shapes, random_stream
from keras_qan.agents.normalizer import Normalizer
from keras_qan.agents.saved_arrays import check_memory, check_optimizer
from keras_qan.agents.tf_agents import require_tf_agents
from keras_qan.storage.serialization import configurable

if TYPE_CHECKING:
    from keras_qan.agents.dqn_learner import DQNLearner

#: Groups of arrays that the greedy policy needs.
_PARAMETERS = ("network/", "target/", "normaliser/")


@configurable
class Exploration:
    """The probability ε of a random action: it falls along a line and stays.

    Args:
      start: ε at the first decision, in [0, 1]. Defaults to 1.
      end: ε after `decisions` decisions, in [0, 1]. Defaults to 0.1.
      decisions: the length of the line, at least 1. Defaults to 1000.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, start: float = 1.0, end: float = 0.1, decisions: int = 1000) -> None:
        if not (0.0 <= end <= 1.0 and 0.0 <= start <= 1.0) or decisions < 1:
            raise ValueError(
                f"Exploration got start={start}, end={end}, decisions={decisions}; expected "
                "probabilities in [0, 1] and at least one decision."
            )
        self.start, self.end, self.decisions = float(start), float(end), int(decisions)


@configurable
class Learning:
    """The updates of a DQN from its replay buffer.

    Args:
      rate: Adam's learning rate, above 0. Defaults to 1e-3.
      batch_size: transitions in an update. Defaults to 128.
      updates: updates after each decision. Defaults to 2.
      n_step: steps in a transition. With as many as an episode has, targets are Monte Carlo
        returns, which were steadier than bootstrapped one-step values. Defaults to 20.
      gamma: the discount factor, in [0, 1]. Defaults to 1.
      target_tau: the share by which the target network follows at each update, in (0, 1].
        Defaults to 0.01.
      warm_up: transitions to gather before the first update. Defaults to 100.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(
        self,
        rate: float = 1e-3,
        batch_size: int = 128,
        updates: int = 2,
        n_step: int = 20,
        gamma: float = 1.0,
        target_tau: float = 0.01,
        warm_up: int = 100,
    ) -> None:
        counts = {"batch_size": batch_size, "updates": updates, "n_step": n_step}
        for name, value in {**counts, "warm_up": warm_up}.items():
            if value < 1 or int(value) != value:
                raise ValueError(f"Learning got {name}={value}; expected an integer of at least 1.")
        if not rate > 0.0 or not 0.0 <= gamma <= 1.0 or not 0.0 < target_tau <= 1.0:
            raise ValueError(
                f"Learning got rate={rate}, gamma={gamma}, target_tau={target_tau}; expected a "
                "rate above 0, gamma in [0, 1] and target_tau in (0, 1]."
            )
        self.rate, self.gamma, self.target_tau = float(rate), float(gamma), float(target_tau)
        self.batch_size, self.updates, self.n_step = int(batch_size), int(updates), int(n_step)
        self.warm_up = int(warm_up)


@configurable
class DQN(Agent):
    """A deep Q-network over the actions (Mnih et al. 2015; double by default, van Hasselt 2016).

    The target of a transition over n steps is
    y = Σ_{k<n} γᵏ r_{t+k} + γⁿ Q'(s_{t+n}, argmax_a Q(s_{t+n}, a)), without the last term where the
    episode ended; Q' is the target network, and Q takes its place in the choice of a only when
    `double` is set. The error is Huber's. For options the steps are decisions: one that lasted k of
    them counts as k steps of the discount, and as one of the n transitions.

    Args:
      hidden: units of the hidden layers (ReLU). Defaults to (64, 64).
      exploration: ε over the decisions made while learning. Defaults to `Exploration()`.
      learning: the updates from the replay buffer. Defaults to `Learning()`.
      replay_capacity: transitions kept; above `learning.n_step`. Defaults to 10,000.
      double: whether the online network chooses the target's action. Defaults to True.
      averaged: whether the greedy policy is that of the target network, a running average of the
        parameters (Polyak & Juditsky 1992): the greedy policy of the online network swings from
        episode to episode. Defaults to True.
      seed: seed of initial parameters, exploration and sampling. Defaults to 0.
      default_action: index of the action that is taken unless another one's value is higher by
        more than `margin`. Defaults to none.
      margin: the margin of `default_action`, at least 0. The values of single decisions are noisy,
        and an agent that follows the noise reverses at one decision the choice of the last.
        Defaults to 0.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (64, 64),
        *,
        exploration: Exploration | None = None,
        learning: Learning | None = None,
        replay_capacity: int = 10_000,
        double: bool = True,
        averaged: bool = True,
        seed: int = 0,
        default_action: int | None = None,
        margin: float = 0.0,
    ) -> None:
        if not margin >= 0.0 or (margin > 0.0 and default_action is None):
            raise ValueError(
                f"DQN got margin={margin}, default_action={default_action}; expected a margin of "
                "at least 0, and with one the index of the action that is taken by default."
            )
        self.default_action, self.margin = default_action, float(margin)
        if not hidden or any(int(units) < 1 for units in hidden):
            raise ValueError(f"DQN got hidden={hidden}; expected at least one positive width.")
        self.hidden = tuple(int(units) for units in hidden)
        self.exploration = exploration or Exploration()
        self.learning = learning or Learning()
        self.gamma = self.learning.gamma
        if replay_capacity <= self.learning.n_step:
            raise ValueError(
                f"DQN got replay_capacity={replay_capacity} with transitions of "
                f"{self.learning.n_step} steps; expected a capacity above that."
            )
        self.replay_capacity, self.seed = int(replay_capacity), int(seed)
        self.double, self.averaged = bool(double), bool(averaged)

        self._sizes: tuple[int, int] | None = None
        self._learner: DQNLearner | None = None
        self._parameters: dict[str, np.ndarray] | None = None
        self._restored: dict[str, np.ndarray] | None = None
        self._draws = self._explored = 0

    def build(self, num_features: int, num_actions: int) -> None:
        """Take the sizes of state and actions. TensorFlow is not needed yet.

        Raises:
          ValueError: it was built for another state size or number of actions.
        """
        if self._sizes is not None:
            if self._sizes != (num_features, num_actions):
                raise ValueError(
                    f"This agent chooses among {self._sizes[1]} actions from {self._sizes[0]} "
                    f"state features, and is asked to choose among {num_actions} from "
                    f"{num_features}. Watch as many layers as before and keep the actions, or "
                    "start a new agent in a new directory."
                )
            return
        self._sizes = (num_features, num_actions)
        self._normalizer = Normalizer(num_features)

    @property
    def learner(self) -> DQNLearner:
        """The part that learns; TF-Agents is imported at its first use.

        Raises:
          ImportError: TensorFlow or TF-Agents is not installed.
        """
        if self._learner is None:
            require_tf_agents()
            from keras_qan.agents.dqn_learner import DQNLearner

            assert self._sizes is not None
            self._learner = DQNLearner(self, *self._sizes)
            if self._restored is not None:
                self._learner.restore(self._restored)
            elif self._parameters is not None:
                self._learner.adopt(self._parameters)
            self._restored = None
            self._parameters = None
        return self._learner

    # Acting.

    def act(self, observation: np.ndarray, explore: bool) -> ActionChoice:
        """Choose ε-greedily while it explores, greedily otherwise."""
        if explore:
            self._normalizer.update(observation)
        line = self.exploration
        share = min(self._explored / line.decisions, 1.0)
        epsilon = line.start + (line.end - line.start) * share if explore else 0.0
        q_values = self._q_values(observation, averaged=self.averaged and not explore)
        action = int(np.argmax(q_values + self.action_bonus()))
        if explore:
            self._explored += 1
            coin, draw = self._next_stream().random(2)
            if coin < epsilon:
                action = int(draw * len(q_values))
        return ActionChoice(action, q_values, epsilon)

    def action_scores(self, observations: np.ndarray) -> np.ndarray:
        """Return the scores that the greedy policy maximises, `[N, A]` for states `[N, F]`.

        Args:
          observations: states, float32 `[N, F]`, not normalised.
        """
        return self._q_values(observations, averaged=self.averaged) + self.action_bonus()

    def action_bonus(self) -> np.ndarray:
        """Return what is added to each action's value: the margin of the default one, `[A]`."""
        assert self._sizes is not None
        bonus = np.zeros(self._sizes[1], np.float32)
        if self.default_action is not None:
            bonus[self.default_action] = self.margin
        return bonus

    def _q_values(self, observations: np.ndarray, averaged: bool) -> np.ndarray:
        """Return the network's values, float32 `[..., A]`; the target network's if `averaged`."""
        parameters = self._network_arrays()
        group = "target" if averaged else "network"
        hidden = self._normalizer(np.asarray(observations, np.float32))
        last = len(self.hidden)
        for place in range(last + 1):
            kernel, bias = (parameters[f"{group}/{2 * place + part}"] for part in (0, 1))
            hidden = hidden @ kernel + bias
            if place < last:
                hidden = np.maximum(hidden, 0.0)
        return hidden

    def _network_arrays(self) -> dict[str, np.ndarray]:
        if self._parameters is None:
            self._parameters = self.learner.network_arrays()
        return self._parameters

    def _next_stream(self) -> np.random.Generator:
        self._draws += 1
        return random_stream(self.seed, self._draws)

    # Learning.

    def learn(self, observation: np.ndarray, action: int, reward: float, discount: float) -> float:
        """Write the transition to the replay buffer and make `learning.updates` updates."""
        learner = self.learner
        learner.add(observation, action, reward, discount)
        if learner.num_samples < self.learning.warm_up:
            return math.nan
        loss = learner.update(self._draws + 1, self._normalizer)
        self._draws += self.learning.updates
        self._parameters = None
        return loss

    def fit_values(
        self,
        states: np.ndarray,
        values: np.ndarray,
        updates: int,
        seed: int,
        batch_size: int = 512,
    ) -> float:
        """Fit both networks to values that are known, and the normalisation to the states.

        The error is squared; Adam's rate falls from 1e-3 along a cosine.

        Args:
          states: float32 `[N, F]`.
          values: of every action there, float32 `[N, A]`.
          updates: the number of updates, at least 1.
          seed: seed of the batches.
          batch_size: states in a batch. Defaults to 512.

        Returns:
          The mean error of the last tenth of the updates.
        """
        self._normalizer.fit(states)
        standard = self._normalizer(states)
        error = self.learner.fit_values(standard, values, updates, seed, batch_size=batch_size)
        self._parameters = None
        return error

    def abandon(self, num_transitions: int) -> None:
        """Take the transitions of an episode without an end out of the replay buffer."""
        if num_transitions and self._learner is not None:
            self._learner.abandon(num_transitions)

    # Saving.

    def parameters(self) -> dict[str, np.ndarray]:
        """Return what the greedy policy needs: parameters and normalisation, without memory."""
        network = {name: array.copy() for name, array in self._network_arrays().items()}
        return network | self._normalizer_arrays()

    def _normalizer_arrays(self) -> dict[str, np.ndarray]:
        return {f"normaliser/{name}": array for name, array in self._normalizer.arrays().items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return parameters, target, optimizer, normalisation, replay buffer and counters."""
        return self.learner.arrays() | self._normalizer_arrays() | self._counters()

    def _counters(self) -> dict[str, np.ndarray]:
        counters = [self._draws, self._explored]
        return {f"counters/{n}": np.array(count, np.int64) for n, count in enumerate(counters)}

    def arrays_to_act(self, stream: int) -> dict[str, np.ndarray]:
        """Return what `restore` of another process needs to act as this agent would: no memory.

        Args:
          stream: the number of its stream for exploration; each episode has its own, from 1.
        """
        draws = {"counters/0": np.array(stream << 32, np.int64)}
        memory = self.learner.arrays(with_memory=False)
        return memory | self._normalizer_arrays() | self._counters() | draws

    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        assert self._sizes is not None
        num_features, num_actions = self._sizes
        shapes: dict[str, tuple[int, ...]] = {
            "normaliser/count": (),
            "normaliser/mean": (num_features,),
            "normaliser/squares": (num_features,),
        }
        layers = itertools.pairwise([num_features, *self.hidden, num_actions])
        for place, (inputs, outputs) in enumerate(layers):
            for group in ("network", "target"):
                shapes[f"{group}/{2 * place}"] = (inputs, outputs)
                shapes[f"{group}/{2 * place + 1}"] = (outputs,)
        return shapes

    def _take_parameters(self, arrays: dict[str, np.ndarray]) -> None:
        network = (n for n in self._parameter_shapes() if not n.startswith("normaliser/"))
        self._parameters = {name: np.array(arrays[name], np.float32) for name in network}
        prefix = "normaliser/"
        named = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        self._normalizer.restore(named)

    def adopt(self, parameters: dict[str, np.ndarray]) -> None:
        """Take over what `parameters` of an agent with networks of the same sizes gave.

        Raises:
          ValueError: an array is missing or has another shape.
        """
        check_shapes(self._parameter_shapes(), parameters)
        self._take_parameters(parameters)
        if self._learner is not None:
            self._learner.adopt(parameters)

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `arrays` gave; replay buffer and optimizer when it learns again.

        Raises:
          ValueError: an array is missing or has another shape.
        """
        counters = {f"counters/{number}": () for number in range(3)}
        check_shapes(self._parameter_shapes() | counters, arrays)
        assert self._sizes is not None
        memory = {
            n.removeprefix("replay/"): a for n, a in arrays.items() if n.startswith("replay/")
        }
        check_memory(memory, self._sizes[0], self.replay_capacity)
        check_optimizer(arrays, self._parameter_shapes())
        self._take_parameters(arrays)
        self._draws, self._explored = int(arrays["counters/0"]), int(arrays["counters/1"])
        if self._learner is None:
            self._restored = {name: np.array(array) for name, array in arrays.items()}
        else:
            self._learner.restore(arrays)
