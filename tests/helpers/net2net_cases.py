"""Small models, at least one for every rule, and what tests and benchmarks of growth share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

L = keras.layers


@dataclass(frozen=True)
class Case:
    """A model, the layer to widen in it, and to how many units.

    exact_slots is False where growth keeps the function but splits the gradients differently;
    words is the number of words where the inputs are whole numbers.
    """

    build: Callable[[], Any]
    layer: str
    units: int
    exact_slots: bool = True
    words: int = 0


@contextmanager
def double_precision() -> Iterator[None]:
    """Tell a wrong share from rounding: on TensorFlow, everything inside is float64.

    On JAX some of Keras's layers compute in single precision whatever they are told.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def randomise(model: Any, seed: int = 0) -> Any:
    """Give every weight a random value, batch statistics included, of a size that keeps scale."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.name in ("moving_variance", "gamma", "scale"):
            value = generator.uniform(0.5, 1.5, shape)
        elif len(shape) < 2:
            value = generator.normal(0.0, 0.1, shape)
        else:
            summed = shape[:-2] if "depthwise" in variable.path else shape[:-1]
            value = generator.normal(0.0, 1.4 / np.sqrt(np.prod(summed)), shape)
        variable.assign(value)
    return model


def some_inputs(model: Any, words: int = 0, seed: int = 1, size: int = 4) -> Any:
    generator = np.random.default_rng(seed)
    arrays = [
        generator.integers(words, size=(size, *tensor.shape[1:]))
        if words
        else generator.normal(size=(size, *tensor.shape[1:])).astype(str(tensor.dtype))
        for tensor in model.inputs
    ]
    return arrays if len(arrays) > 1 else arrays[0]


def outputs(model: Any, inputs: Any, training: bool = False) -> list[np.ndarray]:
    found = keras.tree.flatten(model(inputs, training=training))
    return [np.asarray(keras.ops.convert_to_numpy(one)) for one in found]


def largest_difference(one: Any, other: Any, inputs: Any, training: bool = False) -> float:
    """Return max |Δ output|, relative to the largest output."""
    pairs = zip(outputs(one, inputs, training), outputs(other, inputs, training), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


def random_widths(found: dict[str, Any], generator: np.random.Generator) -> dict[str, int]:
    """Return a random width for every group of layers, through the first layer of it."""
    widths: dict[str, int] = {}
    grown: set[str] = set()
    for path, one in found.items():
        if one and path not in grown:
            steps = int(generator.integers(1, max(2, one.width // one.step // 3)))
            widths[path] = one.width + steps * one.step
            grown.update(one.group)
    return widths


def sequential(*layers: Any, shape: tuple[int, ...] = (6,), dtype: Any = None) -> Any:
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


def _between(*middle: Any, first: int = 6) -> Callable[[], Any]:
    """A Dense layer, some layers, a Dense layer."""
    return lambda: sequential(L.Dense(first, name="wide"), *(m() for m in middle), L.Dense(3))


def _images(*middle: Any, channels: int = 4, shape: Any = (6, 6, 3)) -> Callable[[], Any]:
    """A convolution, some layers, a convolution."""
    kind = {2: L.Conv1D, 3: L.Conv2D, 4: L.Conv3D}[len(shape)]
    return lambda: sequential(
        kind(channels, 3, padding="same", name="wide"),
        *(m() for m in middle),
        kind(2, 1),
        shape=shape,
    )


def _residual() -> Any:
    inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(4, 3, padding="same", name="wide")(inputs)
    y = L.ReLU()(L.BatchNormalization()(x))
    y = L.Conv2D(4, 3, padding="same")(y)
    merged = [L.Add()([x, y]), L.Multiply()([x, y]), L.Average()([x, y]), L.Maximum()([x, y])]
    merged += [L.Subtract()([x, y]), L.Minimum()([x, y])]
    return keras.Model(inputs, L.Dense(2)(L.Concatenate()(merged)))


def _operations() -> Any:
    inputs = keras.Input((6,))
    x = L.Dense(4, name="wide")(inputs)
    y = keras.ops.relu(x) + L.Dense(4)(x) * 0.5
    return keras.Model(inputs, L.Dense(2)(keras.ops.tanh(y) - x))


def _spatial_gate() -> Any:
    inputs = keras.Input((4, 4, 3))
    x = L.Conv2D(4, 3, name="wide")(inputs)
    most, mean = keras.ops.max(x, axis=-1), keras.ops.mean(x, axis=-1, keepdims=True)
    gate = L.Concatenate()([L.Reshape((2, 2, 1))(most), mean])
    x = L.Multiply()([x, L.Conv2D(1, 1, activation="sigmoid")(gate)])
    return keras.Model(inputs, L.Dense(2)(x))


def _squeeze() -> Any:
    inputs = keras.Input((4, 4, 3))
    x = L.Conv2D(4, 3, name="wide")(inputs)
    s = L.GlobalAveragePooling2D()(x)
    s = L.Reshape((1, 1, 4))(s)
    s = L.Conv2D(4, 1, activation="sigmoid")(L.Conv2D(2, 1, activation="relu")(s))
    return keras.Model(inputs, L.Dense(2)(L.Multiply()([x, s])))


def _branches() -> Any:
    inputs = keras.Input((6,))
    a, b = L.Dense(3, name="first")(inputs), L.Dense(4, name="wide")(inputs)
    joined = L.Concatenate()([a, L.ReLU()(b), b])
    return keras.Model(inputs, L.Dense(2)(L.Add()([joined, L.Dense(11)(joined)])))


def _joined_stream() -> Any:
    inputs = keras.Input((6,))
    joined = L.Concatenate()([L.Dense(3)(inputs), L.Dense(4)(inputs)])
    return keras.Model(inputs, L.Dense(2)(L.Add()([joined, L.Dense(7, name="wide")(joined)])))


def _shared() -> Any:
    one, other = keras.Input((6,)), keras.Input((6,))
    layer, norm = L.Dense(4, "relu", name="wide"), L.BatchNormalization()
    x, y = norm(layer(one)), norm(layer(other))
    last = L.Dense(3)
    return keras.Model([one, other], [last(x), last(y), L.Dense(2)(L.Subtract()([x, y]))])


def _nested() -> Any:
    inner_inputs = keras.Input((4,))
    inner = keras.Model(inner_inputs, L.Dense(5, "relu", name="deep")(inner_inputs), name="inner")
    block = keras.Sequential([keras.Input((5,)), L.Dense(4, "tanh")], name="block")
    inputs = keras.Input((6,))
    x = L.Dense(4, "relu", name="wide")(inputs)
    return keras.Model(inputs, L.Dense(2)(L.Add()([x, block(inner(x)), block(inner(x))])))


def _states() -> Any:
    inputs = keras.Input((5, 3))
    x, h, c = L.LSTM(4, return_sequences=True, return_state=True, name="wide")(inputs)
    y = L.LSTM(4)(x, initial_state=[h, c])
    return keras.Model(inputs, L.Dense(2)(y))


def _attention(layer: str, heads: int = 2) -> Callable[[], Any]:
    def build() -> Any:
        inputs = keras.Input((5, 6))
        x = L.Dense(6, name="stream")(inputs)
        y = L.MultiHeadAttention(heads, 3, name="attention")(x, x)
        x = L.Add()([x, y])
        x = x if layer == "attention" else L.RMSNormalization()(x)
        return keras.Model(inputs, L.Dense(2)(x))

    return build


def _grouped_attention(layer: str) -> Callable[[], Any]:
    def build() -> Any:
        inputs = keras.Input((5, 6))
        x = L.Dense(6, name="stream")(inputs)
        y = L.GroupQueryAttention(3, 4, 2, use_gate=True, name="attention")(x, x)
        x = L.Add()([x, y])
        x = x if layer == "attention" else L.RMSNormalization()(x)
        return keras.Model(inputs, L.Dense(2)(x))

    return build


def _tied(tie_weights: bool, *last: Callable[[], Any]) -> Callable[[], Any]:
    def build() -> Any:
        inputs = keras.Input((5,), dtype="int32")
        table = L.ReversibleEmbedding(9, 4, tie_weights=tie_weights, name="table")
        x = table(inputs)
        x = L.Add()([x, L.Dense(4)(L.Dense(6, "gelu")(x))])
        for make in last:
            x = make()(x)
        return keras.Model(inputs, table(x, reverse=True))

    return build


def _scores() -> Any:
    inputs = keras.Input((5, 6))
    attention = L.GroupQueryAttention(3, 4, 2, name="attention")
    x, scores = attention(inputs, inputs, return_attention_scores=True)
    heads = L.Dense(2)(keras.ops.transpose(scores, (0, 2, 3, 1)))
    return keras.Model(inputs, [L.Dense(2)(x), heads])


def _plain_attention() -> Any:
    inputs = keras.Input((5, 6))
    query, key = L.Dense(4)(inputs), L.Dense(4)(inputs)
    value = L.Dense(4, name="wide")(inputs)
    return keras.Model(inputs, L.Dense(2)(L.Attention()([query, value, key])))


def _additive() -> Any:
    inputs = keras.Input((5, 6))
    query, value = L.Dense(4, name="wide")(inputs), L.Dense(3)(inputs)
    x = L.AdditiveAttention()([query, value, L.Dense(4)(inputs)])
    return keras.Model(inputs, L.Dense(2)(L.AdditiveAttention()([L.Dense(3)(query), x])))


def _last_places() -> Any:
    inputs = keras.Input((4, 6))
    x = L.Permute((2, 1))(inputs)
    x = L.Dense(5, "gelu", name="wide")(x)
    x = L.Permute((2, 1))(L.Dense(4)(x))
    return keras.Model(inputs, L.Dense(2)(x))


def _scaled() -> Any:
    from keras.src.applications.convnext import LayerScale, StochasticDepth
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    inputs = keras.Input((6,))
    x = L.Dense(4, name="wide")(inputs)
    y = StochasticDepth(0.0)(LayerScale(0.5, 4)(x))
    return keras.Model(inputs, L.Dense(2)(CustomScaleLayer(0.3)([x, y])))


def _tensor_operations() -> Any:
    ops = keras.ops
    inputs = keras.Input((5, 6))
    x = L.Dense(8, name="wide")(inputs)
    one, two = ops.split(ops.transpose(ops.transpose(x, (0, 2, 1)), (0, 2, 1)), 2, axis=-1)
    x = ops.reshape(one * two, (-1, 5, 2, 2))
    x = ops.reshape(ops.normalize(x, axis=1), (-1, 5, 4))
    keys = L.Dense(3)(inputs)
    made = [
        ops.sum(x, axis=1),
        x[:, -1],
        ops.einsum("bti,btj->bij", keys, x)[:, 0],
        ops.matmul(ops.transpose(keys, (0, 2, 1)), x)[:, 1],
        L.Dot(axes=1)([keys, x])[:, 2],
    ]
    return keras.Model(inputs, L.Dense(2)(L.Concatenate()(made)))


def _noisy() -> Any:
    layers = [L.Dropout(0.0), L.SpatialDropout1D(0.0), L.GaussianNoise(0.0), L.AlphaDropout(0.0)]
    rest = [L.GaussianDropout(0.0), L.Identity(), L.LeakyReLU(), L.Rescaling(0.5)]
    first = L.Dense(4, name="wide")
    rest += [L.ActivityRegularization()]
    return sequential(first, *layers, *rest, L.Softmax(axis=1), L.Dense(2), shape=(5, 6))


CASES = {
    "dense": Case(_between(lambda: L.Activation("gelu")), "wide", 9),
    "dense_of_one": Case(_between(first=1), "wide", 5),
    "noise_and_masks": Case(_noisy, "wide", 7),
    "prelu": Case(_between(L.PReLU), "wide", 9),
    "convolution_1d": Case(_images(shape=(6, 3)), "wide", 7),
    "convolution_3d": Case(_images(shape=(4, 4, 4, 2)), "wide", 6),
    "grouped_convolution": Case(_images(lambda: L.Conv2D(6, 3, groups=2)), "wide", 8),
    "grouped_target": Case(
        lambda: sequential(
            L.Conv2D(6, 3, groups=3, name="wide"), L.ReLU(), L.Conv2D(2, 1), shape=(6, 6, 3)
        ),
        "wide",
        9,
    ),
    "transposed_1d": Case(_images(lambda: L.Conv1DTranspose(3, 3), shape=(6, 3)), "wide", 7),
    "transposed_2d": Case(
        lambda: sequential(
            L.Conv2DTranspose(4, 3, strides=2, name="wide"), L.Conv2D(2, 1), shape=(3, 3, 3)
        ),
        "wide",
        7,
    ),
    "depthwise": Case(
        _images(lambda: L.DepthwiseConv2D(3, depth_multiplier=2), L.BatchNormalization), "wide", 7
    ),
    "depthwise_itself": Case(
        lambda: sequential(
            L.Conv1D(3, 1), L.DepthwiseConv1D(2, depth_multiplier=2, name="wide"), L.Conv1D(2, 1),
            shape=(6, 3),
        ),
        "wide",
        10,
    ),
    "separable": Case(_images(lambda: L.SeparableConv2D(5, 3, depth_multiplier=2)), "wide", 7),
    "separable_itself": Case(
        lambda: sequential(
            L.SeparableConv1D(4, 3, activation="relu", name="wide"), L.Conv1D(2, 1), shape=(6, 3)
        ),
        "wide",
        7,
    ),
    "batch_normalization": Case(
        _images(L.BatchNormalization, lambda: L.BatchNormalization(scale=False)), "wide", 7
    ),
    "layer_normalization": Case(
        _between(L.LayerNormalization, L.RMSNormalization), "wide", 12, exact_slots=False
    ),
    "layer_normalization_of_places": Case(
        _images(lambda: L.LayerNormalization(axis=[1, 2])), "wide", 7
    ),
    "group_normalization": Case(
        _images(lambda: L.GroupNormalization(2)), "wide", 8
    ),
    "instance_normalization": Case(_images(lambda: L.GroupNormalization(-1)), "wide", 7),
    "pooling": Case(
        _images(
            L.MaxPooling2D,
            L.UpSampling2D,
            L.ZeroPadding2D,
            L.Cropping2D,
            lambda: L.AveragePooling2D(2),
        ),
        "wide",
        7,
    ),
    "global_pooling": Case(
        lambda: sequential(
            L.Conv2D(4, 3, name="wide"), L.GlobalMaxPooling2D(), L.Dense(2), shape=(6, 6, 3)
        ),
        "wide",
        7,
    ),
    "flatten": Case(
        lambda: sequential(
            L.Conv2D(4, 3, name="wide"), L.Flatten(), L.Dense(2), shape=(6, 6, 3)
        ),
        "wide",
        7,
    ),
    "flatten_channels_first": Case(
        lambda: sequential(
            L.Reshape((2, 2, 3)), L.Dense(4, name="wide"), L.Permute((3, 1, 2)),
            L.Flatten(data_format="channels_first"), L.Dense(2), shape=(12,),
        ),
        "wide",
        7,
    ),
    "reshape": Case(
        lambda: sequential(
            L.Dense(6, name="wide"), L.Reshape((2, 3)), L.Permute((2, 1)), L.Permute((2, 1)),
            L.Reshape((6,)), L.RepeatVector(2), L.Reshape((-1, 1, 6)), L.Dense(2),
        ),
        "wide",
        10,
    ),
    "merging": Case(_residual, "wide", 7),
    "operations": Case(_operations, "wide", 7),
    "tensor_operations": Case(_tensor_operations, "wide", 12),
    "spatial_gate": Case(_spatial_gate, "wide", 8, exact_slots=False),
    "squeeze_and_excitation": Case(_squeeze, "wide", 7),
    "concatenation": Case(_branches, "wide", 7),
    "concatenated_stream": Case(_joined_stream, "wide", 11),
    "shared_layer": Case(_shared, "wide", 7),
    "nested_models": Case(_nested, "wide", 7),
    "inside_nested_model": Case(_nested, "inner/deep", 8),
    "simple_rnn": Case(
        lambda: sequential(L.SimpleRNN(4, name="wide"), L.Dense(2), shape=(5, 3)), "wide", 7
    ),
    "gru": Case(
        lambda: sequential(
            L.GRU(4, return_sequences=True, name="wide"), L.GRU(3), L.Dense(2), shape=(5, 3)
        ),
        "wide",
        7,
    ),
    "lstm_with_states": Case(_states, "wide", 7),
    "cell": Case(
        lambda: sequential(
            L.RNN(L.GRUCell(4), return_sequences=True, name="wide"), L.RNN(L.LSTMCell(3)),
            L.Dense(2), shape=(5, 3),
        ),
        "wide",
        7,
    ),
    "conv_lstm": Case(
        lambda: sequential(
            L.ConvLSTM1D(3, 3, return_sequences=True, name="wide"), L.ConvLSTM1D(2, 2),
            L.Dense(2), shape=(3, 6, 2),
        ),
        "wide",
        5,
    ),
    "bidirectional": Case(
        lambda: sequential(
            L.Bidirectional(L.LSTM(3, return_sequences=True), name="wide"),
            L.Bidirectional(L.GRU(3), merge_mode="sum"),
            L.Dense(2),
            shape=(5, 3),
        ),
        "wide",
        5,
    ),
    "bidirectional_sum": Case(
        lambda: sequential(
            L.Bidirectional(L.GRU(3), merge_mode="mul", name="wide"), L.Dense(2), shape=(5, 3)
        ),
        "wide",
        5,
    ),
    "masked_sequence": Case(
        lambda: sequential(
            L.Dense(4, "relu", name="wide"), L.Masking(), L.LSTM(3, return_sequences=True),
            L.TimeDistributed(L.Dense(3)), L.GRU(2), shape=(5, 3),
        ),
        "wide",
        7,
    ),
    "embedding": Case(
        lambda: sequential(
            L.Embedding(9, 4, name="wide"), L.LSTM(3), L.Dense(2), shape=(5,), dtype="int32"
        ),
        "wide",
        7,
        words=9,
    ),
    "tied_embedding": Case(
        _tied(True, L.LayerNormalization, lambda: L.Dropout(0.0)), "table", 8, exact_slots=False,
        words=9,
    ),
    "tied_embedding_after_dense": Case(_tied(True, lambda: L.Dense(4)), "table", 7, words=9),
    "untied_embedding": Case(_tied(False), "table", 7, words=9),
    "time_distributed": Case(
        lambda: sequential(
            L.TimeDistributed(L.Conv1D(4, 3), name="wide"),
            L.TimeDistributed(L.BatchNormalization()),
            L.TimeDistributed(L.Flatten()),
            L.TimeDistributed(L.Dense(3)),
            shape=(3, 6, 2),
        ),
        "wide",
        7,
    ),
    "attention_heads": Case(_attention("attention"), "attention", 5),
    # Keras takes the root of the size in single precision; that of four times it rounds alike.
    "attention_key_size": Case(_attention("attention"), "attention/key_dim", 12),
    "attention_value_size": Case(_attention("attention"), "attention/value_dim", 7),
    "attention_scores": Case(_scores, "attention", 4),
    "attention_stream": Case(_attention("stream"), "stream", 12, exact_slots=False),
    "grouped_attention_heads": Case(_grouped_attention("attention"), "attention", 5),
    "grouped_attention_size": Case(_grouped_attention("attention"), "attention/head_dim", 12),
    "grouped_attention_stream": Case(
        _grouped_attention("stream"), "stream", 12, exact_slots=False
    ),
    "attention_without_weights": Case(_plain_attention, "wide", 7),
    "additive_attention": Case(_additive, "wide", 7),
    "places_as_channels": Case(_last_places, "wide", 8),
    "einsum_dense": Case(
        lambda: sequential(
            L.EinsumDense("abc,cd->abd", (5, 4), bias_axes="d", name="wide"),
            L.EinsumDense("...x,xy->...y", 3, bias_axes="y"),
            shape=(5, 6),
        ),
        "wide",
        7,
    ),
    "einsum_depthwise": Case(
        lambda: sequential(
            L.Dense(4, name="wide"), L.EinsumDense("abc,c->abc", (5, 4)), L.Dense(2), shape=(5, 6)
        ),
        "wide",
        7,
    ),
    "layer_scale": Case(_scaled, "wide", 7),
}  # fmt: skip
