"""The part of a `DQN` that learns: TF-Agents' agent, its optimizer and the replay buffer.

It is compiled once for an agent, whatever models come and go.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from keras_qan.agents.normalizer import Normalizer
from keras_qan.agents.replay_buffer import ReplayBuffer, Transitions
from keras_qan.agents.tf_agents import import_tf_agents


class _Learning(Protocol):
    """The updates; see `Learning`."""

    rate: float
    batch_size: int
    updates: int
    n_step: int
    gamma: float
    target_tau: float


class _Settings(Protocol):
    """The settings of an agent that the part that learns follows; see `DQN`."""

    hidden: tuple[int, ...]
    replay_capacity: int
    double: bool
    seed: int

    @property
    def learning(self) -> _Learning: ...


class DQNLearner:
    """Networks, target networks, Adam and replay buffer of one agent.

    Args:
      settings: the agent whose settings it follows.
      num_features: F.
      num_actions: A.

    Raises:
      ImportError: TF-Agents is not installed.
    """

    def __init__(self, settings: _Settings, num_features: int, num_actions: int) -> None:
        self._settings = settings
        # On the CPU wherever the model is: a network this small is slower on an accelerator.
        with tf.device("/cpu:0"):
            self._build(num_features, num_actions)

    def _build(self, num_features: int, num_actions: int) -> None:
        parts = import_tf_agents()
        settings, learning = self._settings, self._settings.learning
        self._replay = ReplayBuffer(
            num_features, settings.replay_capacity, learning.n_step, learning.gamma
        )
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
        agent_class = parts.dqn_agent.DdqnAgent if settings.double else parts.dqn_agent.DqnAgent
        self._agent = agent_class(
            parts.time_step.time_step_spec(state_spec),
            action_spec,
            q_network=self._network,
            target_q_network=target_network,
            optimizer=self._optimizer,
            epsilon_greedy=0.0,  # exploration is drawn by `DQN.act`, from the agent's own stream
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
        compiled = functools.partial(tf.function, autograph=False)
        self._add = compiled(self._replay.add)
        self._update = compiled(self._update_graph)

    def _make_network(self, num_actions: int) -> Any:
        parts = import_tf_agents()
        keras2, settings = parts.tf_keras, self._settings
        hidden = [
            keras2.layers.Dense(
                units,
                activation="relu",
                kernel_initializer=keras2.initializers.HeNormal(seed=settings.seed + number),
            )
            for number, units in enumerate(settings.hidden)
        ]
        values = keras2.layers.Dense(
            num_actions,
            # Nearly equal values at first, so that no action starts out as the favourite.
            kernel_initializer=keras2.initializers.RandomUniform(
                -0.003, 0.003, seed=settings.seed + len(hidden)
            ),
        )
        return parts.sequential.Sequential([*hidden, values])

    def add(self, observation: np.ndarray, action: int, reward: float, discount: float) -> None:
        """Append one transition to the replay buffer."""
        self._add(
            tf.constant(observation, tf.float32),
            tf.constant(action, tf.int64),
            tf.constant(reward, tf.float32),
            tf.constant(discount, tf.float32),
        )

    @property
    def num_samples(self) -> int:
        """The number of transitions that can be sampled."""
        return int(self._replay.num_samples())

    def update(self, first_draw: int, normalizer: Normalizer) -> float:
        """Make `learning.updates` updates.

        Args:
          first_draw: the number of the first update's draw from the replay buffer.
          normalizer: the normalisation of states, the same as when acting.

        Returns:
          The mean loss.
        """
        mean, scale = (tf.constant(part) for part in (normalizer.mean, normalizer.scale))
        return float(self._update(tf.constant(first_draw, tf.int64), mean, scale))

    def _update_graph(self, first_draw: tf.Tensor, mean: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        losses = []
        for number in range(self._settings.learning.updates):
            seed = tf.stack([tf.constant(self._settings.seed, tf.int64), first_draw + number])
            batch = self._replay.sample(self._settings.learning.batch_size, seed)

            def standardise(states: tf.Tensor) -> tf.Tensor:
                return tf.clip_by_value((states - mean) / scale, -5.0, 5.0)

            losses.append(self._agent.train(_experience(batch, standardise)).loss)
        return tf.reduce_mean(tf.stack(losses))

    def fit_values(
        self, states: np.ndarray, values: np.ndarray, updates: int, seed: int, *, batch_size: int
    ) -> float:
        """Fit both networks to known values; see `DQN.fit_values`. The states are standardised."""
        optimizers = import_tf_agents().tf_keras.optimizers
        x, y = tf.constant(states, tf.float32), tf.constant(values, tf.float32)
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

    def abandon(self, num_transitions: int) -> None:
        """Take the last transitions out of the replay buffer."""
        self._replay.rewind(num_transitions)

    def _variables(self) -> dict[str, tf.Variable]:
        groups = {
            "network": self._network.variables,
            "target": self._agent._target_q_network.variables,
            "optimizer": self._optimizer.variables,
        }
        return {
            f"{group}/{number}": variable
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        } | {"counters/2": self._agent.train_step_counter}

    def network_arrays(self) -> dict[str, np.ndarray]:
        """Return the parameters of network and target network, by name."""
        named = self._variables().items()
        return {n: v.numpy() for n, v in named if n.startswith(("network/", "target/"))}

    def arrays(self, with_memory: bool = True) -> dict[str, np.ndarray]:
        """Return parameters, optimizer, its counter, and the replay buffer or an empty one."""
        memory = self._replay.arrays() if with_memory else self._replay.no_arrays()
        kept = {name: variable.numpy() for name, variable in self._variables().items()}
        return kept | {f"replay/{name}": rows for name, rows in memory.items()}

    def adopt(self, parameters: dict[str, np.ndarray]) -> None:
        """Assign the parameters of network and target network."""
        for name, variable in self._variables().items():
            if name.startswith(("network/", "target/")):
                variable.assign(parameters[name])

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Assign what `arrays` gave; the agent has checked its shapes."""
        prefix = "replay/"
        memory = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        self._replay.restore(memory)
        for name, variable in self._variables().items():
            variable.assign(arrays[name])


def _experience(batch: Transitions, standardise: Any) -> Any:
    """Return the transitions in TF-Agents' words, standardised as they are when acting."""
    parts = import_tf_agents()
    zeros = tf.zeros_like(batch.reward)
    return parts.trajectory.Transition(
        time_step=parts.time_step.TimeStep(
            step_type=tf.fill(tf.shape(zeros), parts.time_step.StepType.MID),
            reward=zeros,
            discount=tf.ones_like(zeros),
            observation=standardise(batch.observation),
        ),
        action_step=parts.policy_step.PolicyStep(action=batch.action, state=(), info=()),
        next_time_step=parts.time_step.TimeStep(
            step_type=tf.fill(tf.shape(zeros), parts.time_step.StepType.MID),
            reward=batch.reward,
            discount=batch.discount,
            observation=standardise(batch.next_observation),
        ),
    )


def _huber(targets: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
    """Return Huber's loss with a threshold of 1, element by element."""
    error = tf.abs(targets - predictions)
    return tf.where(error <= 1.0, 0.5 * tf.square(error), error - 0.5)
