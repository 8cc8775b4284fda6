"""The cost of training a model, in multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from net2net.graph import graph_of

Shape = tuple[int | None, ...]
#: Layer, shapes of its inputs and of its outputs → multiply-adds of its parts for one example, in
#: the order of computation.
FlopsRule = Callable[[Any, Sequence[Shape], Sequence[Shape]], Sequence[int]]


@dataclass(frozen=True)
class Cost:
    """Multiply-adds for one example.

    Args:
      forward: of the prediction.
      backward: of the gradients by the weights and by the inputs of layers.
    """

    forward: int
    backward: int

    @property
    def training(self) -> int:
        """Both together."""
        return self.forward + self.backward


def multiply_adds(model: keras.Model) -> Cost:
    """Count the multiply-adds of a model's layers.

    A layer of m multiply-adds forward has m backward for the gradient of its weights, if they are
    trained, and m for the gradient of its input, if anything before it is trained: not so in the
    first layer. A convolution is counted as if its windows lay wholly within the image. Counted are
    Dense, convolutions of all kinds, attention, recurrent layers, and one multiply-add for each
    value that is normalised. Pooling, additions, activations, losses and the optimizer's own work
    are not.

    Args:
      model: a built Sequential or Functional model with a fixed input shape.

    Returns:
      The cost of one example.

    Raises:
      ValueError: a layer with weights is of unknown kind, or a shape is not fixed.
      UnsupportedLayerError: the model is subclassed.

    Example:
      >>> layers = [keras.layers.Dense(4), keras.layers.Dense(2)]
      >>> model = keras.Sequential([keras.Input((3,)), *layers])
      >>> multiply_adds(model)  # forward 3·4 + 4·2; backward 3·4 + 2·4·2
      Cost(forward=20, backward=28)
    """
    graph = graph_of(model)
    trained: set[int] = set()  # tensors that depend on a trained weight
    forward = backward = 0
    for call in graph.calls:
        shapes = [[graph.shapes[t] for t in tensors] for tensors in (call.inputs, call.outputs)]
        has_trained_inputs = any(tensor in trained for tensor in call.inputs)
        is_trained = bool(getattr(call.layer, "trainable_variables", ()))
        for part in _parts(call.layer, call.path, *shapes):
            forward += part
            backward += part * (int(is_trained) + int(has_trained_inputs))
            has_trained_inputs |= is_trained
        if has_trained_inputs or is_trained:
            trained.update(call.outputs)
    return Cost(forward, backward)


def register_cost(kind: type, rule: FlopsRule) -> None:
    """Register the cost of a kind of layer.

    Args:
      kind: the layer's class; its subclasses have the same rule.
      rule: layer, shapes of its inputs and of its outputs → multiply-adds of its parts.
    """
    _RULES.insert(0, ((kind,), rule))


def _parts(
    layer: Any, path: str, inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> Sequence[int]:
    rule = next((rule for kinds, rule in _RULES if isinstance(layer, kinds)), None)
    if rule is None:
        if getattr(layer, "weights", None):
            raise ValueError(
                f"What layer {path!r} ({type(layer).__name__}) costs is not known; expected a "
                "layer of Keras with a known rule. Say it: keras_qan.rally.register_cost("
                f"{type(layer).__name__}, lambda layer, inputs, outputs: [multiply_adds])."
            )
        return []
    try:
        return rule(layer, inputs, outputs)
    except _UnknownShapeError as error:
        raise ValueError(
            f"Layer {path!r} has the shapes {list(inputs)} → {list(outputs)}; expected fixed ones "
            "but for the batch. Give the model's Input a fixed shape."
        ) from error


class _UnknownShapeError(Exception):
    """A dimension is unknown."""


def _values(shape: Shape) -> int:
    """Number of values of one example."""
    if any(size is None for size in shape[1:]):
        raise _UnknownShapeError
    return math.prod(shape[1:])  # type: ignore[arg-type]


def _dense(layer: Any, _: Sequence[Shape], outputs: Sequence[Shape]) -> list[int]:
    return [_values(outputs[0]) * layer.kernel.shape[0]]


def _convolution(layer: Any, _: Sequence[Shape], outputs: Sequence[Shape]) -> list[int]:
    return [_values(outputs[0]) * math.prod(layer.kernel.shape[:-1])]


def _transposed(layer: Any, inputs: Sequence[Shape], _: Sequence[Shape]) -> list[int]:
    return [_values(inputs[0]) * math.prod(layer.kernel.shape[:-1])]


def _depthwise(layer: Any, _: Sequence[Shape], outputs: Sequence[Shape]) -> list[int]:
    return [_values(outputs[0]) * math.prod(layer.kernel.shape[:-2])]


def _separable(layer: Any, _: Sequence[Shape], outputs: Sequence[Shape]) -> list[int]:
    places = _values(outputs[0]) // layer.filters
    *window, channels, multiplier = layer.depthwise_kernel.shape
    between = places * channels * multiplier
    return [between * math.prod(window), between * layer.filters]


def _einsum(layer: Any, inputs: Sequence[Shape], _: Sequence[Shape]) -> list[int]:
    # From the input: an output's shape may be left open in the layer's arguments.
    left = layer.equation.replace(" ", "").split("->")[0]
    known, labels = left.split(",")
    sizes = zip(labels, layer.kernel.shape, strict=True)
    return [_values(inputs[0]) * math.prod(size for label, size in sizes if label not in known)]


def _each_value(_layer: Any, _: Sequence[Shape], outputs: Sequence[Shape]) -> list[int]:
    return [_values(outputs[0])]


def _nothing(_layer: Any, _: Sequence[Shape], __: Sequence[Shape]) -> list[int]:
    return []


def _recurrent(layer: Any, inputs: Sequence[Shape], _: Sequence[Shape]) -> list[int]:
    _values(inputs[0])
    steps = inputs[0][1] or 0
    cell = layer.cell
    return [steps * math.prod(cell.kernel.shape), steps * math.prod(cell.recurrent_kernel.shape)]


def _bidirectional(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> list[int]:
    ways = [_recurrent(one, inputs, outputs) for one in (layer.forward_layer, layer.backward_layer)]
    return [sum(parts) for parts in zip(*ways, strict=True)]


def _time_distributed(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> list[int]:
    _values(inputs[0])
    one_in, one_out = ([(s[0], *s[2:]) for s in shapes] for shapes in (inputs, outputs))
    steps = inputs[0][1] or 0
    return [steps * part for part in _parts(layer.layer, layer.name, one_in, one_out)]


def _attention(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> list[int]:
    for shape in inputs:
        _values(shape)
    queries, keys = inputs[0][1:-1], inputs[1 if len(inputs) > 1 else 0][1:-1]
    # Axes of attention other than the only one are all attended over together.
    asked, there = math.prod(queries), math.prod(keys)  # type: ignore[arg-type]
    heads, size, value = layer.num_heads, layer.key_dim, layer.value_dim
    value_in = inputs[1 if len(inputs) > 1 else 0][-1] or 0
    key_in = (inputs[2] if len(inputs) > 2 else inputs[1 if len(inputs) > 1 else 0])[-1] or 0
    projections = heads * (
        asked * (inputs[0][-1] or 0) * size + there * key_in * size + there * value_in * value
    )
    scores = heads * asked * there * size
    mixed = heads * asked * there * value
    return [projections, scores, mixed, _values(outputs[0]) * heads * value]


_LAYERS = keras.layers
_RULES: list[tuple[tuple[type, ...], FlopsRule]] = [
    ((_LAYERS.Dense,), _dense),
    ((_LAYERS.Conv1DTranspose, _LAYERS.Conv2DTranspose, _LAYERS.Conv3DTranspose), _transposed),
    ((_LAYERS.SeparableConv1D, _LAYERS.SeparableConv2D), _separable),
    ((_LAYERS.DepthwiseConv1D, _LAYERS.DepthwiseConv2D), _depthwise),
    ((_LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Conv3D), _convolution),
    ((_LAYERS.EinsumDense,), _einsum),
    ((_LAYERS.MultiHeadAttention,), _attention),
    ((_LAYERS.Bidirectional,), _bidirectional),
    ((_LAYERS.TimeDistributed,), _time_distributed),
    ((_LAYERS.SimpleRNN, _LAYERS.LSTM, _LAYERS.GRU), _recurrent),
    (
        (
            _LAYERS.BatchNormalization,
            _LAYERS.LayerNormalization,
            _LAYERS.GroupNormalization,
            _LAYERS.RMSNormalization,
            _LAYERS.UnitNormalization,
            _LAYERS.Normalization,
            _LAYERS.PReLU,
        ),
        _each_value,
    ),
    # Looked up, drawn at random or counted, not multiplied.
    (
        (_LAYERS.Embedding, _LAYERS.Dropout, _LAYERS.GaussianNoise, _LAYERS.GaussianDropout),
        _nothing,
    ),
]
