"""The deep Q-network: TF-Agents' DQN behind this package's protocol."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_qan.agents.base import ActionChoice
from keras_qan.agents.normalizer import Normalizer
from keras_qan.agents.replay_buffer import ReplayBuffer, Transitions
from keras_qan.agents.tf_agents import import_tf_agents
from keras_qan.storage.serialization import configurable


@configurable
class Exploration:
    """How often a learning agent acts at random: ε falls along a line and stays.

    Args:
      start: ε at the first decision, in [0, 1].
      end: ε after `decisions` decisions, in [0, 1].
      decisions: the length of the line, at least 1.
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
    """How a DQN learns from its replay memory.

    Args:
      rate: Adam's learning rate, above 0.
      batch_size: transitions in an update.
      updates: updates after each decision.
      n_step: steps in a transition; as long as an episode makes it a Monte Carlo return, which was
        steadier than bootstrapped one-step values.
      gamma: the discount factor, in [0, 1].
      target_tau: the share by which the target network follows at each update, in (0, 1].
      warm_up: transitions to gather before the first update.
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
class DQN:
    """A deep Q-network over the actions (Mnih et al. 2015; double by default, van Hasselt 2016).

    The target of a transition over n steps is
    y = Σ_{k<n} γᵏ r_{t+k} + γⁿ Q'(s_{t+n}, argmax_a Q(s_{t+n}, a)), without the last term where the
    episode ended; Q' is the target network, and Q takes its place in the choice of a only when
    `double` is set. The error is Huber's.

    Args:
      hidden: units of the hidden layers (ReLU).
      exploration: ε over the decisions made while learning.
      learning: how it learns.
      replay_capacity: transitions kept; above `learning.n_step`.
      double: whether the online network chooses the target's action.
      averaged: whether the greedy policy is that of the target network, which is a running average
        of the parameters (Polyak & Juditsky 1992): the greedy policy of the online network swings
        from episode to episode.
      seed: initial parameters, exploration and sampling all follow from it.
      default_action: an action that is taken unless another one is worth more by `margin`.
      margin: see `default_action`; at least 0. Values of single decisions are learned with noise,
        and an agent that follows the noise undoes at one decision what it did at the last.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (64, 64),
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
        if replay_capacity <= self.learning.n_step:
            raise ValueError(
                f"DQN got replay_capacity={replay_capacity} with transitions of "
                f"{self.learning.n_step} steps; expected a capacity above that."
            )
        self.replay_capacity, self.seed = int(replay_capacity), int(seed)
        self.double, self.averaged = bool(double), bool(averaged)
        self._sizes: tuple[int, int] | None = None

    def build(self, num_features: int, num_actions: int) -> None:
        """Makes the networks, the optimizer and the replay memory.

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
        # On the CPU wherever the student is: a network this small is slower on an accelerator.
        with tf.device("/cpu:0"):
            self._build(num_features, num_actions)
        self._sizes = (num_features, num_actions)

    def _build(self, num_features: int, num_actions: int) -> None:
        parts = import_tf_agents()
        learning = self.learning
        self._num_actions = num_actions
        self._normaliser = Normalizer(num_features)
        self._replay = ReplayBuffer(
            num_features, self.replay_capacity, learning.n_step, learning.gamma
        )
        self._draws = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._explored = tf.Variable(0, dtype=tf.int64, trainable=False)
        state_spec = parts.tensor_spec.TensorSpec([num_features], tf.float32, "state")
        self._network = self._make_network(num_actions)
        target_network = self._network.copy(name="TargetQNetwork")

        def make_variables() -> None:
            self._network.create_variables(state_spec)
            target_network.create_variables(state_spec)

        # They are made by a call with random input. Traced, it takes no number from the stream of
        # `tf.random`, which belongs to the user.
        tf.function(make_variables, autograph=False).get_concrete_function()
        action_spec = parts.tensor_spec.BoundedTensorSpec(
            [], tf.int64, 0, num_actions - 1, "action"
        )
        self._optimizer = parts.tf_keras.optimizers.Adam(learning.rate, jit_compile=False)
        agent_class = parts.dqn_agent.DdqnAgent if self.double else parts.dqn_agent.DqnAgent
        self._agent = agent_class(
            parts.time_step.time_step_spec(state_spec),
            action_spec,
            q_network=self._network,
            target_q_network=target_network,
            optimizer=self._optimizer,
            epsilon_greedy=0.0,  # exploration is drawn by `act`, from this agent's own stream
            n_step_update=learning.n_step,
            target_update_tau=learning.target_tau,
            target_update_period=1,
            td_errors_loss_fn=_huber,
            gamma=learning.gamma,
            train_step_counter=tf.Variable(0, dtype=tf.int64, trainable=False),
        )
        self._agent.initialize()
        self._optimizer.build(self._network.trainable_weights)
        # Without autograph, which traces TF-Agents several times slower and warns of its syntax.
        self._update = tf.function(functools.partial(self._update_once), autograph=False)

    def _make_network(self, num_actions: int) -> Any:
        parts = import_tf_agents()
        keras2 = parts.tf_keras
        hidden = [
            keras2.layers.Dense(
                units,
                activation="relu",
                kernel_initializer=keras2.initializers.HeNormal(seed=self.seed + number),
            )
            for number, units in enumerate(self.hidden)
        ]
        values = keras2.layers.Dense(
            num_actions,
            # Nearly equal values at first, so that no action starts out as the favourite.
            kernel_initializer=keras2.initializers.RandomUniform(
                -0.003, 0.003, seed=self.seed + len(hidden)
            ),
        )
        return parts.sequential.Sequential([*hidden, values])

    def _next_seed(self) -> tf.Tensor:
        return tf.stack([tf.constant(self.seed, tf.int64), self._draws.assign_add(1)])

    def act(self, observation: tf.Tensor, explore: tf.Tensor) -> ActionChoice:
        """ε-greedy while it explores, greedy otherwise."""
        if_exploring = tf.cast(explore, tf.float32)
        self._normaliser.update(observation, if_exploring)
        line = self.exploration
        share = tf.minimum(tf.cast(self._explored, tf.float32) / line.decisions, 1.0)
        epsilon = if_exploring * (line.start + (line.end - line.start) * share)
        state = self._normaliser(observation)[tf.newaxis]  # [1, F]
        frozen = self._agent._target_q_network if self.averaged else self._network
        q_values = tf.cond(explore, lambda: self._network(state)[0], lambda: frozen(state)[0])[0]
        seed = tf.cond(explore, self._next_seed, lambda: tf.zeros([2], tf.int64))
        self._explored.assign_add(tf.cast(explore, tf.int64))
        coin, draw = tf.unstack(tf.random.stateless_uniform([2], seed))
        at_random = tf.cast(draw * self._num_actions, tf.int64)
        action = tf.where(coin < epsilon, at_random, tf.argmax(self._preferences(q_values)))
        return ActionChoice(action, q_values, epsilon)

    def learn(
        self, observation: tf.Tensor, action: tf.Tensor, reward: tf.Tensor, discount: tf.Tensor
    ) -> tf.Tensor:
        """Writes the transition to the replay memory and makes `learning.updates` updates."""
        self._replay.add(observation, action, reward, discount)

        def update() -> tf.Tensor:
            losses = [self._update() for _ in range(self.learning.updates)]
            return tf.reduce_mean(tf.stack(losses))

        ready = self._replay.num_samples() >= self.learning.warm_up
        return tf.cond(ready, update, lambda: tf.constant(np.nan, tf.float32))

    def preferences(self, observations: tf.Tensor) -> tf.Tensor:
        """What the greedy policy takes the highest of, float32 `[N, A]` for states `[N, F]`."""
        frozen = self._agent._target_q_network if self.averaged else self._network
        return self._preferences(frozen(self._normaliser(observations))[0])

    def _preferences(self, q_values: tf.Tensor) -> tf.Tensor:
        return q_values + self.handicaps()

    def handicaps(self) -> tf.Tensor:
        """What each action is ahead of its value: the margin for the default one, `[A]`."""
        if self.default_action is None:
            return tf.zeros([self._num_actions])
        return self.margin * tf.one_hot(self.default_action, self._num_actions)

    def fit_values(
        self,
        states: np.ndarray,
        values: np.ndarray,
        updates: int,
        seed: int,
        batch_size: int = 512,
    ) -> float:
        """Fits both networks to values that are known, and the normalisation to the states.

        The error is squared; Adam's rate falls from 1e-3 along a cosine.

        Args:
          states: float32 `[N, F]`.
          values: of every action there, float32 `[N, A]`.
          updates: how many, at least 1.
          seed: which states each of them sees.
          batch_size: states in one.

        Returns:
          The mean error of the last tenth of the updates.
        """
        parts = import_tf_agents()
        self._normaliser.fit(states)
        x, y = self._normaliser(tf.constant(states, tf.float32)), tf.constant(values, tf.float32)
        optimizers = parts.tf_keras.optimizers
        falling = optimizers.schedules.CosineDecay(1e-3, updates)
        optimizer = optimizers.Adam(falling, jit_compile=False)
        weights = self._network.trainable_weights
        optimizer.build(weights)

        @tf.function(autograph=False)
        def update(number: tf.Tensor) -> tf.Tensor:
            rows = tf.random.stateless_uniform(
                [batch_size], [seed, number], 0, len(states), tf.int32
            )
            with tf.GradientTape() as tape:
                found = self._network(tf.gather(x, rows))[0]
                loss = tf.reduce_mean(tf.square(found - tf.gather(y, rows)))
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return loss

        losses = [update(number) for number in tf.range(updates)]
        target = self._agent._target_q_network.variables
        for theirs, ours in zip(target, self._network.variables, strict=True):
            theirs.assign(ours)
        return float(tf.reduce_mean(losses[-max(updates // 10, 1) :]))

    def _update_once(self) -> tf.Tensor:
        batch = self._replay.sample(self.learning.batch_size, self._next_seed())
        return self._agent.train(self._experience(batch)).loss

    def _experience(self, batch: Transitions) -> Any:
        """The transitions in TF-Agents' words, normalised as they are when acting."""
        parts = import_tf_agents()
        zeros = tf.zeros_like(batch.reward)
        return parts.trajectory.Transition(
            time_step=parts.time_step.TimeStep(
                step_type=tf.fill(tf.shape(zeros), parts.time_step.StepType.MID),
                reward=zeros,
                discount=tf.ones_like(zeros),
                observation=self._normaliser(batch.observation),
            ),
            action_step=parts.policy_step.PolicyStep(action=batch.action, state=(), info=()),
            next_time_step=parts.time_step.TimeStep(
                step_type=tf.fill(tf.shape(zeros), parts.time_step.StepType.MID),
                reward=batch.reward,
                discount=batch.discount,
                observation=self._normaliser(batch.next_observation),
            ),
        )

    def abandon(self, num_transitions: int) -> None:
        """Takes the transitions of an episode without an end out of the replay memory."""
        if num_transitions:
            self._replay.rewind(num_transitions)

    def _variables(self) -> dict[str, tf.Variable]:
        named = {f"normaliser/{name}": v for name, v in self._normaliser.variables.items()}
        groups = {
            "network": self._network.variables,
            "target": self._agent._target_q_network.variables,
            "optimizer": self._optimizer.variables,
            "counters": [self._draws, self._explored, self._agent.train_step_counter],
        }
        for group, variables in groups.items():
            named |= {f"{group}/{number}": v for number, v in enumerate(variables)}
        return named

    def arrays(self) -> dict[str, np.ndarray]:
        """Parameters, target, optimizer, normalisation, replay memory, counters and streams."""
        kept = {name: variable.numpy() for name, variable in self._variables().items()}
        return kept | {f"replay/{name}": rows for name, rows in self._replay.arrays().items()}

    def parameters(self) -> dict[str, np.ndarray]:
        """What the greedy policy needs: parameters and normalisation, without memory."""
        groups = ("network/", "target/", "normaliser/")
        return {n: v.numpy() for n, v in self._variables().items() if n.startswith(groups)}

    def arrays_to_act(self, stream: int) -> dict[str, np.ndarray]:
        """What `restore` of another process needs so that it acts as this agent would: no memory.

        Args:
          stream: which numbers it explores by; each episode has its own, from 1.
        """
        memory = {f"replay/{name}": rows for name, rows in self._replay.no_arrays().items()}
        draws = {"counters/0": np.int64(stream << 32)}
        return {n: v.numpy() for n, v in self._variables().items()} | draws | memory

    def adopt(self, parameters: dict[str, np.ndarray]) -> None:
        """Takes over what `parameters` of an agent with networks of the same sizes gave.

        Raises:
          ValueError: an array is missing or has another shape.
        """
        mine = {name: self._variables()[name] for name in self.parameters()}
        _check_shapes(mine, parameters)
        for name, variable in mine.items():
            variable.assign(parameters[name])

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave.

        Raises:
          ValueError: an array is missing or has another shape.
        """
        _check_shapes(self._variables(), arrays)
        prefix = "replay/"
        memory = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        # The memory checks its arrays itself, before it takes any over.
        self._replay.restore(memory)
        for name, variable in self._variables().items():
            variable.assign(arrays[name])


def _check_shapes(expected: dict[str, tf.Variable], arrays: dict[str, np.ndarray]) -> None:
    for name, variable in expected.items():
        if name not in arrays or arrays[name].shape != tuple(variable.shape):
            received = arrays[name].shape if name in arrays else "nothing"
            raise ValueError(
                f"The saved agent holds {received} for {name!r}; expected an array of shape "
                f"{tuple(variable.shape)}. It was saved with other settings of DQN."
            )


def _huber(targets: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
    """Huber's loss with a threshold of 1, element by element."""
    error = tf.abs(targets - predictions)
    return tf.where(error <= 1.0, 0.5 * tf.square(error), error - 0.5)
