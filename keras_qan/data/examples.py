"""Examples in memory, and their batches."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_qan.data.order import epoch_order
from keras_qan.utils.validation import check_integer, check_number

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and their classes.

    Args:
        x: inputs, float32 [N, ...].
        y: classes, int64 [N].

    Raises:
        ValueError: if x and y differ in length.

    Example:
        >>> examples = Examples(np.zeros((6, 8, 8, 1), np.float32), np.arange(6))
        >>> len(examples), len(examples.batches(4, seed=0))
        (6, 2)
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(
                f"Received {len(self.x)} inputs and {len(self.y)} classes; expected as many of "
                "one as of the other. Pass x and y of the same examples."
            )

    def __len__(self) -> int:
        return len(self.y)

    def with_wrong_labels(self, share: float, *, num_classes: int, seed: int = 0) -> "Examples":
        """Return the same inputs with symmetric label noise.

        Each example is mislabelled with probability `share`, as one of the other classes, all of
        them equally probable.

        Args:
            share: in [0, 1).
            num_classes: C, at least 2.
            seed: seed of the draws, at least 0. Defaults to 0.

        Raises:
            ValueError: if the share or the number of classes is out of range.

        Example:
            >>> examples = Examples(np.zeros((1000, 2), np.float32), np.zeros(1000, np.int64))
            >>> wrong = examples.with_wrong_labels(0.2, num_classes=10)
            >>> bool(0.15 < np.mean(wrong.y != 0) < 0.25)
            True
        """
        check_number("share", share, 0, below=1)
        check_integer("num_classes", num_classes, 2, hint="There has to be another class.")
        generator = np.random.default_rng([seed, 0x1ABE1])
        is_wrong = generator.random(len(self)) < share
        others = (self.y + generator.integers(1, num_classes, len(self))) % num_classes
        return Examples(self.x, np.where(is_wrong, others, self.y))

    def batches(
        self, batch_size: int, *, seed: int | None = None, drop_remainder: bool = False
    ) -> "tf.data.Dataset":
        """Return the examples in batches (x [B, ...] float32, y [B] int64).

        With a seed all examples are shuffled in every epoch: the dataset counts its iterations,
        and the order is a function of seed and count alone, not of TensorFlow's global seed. Each
        call starts a new count at 0. (Keras looks at one batch before the first epoch of a freshly
        compiled model, which counts as an iteration.)

        Args:
            batch_size: B, examples in a batch, at least 1.
            seed: at least 0. Defaults to None, the order of the arrays.
            drop_remainder: whether to leave out a last, smaller batch. Defaults to False.

        Returns:
            A dataset of known length that can be iterated over any number of times.

        Raises:
            ValueError: if batch_size or seed is out of range, or if no batch would be left.

        Example:
            >>> examples = Examples(np.zeros((5, 2), np.float32), np.arange(5))
            >>> [y.numpy().tolist() for x, y in examples.batches(2)]
            [[0, 1], [2, 3], [4]]
        """
        import tensorflow as tf

        hint = "Choose the number of examples of one step, for example 32."
        batch_size = check_integer("batch_size", batch_size, 1, hint=hint)
        num_batches = self._num_batches(batch_size, drop_remainder)
        if seed is not None:
            check_integer("seed", seed, 0, hint="None is the order of the arrays.")
        num_examples = len(self)
        inputs, classes = self._tensors
        epochs = itertools.count()

        def next_order() -> npt.NDArray[np.int64]:
            if seed is None:
                return np.arange(num_examples, dtype=np.int64)
            return epoch_order(num_examples, seed=seed, epoch=next(epochs))

        def epoch(_: "tf.Tensor") -> "tf.data.Dataset":
            # Drawn in Python, once an epoch: a seed given to tf.data would be mixed with the
            # global one, and a counter variable could not live under a distribution strategy.
            order = tf.ensure_shape(tf.numpy_function(next_order, [], tf.int64), [num_examples])

            def batch(index: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
                first = index * batch_size
                if drop_remainder:
                    chosen = tf.ensure_shape(order[first : first + batch_size], [batch_size])
                else:
                    chosen = order[first : first + batch_size]
                return tf.gather(inputs, chosen), tf.gather(classes, chosen)

            return tf.data.Dataset.range(num_batches).map(batch)

        dataset = tf.data.Dataset.range(1).flat_map(epoch)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
        return dataset.prefetch(tf.data.AUTOTUNE)

    def _num_batches(self, batch_size: int, drop_remainder: bool) -> int:
        num_batches = len(self) // batch_size if drop_remainder else -(-len(self) // batch_size)
        if num_batches == 0:
            raise ValueError(
                f"batch_size is {batch_size} with drop_remainder={drop_remainder} and {len(self)} "
                "examples; expected at least one batch. Choose a smaller batch_size."
            )
        return num_batches

    @cached_property
    def _tensors(self) -> tuple["tf.Tensor", "tf.Tensor"]:
        """The arrays on the CPU, once for all datasets made from them."""
        import tensorflow as tf

        with tf.device("CPU:0"):
            return tf.constant(self.x), tf.constant(self.y)
