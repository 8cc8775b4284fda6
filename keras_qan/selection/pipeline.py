"""From single examples to a `tf.data` pipeline of the batches that a selector chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_qan.selection.stream_state import EpochOrders, StreamState

#: Examples that are read at a time where they have to be gathered from a pipeline.
_BLOCK = 1024

#: Transformations of a pipeline after which a batch is still a batch.
_NEUTRAL = ("Map", "Prefetch", "Cache", "Options", "Shuffle", "Repeat", "Take", "Skip", "Assert")


class ExampleSource:
    """The examples of an unbatched dataset, in memory once and fetched by number.

    Tensors of `Dataset.from_tensor_slices` are used in place; any other pipeline is read once, in
    its own dtypes. Where that is too much, pass file names, and load after the selector.

    Args:
      dataset: single examples of any structure and equal shapes, N of them.

    Attributes:
      spec: the structure of one example.
      num_examples: N.

    Raises:
      TypeError: it is not a tf.data.Dataset, or holds sparse tensors.
      ValueError: it is batched, empty, infinite, of unknown length, or of changing shapes.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:
        _check_dataset(dataset)
        self.spec = dataset.element_spec
        self.num_examples = _known_length(dataset)
        found = _slices_of(dataset, self.num_examples)
        self._columns = _read_through(dataset, self.num_examples) if found is None else found

    def batch(self, indices: tf.Tensor) -> Any:
        """Fetch examples: the structure of one example, each `[B, ...]`.

        Args:
          indices: their numbers, int32 or int64 `[B]`, each from 0 to N - 1.
        """
        return tf.nest.pack_sequence_as(
            self.spec, [tf.gather(column, indices) for column in self._columns]
        )

    def columns(self) -> Any:
        """All examples: the structure of one, each `[N, ...]`."""
        return tf.nest.pack_sequence_as(
            self.spec, [tf.convert_to_tensor(column) for column in self._columns]
        )


def _check_dataset(dataset: Any) -> None:
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            f"The selector got {type(dataset).__name__}; expected a tf.data.Dataset of single "
            "examples. For arrays write tf.data.Dataset.from_tensor_slices((x, y))."
        )
    for spec in tf.nest.flatten(dataset.element_spec):
        if not isinstance(spec, tf.TensorSpec):
            raise TypeError(
                f"The selector got examples with a {type(spec).__name__}; expected dense tensors, "
                f"as examples are fetched by number. {_way_to_dense(spec)}"
            )
    if _is_batched(dataset):
        raise ValueError(
            f"The selector got a batched dataset (elements {dataset.element_spec}); expected "
            "single examples of one shape, because it makes the batches itself. Leave out "
            ".batch(), or add .unbatch(); where these are single examples whose lengths differ, "
            "pad them to one length first."
        )


def _way_to_dense(spec: Any) -> str:
    """Return what to do with examples that are no dense tensors."""
    if isinstance(spec, tf.RaggedTensorSpec):
        return "Pad them before the dataset is made: from_tensor_slices((x.to_tensor(), y))."
    if isinstance(spec, tf.data.DatasetSpec):
        return (
            "Make tensors of the windows: "
            ".flat_map(lambda window: window.batch(size, drop_remainder=True)) and "
            ".apply(tf.data.experimental.assert_cardinality(n))."
        )
    return "Convert them first: .map(lambda x, y: (tf.sparse.to_dense(x), y))."


def _is_batched(dataset: tf.data.Dataset) -> bool:
    shapes = [spec.shape for spec in tf.nest.flatten(dataset.element_spec)]
    if all(shape.rank and shape[0] is None for shape in shapes):
        return True
    # With a fixed batch size the shapes do not tell; how the dataset was made does.
    while dataset is not None:
        name = type(dataset).__name__
        if "Batch" in name and "Unbatch" not in name:
            return True
        inputs = dataset._inputs()
        is_neutral = len(inputs) == 1 and any(word in name for word in _NEUTRAL)
        dataset = inputs[0] if is_neutral and "FlatMap" not in name else None
    return False


def _known_length(dataset: tf.data.Dataset) -> int:
    length = int(dataset.cardinality())
    if length == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "The selector got an infinite dataset; expected one pass over the examples, because "
            "it repeats them itself. Leave out .repeat()."
        )
    if length == tf.data.UNKNOWN_CARDINALITY:
        raise ValueError(
            "The selector got a dataset of unknown length (after filter, flat_map or "
            "from_generator); expected a known one. Say how many examples there are: "
            "dataset.apply(tf.data.experimental.assert_cardinality(n))."
        )
    if length == 0:
        raise ValueError("The selector got an empty dataset; expected at least one example.")
    return length


