"""Training data that can be replayed: batch t is the same batch at every call."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples of a step.

    Args:
      x: inputs, as the model takes them.
      y: targets.
      weight: sample weights `[B]`, or None.
      index: places of the examples in the data, int32 `[B]`.
    """

    x: Any
    y: Any
    weight: tf.Tensor | None
    index: tf.Tensor


class BatchRecording:
    """Examples in memory, in an order that follows from the step alone.

    Arrays are shuffled anew in each epoch, by a permutation that is computed and not stored; the
    batches of a `tf.data.Dataset` or a `keras.utils.PyDataset` are kept as they come and walked
    round. Either way memory does not depend on the number of steps.

    Args:
      data: `(x, y)` or `(x, y, sample_weight)` arrays, an object with `x` and `y`, a batched
        `tf.data.Dataset`, or a `keras.utils.PyDataset`.
      batch_size: size of the batches of arrays.
      seed: of the arrays' order; None for the order they are in.
      name: "train" or "validation", for messages.

    Raises:
      ValueError: there are no examples, targets are missing, or the order cannot be replayed.
    """

    def __init__(self, data: Any, batch_size: int, seed: int | None, name: str) -> None:
        self._name = name
        self._seed = seed
        if data is None:
            use = "hypergradients are those of the validation loss" if name != "train" else "needed"
            raise ValueError(
                f"Received {name}=None; expected {name} data ({use}). Give arrays (x, y) or a "
                "batched tf.data.Dataset."
            )
        if isinstance(data, tf.data.Dataset | keras.utils.PyDataset):
            parts, sizes = _collected(data, name)
        else:
            parts, sizes = self._arrays(data), []
        self._parts = tf.nest.map_structure(_tensor, parts)
        lengths = {int(part.shape[0]) for part in tf.nest.flatten(self._parts)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                f"Received {name} data with {sorted(lengths)} examples; expected the same number, "
                "at least one, in every array."
            )
        self.num_examples = lengths.pop()
        if not sizes:
            batch_size = min(batch_size, self.num_examples)
            whole, rest = divmod(self.num_examples, batch_size)
            # With another order in each epoch every example has its turn.
            sizes = [batch_size] * whole + ([rest] if rest and seed is None else [])
            self._ordered = seed is None
        else:
            self._ordered = True
        self._uniform = sizes[0] if len(set(sizes)) == 1 else None
        self.num_batches = len(sizes)
        self._edges = tf.constant(np.concatenate([[0], np.cumsum(sizes)]), tf.int32)
        self._static = sizes[0]

    def _arrays(self, data: Any) -> tuple[Any, ...]:
        if not isinstance(data, tuple | list) and hasattr(data, "x") and hasattr(data, "y"):
            data = (data.x, data.y)
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            kind = type(data).__name__
            detail = "a generator can be walked once, but its order cannot be replayed"
            raise ValueError(
                f"Received {self._name}={kind}; expected arrays (x, y) or (x, y, sample_weight), a "
                f"batched tf.data.Dataset or a keras.utils.PyDataset ({detail})."
            )
        return tuple(data)

    def fingerprint(self) -> str:
        """Digest that a directory remembers the data by."""
        digest = hashlib.blake2b(digest_size=8)
        for part in tf.nest.flatten(self._parts):
            digest.update(_bytes(part.numpy()))
        digest.update(self._edges.numpy().tobytes())
        return digest.hexdigest()

    def batch(self, step: tf.Tensor) -> Batch:
        """Batch of a step.

        Args:
          step: number of the step, from 0; int `[]`.
        """
        step = tf.cast(step, tf.int32)
        place = step % self.num_batches
        if self._ordered:
            first, last = self._edges[place], self._edges[place + 1]
            index = tf.range(first, last)
            if self._uniform:
                index = tf.ensure_shape(index, (self._uniform,))
        else:
            epoch = step // self.num_batches
            slots = place * self._static + tf.range(self._static)
            seed = tf.stack([tf.constant((self._seed or 0) % 2**31, tf.int32), epoch])
            index = tf.random.experimental.index_shuffle(slots, seed, self.num_examples - 1)
        return self.examples(index)

    def examples(self, index: tf.Tensor) -> Batch:
        """Examples at these places, int32 `[B]`."""
        found = tf.nest.map_structure(lambda part: tf.gather(part, index), self._parts)
        return Batch(found[0], found[1], found[2] if len(found) == 3 else None, index)


def _tensor(part: Any) -> tf.Tensor:
    tensor = tf.convert_to_tensor(part)
    if tensor.shape.rank == 0:
        raise ValueError("Received a single number as data; expected arrays with an example a row.")
    return tensor


def _collected(data: Any, name: str) -> tuple[Any, list[int]]:
    """All batches joined, and their sizes; walked twice to see that the order is the same."""
    if (
        isinstance(data, tf.data.Dataset)
        and int(data.cardinality()) == tf.data.INFINITE_CARDINALITY
    ):
        raise ValueError(
            f"Received {name} data without end; expected one pass over the examples. Leave out "
            ".repeat(): the training goes round by itself."
        )
    batches, digests = [], []
    for batch in _pass(data):
        batches.append(_complete(batch, name))
        digests.append(_digest(batch))
    if not batches:
        raise ValueError(f"Received empty {name} data; expected at least one batch.")
    again = [_digest(batch) for batch in _pass(data)]
    if again != digests:
        raise ValueError(
            f"Received {name} data whose order cannot be replayed: a second pass gave other "
            "batches than the first, and the reverse pass needs the same. Shuffle with "
            "shuffle(..., seed=..., reshuffle_each_iteration=False), leave random augmentation to "
            "the model's layers, or pass arrays (x, y), which are shuffled replayably."
        )
    sizes = [int(np.shape(tf.nest.flatten(batch)[0])[0]) for batch in batches]
    parts = tf.nest.map_structure(lambda *rows: np.concatenate(rows), *batches)
    return parts, sizes


def _pass(data: Any) -> Any:
    if isinstance(data, tf.data.Dataset):
        return data.as_numpy_iterator()
    return (data[number] for number in range(len(data)))


def _complete(batch: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(batch, tuple) or len(batch) not in (2, 3):
        kind = f"a tuple of {len(batch)}" if isinstance(batch, tuple) else type(batch).__name__
        raise ValueError(
            f"Received {name} batches that are {kind}; expected (x, y) or (x, y, sample_weight)."
        )
    if any(np.ndim(part) == 0 for part in tf.nest.flatten(batch)):
        raise ValueError(
            f"Received {name} data that is not batched; expected batches. Call .batch(32)."
        )
    return batch


def _bytes(part: Any) -> bytes:
    array = np.asarray(part)
    return repr(array.tolist()).encode() if array.dtype == object else array.tobytes()


def _digest(batch: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in tf.nest.flatten(batch):
        digest.update(_bytes(part))
    return digest.digest()
