"""The replay memory: TF-Agents' uniform buffer, with seeded n-step sampling."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_qan.agents.saved_arrays import check_memory
from keras_qan.agents.tf_agents import import_tf_agents


class Transitions(NamedTuple):
    """B transitions over n steps.

    Attributes:
      observation: float32 `[B, F]`.
      action: int64 `[B]`.
      reward: Σ_{k<n} γᵏ r_{t+k} up to the episode's end, float32 `[B]`.
      discount: γⁿ⁻¹ where the episode goes on after n steps, else 0, float32 `[B]`.
      next_observation: the state n steps later, float32 `[B, F]`.
    """

    observation: tf.Tensor
    action: tf.Tensor
    reward: tf.Tensor
    discount: tf.Tensor
    next_observation: tf.Tensor


class ReplayBuffer:
    """A ring of the last transitions of all episodes, one after the other.

    Args:
      num_features: F.
      capacity: the number of transitions kept; its memory is about 4 · (F + 6) · capacity bytes.
      n_step: the number of steps n in a sampled transition.
      gamma: the discount factor γ within those steps.
    """

    def __init__(self, num_features: int, capacity: int, n_step: int, gamma: float) -> None:
        parts = import_tf_agents()
        spec = {
            "observation": tf.TensorSpec([num_features], tf.float32),
            "action": tf.TensorSpec([], tf.int64),
            "reward": tf.TensorSpec([], tf.float32),
            "discount": tf.TensorSpec([], tf.float32),
        }
        tables: list[Any] = []

        def table(table_spec: Any, num_rows: Any) -> Any:
            tables.append(parts.table.Table(table_spec, num_rows))
            return tables[-1]

        self._buffer = parts.tf_uniform_replay_buffer.TFUniformReplayBuffer(
            spec, batch_size=1, max_length=capacity, device="/cpu:0", table_fn=table
        )
        self._rows = tables[0]
        self.capacity, self._n_step, self._gamma = capacity, n_step, gamma
        self._written = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._ended = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._oldest = tf.Variable(0, dtype=tf.int64, trainable=False)

    def add(
        self, observation: tf.Tensor, action: tf.Tensor, reward: tf.Tensor, discount: tf.Tensor
    ) -> None:
        """Append one transition; shapes `[F]` and `[]`."""
        frame = {
            "observation": observation[tf.newaxis],
            "action": action[tf.newaxis],
            "reward": reward[tf.newaxis],
            "discount": discount[tf.newaxis],
        }
        self._buffer.add_batch(frame)
        written = self._written.assign_add(1)
        # The frames up to an episode's end need no frame after them.
        self._ended.assign(tf.where(discount > 0.0, self._ended, written))
        self._oldest.assign(tf.maximum(self._oldest, written - self.capacity))

    def _starts(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the first frame that a transition can start at, and the one after the last."""
        return self._oldest, tf.maximum(self._written - self._n_step, self._ended)

    def num_samples(self) -> tf.Tensor:
        """Return the number of transitions that can be sampled, int64 `[]`."""
        first, last = self._starts()
        return tf.maximum(last - first, 0)

    def sample(self, batch_size: int, seed: tf.Tensor) -> Transitions:
        """Draw transitions uniformly with replacement.

        Args:
          batch_size: B.
          seed: int64 `[2]`; the same seed and the same contents give the same draw.
        """
        first, last = self._starts()
        start = tf.random.stateless_uniform([batch_size], seed, first, last, tf.int64)  # [B]
        rows = tf.math.floormod(
            start[:, tf.newaxis] + tf.range(self._n_step + 1, dtype=tf.int64), self.capacity
        )  # [B, n+1]
        both_ends = tf.stack([rows[:, 0], rows[:, -1]], axis=1)
        ends = self._rows.read(both_ends, slots=self._rows.slots["observation"])  # [B, 2, F]
        slots = {name: self._rows.slots[name] for name in ("discount", "reward")}
        within = self._rows.read(rows[:, :-1], slots=slots)
        goes_on = tf.math.cumprod(within["discount"], axis=1)  # [B, n]
        before = tf.concat([tf.ones([batch_size, 1]), goes_on[:, :-1]], axis=1)
        powers = tf.constant(self._gamma ** np.arange(self._n_step), tf.float32)
        return Transitions(
            observation=ends[:, 0],
            action=self._rows.read(rows[:, 0], slots=self._rows.slots["action"]),
            reward=tf.reduce_sum(powers * before * within["reward"], axis=1),
            discount=powers[-1] * goes_on[:, -1],
            next_observation=ends[:, 1],
        )

    def rewind(self, num_transitions: int) -> None:
        """Remove the last transitions; those that they had overwritten stay lost."""
        last_id = self._buffer.variables()[-1]
        last_id.assign_sub(num_transitions)
        written = self._written.assign_sub(num_transitions)
        # An episode longer than the buffer has overwritten everything older.
        self._oldest.assign(tf.minimum(self._oldest, written))

    def _columns(self) -> dict[str, tf.Variable]:
        # The tables' variables come in the order of their sorted names.
        return dict(zip(sorted(self._rows.slots), self._rows.variables(), strict=True))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the rows in use and the counters."""
        written, oldest = int(self._written.numpy()), int(self._oldest.numpy())
        in_use = self.capacity if oldest > 0 else written
        kept = {name: column.numpy()[:in_use] for name, column in self._columns().items()}
        return kept | {
            "written": np.int64(written),
            "ended": self._ended.numpy(),
            "oldest": np.int64(oldest),
        }

    def no_arrays(self) -> dict[str, np.ndarray]:
        """Return what `arrays` of an empty buffer gives."""
        columns = {n: c.shape[1:] for n, c in self._columns().items()}
        types = {n: c.dtype.as_numpy_dtype for n, c in self._columns().items()}
        rows = {name: np.zeros((0, *columns[name]), types[name]) for name in columns}
        return rows | {name: np.zeros((), np.int64) for name in ("written", "ended", "oldest")}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `arrays` gave.

        Raises:
          ValueError: an array is missing, or does not fit this memory's capacity or state size.
        """
        columns = self._columns()
        counters = {"written": self._written, "ended": self._ended, "oldest": self._oldest}
        check_memory(arrays, int(columns["observation"].shape[1]), self.capacity)
        for name, column in columns.items():
            value = np.zeros(column.shape, column.dtype.as_numpy_dtype)
            value[: len(arrays[name])] = arrays[name]
            column.assign(value)
        for name, counter in counters.items():
            counter.assign(arrays[name])
        self._buffer.variables()[-1].assign(arrays["written"] - 1)