def _slices_of(dataset: tf.data.Dataset, num_examples: int) -> list[Any] | None:
    """The tensors behind `from_tensor_slices`, or None for any other pipeline.

    TensorFlow has no public name for them; where they are not found, the examples are read.
    """
    if type(dataset).__name__ != "_TensorSliceDataset":
        return None
    columns = list(getattr(dataset, "_tensors", []))
    specs = tf.nest.flatten(dataset.element_spec)
    fits = len(columns) == len(specs) and all(
        column.dtype == spec.dtype and spec.shape.is_compatible_with(column.shape[1:])
        for column, spec in zip(columns, specs, strict=True)
    )
    return columns if fits and all(c.shape[0] == num_examples for c in columns) else None


def _read_through(dataset: tf.data.Dataset, num_examples: int) -> list[Any]:
    """Read the examples block by block into one variable each, so that they are there once."""
    columns: list[Any] = []
    filled = 0
    try:
        for block in dataset.batch(_BLOCK):
            parts = tf.nest.flatten(block)
            with tf.device("/cpu:0"):
                if not columns:
                    columns = [
                        tf.Variable(
                            tf.zeros([num_examples, *part.shape[1:]], part.dtype), trainable=False
                        )
                        for part in parts
                    ]
                size = int(parts[0].shape[0])
                for column, part in zip(columns, parts, strict=True):
                    column[filled : filled + size].assign(part)
            filled += size
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        raise ValueError(
            "The selector got examples that do not fit into one batch, as their shapes differ; "
            "expected equal shapes. Resize, crop or pad them before the selector. "
            f"TensorFlow says: {str(error).splitlines()[0]}"
        ) from error
    return columns


class BatchChoice(NamedTuple):
    """Contents of one batch.

    Attributes:
      indices: the examples' numbers, int32 `[B]`.
      weights: weights that make the batch's loss an unbiased estimate, float32 `[B]`.
      counters: the numbers carried along, after this batch, int64 `[S]`.
      orders: the orders of the epochs, after this batch.
    """

    indices: tf.Tensor
    weights: tf.Tensor
    counters: tf.Tensor
    orders: EpochOrders


#: From a batch's number, the counters before it `[S]` and the orders to its contents.
Chooser = Callable[[tf.Tensor, tf.Tensor, EpochOrders], BatchChoice]


class SelectedBatches(tf.data.Dataset):
    """Batches of a selector, which prefetches them itself.

    A `prefetch(tf.data.AUTOTUNE)` behind them, which Keras adds for `class_weight`, has no size
    that could be known, and is left out. Keras's class weights are multiplied with the selector's.

    Args:
      dataset: the batches.
      adds_weights: whether the selector added their sample weights. Defaults to False.
    """

    def __init__(self, dataset: tf.data.Dataset, adds_weights: bool = False) -> None:
        self._dataset, self._adds_weights = dataset, adds_weights
        super().__init__(dataset._variant_tensor)

    def _inputs(self) -> list[tf.data.Dataset]:
        return [self._dataset]

    @property
    def element_spec(self) -> Any:
        """The structure of a batch."""
        return self._dataset.element_spec

    def map(self, map_func: Callable[..., Any], *more: Any, **named: Any) -> SelectedBatches:
        """Map the batches, as `tf.data.Dataset.map`."""
        is_kerass = getattr(map_func, "__name__", "") == "class_weights_map_fn"
        if is_kerass and self._adds_weights:
            map_func = _beside_weights(map_func)
        return SelectedBatches(self._dataset.map(map_func, *more, **named))

    def prefetch(self, buffer_size: Any, name: str | None = None) -> tf.data.Dataset:
        """Prefetch batches, as `tf.data.Dataset.prefetch`, where a size is given."""
        if buffer_size is None or buffer_size == tf.data.AUTOTUNE:
            return self
        return self._dataset.prefetch(buffer_size, name)


def _beside_weights(class_weights: Callable[..., Any]) -> Callable[..., Any]:
    """Keras's function of (x, y) for batches that have the selector's weights already."""

    @_as_written
    def weighted(x: Any, y: Any, weights: tf.Tensor) -> Any:
        x, y, of_class = class_weights(x, y)
        return x, y, tf.cast(of_class, weights.dtype) * _of_rank(weights, of_class.shape.rank)

    return weighted


class Pipeline:
    """Endless batches, each chosen, recorded, fetched and handed out in turn.

    Args:
      choose: chooses the contents of a batch.
      source: the examples.
      stream: the state of the stream; an iterator begins where the training is.
      weighted: whether batches carry weights.
      watch: called with the number of each batch that is handed out. Defaults to none.
    """

    def __init__(
        self,
        choose: Chooser,
        source: ExampleSource,
        stream: StreamState,
        weighted: bool,
        watch: Callable[[tf.Tensor], None] | None = None,
    ) -> None:
        self._choose, self._source, self._stream = choose, source, stream
        self._weighted, self._watch = weighted, watch

    def dataset(self, prefetch: int, transform: Callable[..., Any] | None) -> tf.data.Dataset:
        """Make the dataset: batches, transformed, `prefetch` of them made ahead."""
        chosen = tf.data.Dataset.range(1).flat_map(_as_written(self._choices))
        batches = chosen.map(_as_written(self._fetch))
        if transform is not None:

            def transformed(marks: Any, batch: Any) -> Any:
                return marks, transform(*batch) if isinstance(batch, tuple) else transform(batch)

            batches = batches.map(transformed)
        if prefetch:
            batches = batches.prefetch(prefetch)
        batches = batches.map(_as_written(self._hand_out)).with_options(_options())
        spec = self._source.spec
        adds_weights = self._weighted and isinstance(spec, tuple) and len(spec) == 2
        return SelectedBatches(batches, adds_weights)

    def _choices(self, _: tf.Tensor) -> tf.data.Dataset:
        """The choices of one iterator, beginning where the training is."""
        stream = self._stream
        first = stream.trained.read_value()
        start = (first, stream.counters.read_value(), stream.sampler.initial_orders())

        def choose(state: Any, _: tf.Tensor) -> Any:
            number, counters, orders = state
            choice = self._choose(number, counters, orders)
            # Weights that no batch carries are not computed.
            weights = (choice.weights,) if self._weighted else ()
            stream.record(number, choice.indices, choice.counters, *weights)
            marks = (number, choice.counters, number == first)
            made = (marks, choice.indices, *weights)
            return (number + 1, choice.counters, choice.orders), made

        return tf.data.Dataset.counter().scan(start, _as_written(choose))

    def _fetch(self, marks: Any, indices: tf.Tensor, *weights: tf.Tensor) -> Any:
        """Add the examples of a batch to the marks that `hand_out` takes."""
        batch = self._source.batch(indices)
        return marks, _with_weights(batch, *weights) if weights else batch

    def _hand_out(self, marks: Any, batch: Any) -> Any:
        self._stream.hand_out(*marks)
        if self._watch is not None:
            self._watch(marks[0])
        return batch


def _as_written(function: Callable[..., Any]) -> Any:
    """Keep AutoGraph from translating a function that is TensorFlow already."""
    return tf.autograph.experimental.do_not_convert(function)


def _with_weights(batch: Any, weights: tf.Tensor) -> Any:
    """Put weights `[B]` into a batch, times those that it has.

    Where an example has several targets, weights get further axes of size 1: Keras would take
    `[B]` for weights of its steps.
    """
    if len(batch) == 2:
        targets = batch[1]
        if not tf.nest.is_nested(targets):
            sequence = targets.dtype.is_integer and targets.shape[1:].num_elements() != 1
            if targets.shape.rank > 2 or (targets.shape.rank == 2 and sequence):
                weights = _of_rank(weights, targets.shape.rank)
        return (*batch, weights)

    def times(own: tf.Tensor) -> tf.Tensor:
        return own * tf.cast(_of_rank(weights, own.shape.rank), own.dtype)

    return (*batch[:2], tf.nest.map_structure(times, batch[2]))


def _of_rank(weights: tf.Tensor, rank: int) -> tf.Tensor:
    """Weights of a batch's examples with axes of size 1 behind the first."""
    return tf.reshape(weights, [-1, *[1] * (rank - 1)])


def _options() -> tf.data.Options:
    """Leave the pipeline as it is written: a prefetch added by TensorFlow would be undeclared."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_optimization.inject_prefetch = False
    options.autotune.enabled = False
    options.deterministic = True
    return options
