"""Operations of `keras.ops`, of `x + y` and of `x[...]`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import keras

from net2net.channel_map import Structure
from net2net.errors import RefusalError, StructureRequest
from net2net.rules.base import (
    CallView,
    GrownLayer,
    MappedAxis,
    Port,
    Rule,
    require_structure,
)
from net2net.rules.elementwise import ElementwiseRule, SoftmaxRule, axes_of
from net2net.rules.merging import ConcatenationRule, MergingRule
from net2net.rules.registry import register_rule
from net2net.rules.reshaping import ReshapeRule, reshape_map


class ReductionRule(Rule):
    """A maximum over channels does not see copies; a mean needs equally many of each."""

    def __init__(self, *, equal: bool = False) -> None:
        self.equal = equal

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on the reduced axes, pass others through."""
        rank, axis = len(call.inputs[0]), call.layer.axis
        reduced = list(range(rank)) if axis is None else axes_of(axis, rank)
        kept = [one for one in range(rank) if call.layer.keepdims or one not in reduced]
        if mapped.port.side == "out":
            return [MappedAxis(Port("in"), kept[mapped.axis], mapped.map)]
        if mapped.axis in reduced:
            require_structure(mapped.map, Structure(equal=self.equal))
            return []
        return [MappedAxis(Port("out"), kept.index(mapped.axis), mapped.map)]


class SumRule(ReductionRule):
    """A sum or a norm over channels counts every copy, so it takes maps on other axes only."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Pass maps on the axes that are kept."""
        axis, rank = call.layer.axis, len(call.inputs[0])
        reduced = list(range(rank)) if axis is None else axes_of(axis, rank)
        if mapped.port.side == "in" and mapped.axis in reduced:
            raise RefusalError(
                f"{type(call.layer).__name__} adds up the channels to be copied",
                "Take the mean instead of the sum, or let a Dense layer do it.",
            )
        return super().propagate(call, mapped)


class AxesRule(Rule):
    """Axes change places, come or go, and nothing else happens.

    Args:
        places: Returns, for each axis of the output, the input's axis in its place, or None for a
            new one, from the layer, the call and the input's rank.
    """

    def __init__(self, places: Any) -> None:
        self.places = places

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the same map on the axis's place on the other side."""
        order = self.places(call, len(call.inputs[0]))
        if mapped.port.side == "in" and mapped.axis not in order:
            raise RefusalError("it takes some of the channels to be copied, and leaves others")
        axis = order.index(mapped.axis) if mapped.port.side == "in" else order[mapped.axis]
        if axis is None:
            raise RefusalError("it makes the axis of the channels to be copied")
        ports = call.ports()
        if mapped.port.side == "in":
            return [MappedAxis(Port("out"), axis, mapped.map), *self._others(ports, mapped)]
        return [MappedAxis(port, axis, mapped.map) for port in ports if port.side == "in"]

    @staticmethod
    def _others(ports: list[Port], mapped: MappedAxis) -> list[MappedAxis]:
        return [replace(mapped, port=one) for one in ports if one.side == "in"]


def _transposed(call: CallView, rank: int) -> list[int | None]:
    axes = call.layer.axes
    return list(reversed(range(rank))) if axes is None else [one % rank for one in axes]


def _swapped(call: CallView, rank: int) -> list[int | None]:
    order: list[int | None] = list(range(rank))
    one, other = call.layer.axis1 % rank, call.layer.axis2 % rank
    order[one], order[other] = other, one
    return order


def _moved(call: CallView, rank: int) -> list[int | None]:
    source = axes_of(call.layer.source, rank)
    order: list[int | None] = [axis for axis in range(rank) if axis not in source]
    for place, axis in sorted(zip(axes_of(call.layer.destination, rank), source, strict=True)):
        order.insert(place, axis)
    return order


def _expanded(call: CallView, rank: int) -> list[int | None]:
    new = axes_of(call.layer.axis, len(call.outputs[0]))
    rest = iter(range(rank))
    return [None if axis in new else next(rest) for axis in range(len(call.outputs[0]))]


def _squeezed(call: CallView, rank: int) -> list[int | None]:
    axis = call.layer.axis
    gone = [k for k, size in enumerate(call.inputs[0]) if size == 1]
    gone = gone if axis is None else axes_of(axis, rank)
    return [one for one in range(rank) if one not in gone]


def _stacked(call: CallView, rank: int) -> list[int | None]:
    order: list[int | None] = list(range(rank))
    order.insert(call.layer.axis % (rank + 1), None)
    return order


def _picked(call: CallView, rank: int) -> list[int | None]:
    """Return the places of a call like x[:, -1, None], where whole axes are kept."""
    key = call.settings.get("key")
    keys = list(key) if isinstance(key, list | tuple) else [key]
    if any(not isinstance(one, slice | int | type(None) | type(Ellipsis)) for one in keys):
        raise RefusalError("it picks channels by another tensor")
    used = sum(one is not None and one is not Ellipsis for one in keys)
    if Ellipsis not in keys:
        keys.append(Ellipsis)
    place = keys.index(Ellipsis)
    keys[place : place + 1] = [slice(None)] * (rank - used)
    order: list[int | None] = []
    axis = 0
    for one in keys:
        if one is None:
            order.append(None)
            continue
        if isinstance(one, slice):
            # A part of an axis has a place too, but none that a map could pass.
            order.append(axis if one == slice(None) else -1 - axis)
        axis += 1
    return order


class PickRule(AxesRule):
    """x[...]: whole axes pass; of channels to be copied none may be left out."""

    def __init__(self) -> None:
        super().__init__(_picked)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Pass maps on axes that are taken whole."""
        order = _picked(call, len(call.inputs[0]))
        part = mapped.axis not in order if mapped.port.side == "in" else order[mapped.axis]
        if part is True or (part is not False and part is not None and part < 0):
            raise RefusalError(
                "it takes some of the channels to be copied, and leaves others",
                "Let two layers make the two parts.",
            )
        return super().propagate(call, mapped)


class SplitRule(Rule):
    """Into equal parts of the channels: one map for all of them; on other axes, the same map."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the map on the input and on every part."""
        axis = call.layer.axis % len(call.inputs[0])
        if mapped.axis != axis:
            return [MappedAxis(port, mapped.axis, mapped.map) for port in call.ports()]
        parts = call.layer.indices_or_sections
        if not isinstance(parts, int):
            raise RefusalError(
                "it splits the channels to be copied at fixed places",
                "Split them into a number of equal parts, or let two layers make the two parts.",
            )
        part = mapped.map.untile(parts) if mapped.port.side == "in" else mapped.map
        if part is None:
            raise StructureRequest(Structure(blocks=parts))
        found = [MappedAxis(Port("out", k), axis, part) for k in range(len(call.outputs))]
        return [MappedAxis(Port("in"), axis, part.tile(parts)), *found]


class ContractionRule(Rule):
    """A product of tensors: axes that are kept pass, those that are summed over do not."""

    def letters(self, call: CallView) -> tuple[list[str], str]:
        """Return the letters of each input's axes, and of the output's."""
        raise NotImplementedError

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the same map wherever the axis's letter stands."""
        if call.constants:
            raise RefusalError(
                "it multiplies the channels with a constant or with a variable",
                "Let a layer with a rule do it, such as Dense or EinsumDense.",
            )
        entering, leaving = self.letters(call)
        sides = [leaving] if mapped.port.side == "out" else entering
        letter = sides[mapped.port.index][mapped.axis]
        if letter not in leaving:
            raise RefusalError(
                f"{type(call.layer).__name__} adds up products of the channels to be copied",
                "Widen a layer that is mixed by another, such as Dense, before it gets here.",
            )
        found = [MappedAxis(Port("out"), leaving.index(letter), mapped.map)]
        return found + [
            MappedAxis(Port("in", k), letters.index(letter), mapped.map)
            for k, letters in enumerate(entering)
            if letter in letters and call.inputs[k][letters.index(letter)] != 1
        ]


class EinsumRule(ContractionRule):
    """The letters are the subscripts'."""

    def letters(self, call: CallView) -> tuple[list[str], str]:
        """Return the letters of each input's axes, and of the output's."""
        sides, leaving = call.layer.subscripts.replace(" ", "").split("->")
        entering = sides.split(",")
        if "..." not in sides:
            return entering, leaving
        unused = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in sides + leaving]
        free = max(
            len(shape) - len(one.replace("...", ""))
            for one, shape in zip(entering, call.inputs, strict=True)
        )
        letters = "".join(unused[:free])
        found = []
        for one, shape in zip(entering, call.inputs, strict=True):
            here = len(shape) - len(one.replace("...", ""))
            found.append(one.replace("...", letters[free - here :]))
        return found, leaving.replace("...", letters)


class MatmulRule(ContractionRule):
    """Rows of the one and columns of the other are kept, and so are the axes before them."""

    def letters(self, call: CallView) -> tuple[list[str], str]:
        """Return the letters of each input's axes, and of the output's."""
        ranks = [len(shape) for shape in call.inputs]
        if len(ranks) != 2 or min(ranks) < 2:
            raise RefusalError("it multiplies a tensor with a vector or a constant")
        before = "ABCDEFGH"[: max(ranks) - 2]
        one, other = (before[len(before) - (rank - 2) :] for rank in ranks)
        return [one + "ik", other + "kj"], before + "ij"


class DotRule(ContractionRule):
    """keras.layers.Dot: the axes of the batch and those that are not multiplied are kept."""

    def letters(self, call: CallView) -> tuple[list[str], str]:
        """Return the letters of each input's axes, and of the output's."""
        axes = call.layer.axes
        first, second = (len(shape) for shape in call.inputs)
        one, other = (axes, axes) if isinstance(axes, int) else axes
        here = ["z", *"abcdef"[: first - 1]]
        there = ["z", *"uvwxy"[: second - 1]]
        here[one % first] = there[other % second] = "k"
        kept = "".join(letter for letter in [*here, *there[1:]] if letter != "k")
        return ["".join(here), "".join(there)], kept if len(kept) > 1 else kept + "K"


class WholeReshapeRule(ReshapeRule):
    """keras.ops.reshape, whose new shape names the batch too."""

    def move(self, call: CallView, mapped: MappedAxis) -> MappedAxis:
        """Return the map on the other side."""
        other = mapped.port.opposite
        here, there = call.shape(mapped.port), call.shape(other)
        axis, one = reshape_map(here, there, mapped.axis, mapped.map)
        return MappedAxis(other, axis, one)

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new shape."""
        if not grown.maps:
            return config
        given: Sequence[Any] = config["newshape"]
        given = [given] if isinstance(given, int) else given
        pairs = zip(given, grown.outputs[0], strict=True)
        shape = [o if o == -1 or n is None or not isinstance(o, int) else n for o, n in pairs]
        return {**config, "newshape": shape}


class NormalizingRule(ElementwiseRule):
    """Moments or norms over some axes: maps pass on the others."""

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Pass maps on axes that are not normalised."""
        axis = getattr(call.layer, "axis", -1)
        rank = len(call.inputs[0])
        if axis is None or mapped.axis in axes_of(axis, rank):
            raise RefusalError(
                f"{type(call.layer).__name__} sees how many channels there are",
                "Widen a layer that is mixed by another before it gets here.",
            )
        return super().propagate(call, mapped)


_ELEMENTWISE = (
    "Absolute Arccos Arccosh Arcsin Arcsinh Arctan Arctanh Cbrt Ceil Clip Conjugate Copy Cos Cosh "
    "Exp Exp2 Expm1 Fabs Floor Isfinite Isinf Isnan Log Log10 Log1p Log2 LogicalNot NanToNum "
    "Negative OnesLike Reciprocal Round Sign Sin Sinh Sqrt Square Tan Tanh Trunc ZerosLike "
    "Sigmoid Real Sinc FullLike EmptyLike"
)
_ACTIVATIONS = (
    "Celu Elu Gelu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu LogSigmoid Relu Relu6 Selu "
    "Sigmoid Silu SoftShrink Softplus Softsign SparsePlus SparseSigmoid Squareplus TanhShrink "
    "Threshold"
)
_MERGING = (
    "Add Subtract Multiply Maximum Minimum Fmax Fmin TrueDivide Divide DivideNoNan Power Mod Fmod "
    "FloorDivide Arctan2 Hypot Logaddexp NotEqual Equal Greater GreaterEqual Less LessEqual "
    "LogicalAnd LogicalOr LogicalXor Where BitwiseAnd BitwiseOr"
)
_OPERATIONS: tuple[tuple[Rule, str, str], ...] = (
    (ElementwiseRule(), "numpy", _ELEMENTWISE),
    (ElementwiseRule(), "nn", _ACTIVATIONS),
    (ElementwiseRule(), "math", "Rsqrt Erf Erfc Erfinv"),
    (ElementwiseRule(), "core", "Cast SaturateCast StopGradient ConvertToTensor"),
    (MergingRule(), "numpy", _MERGING),
    (ReductionRule(), "numpy", "Any All Max Min Amax Amin"),
    (ReductionRule(equal=True), "numpy", "Mean Var Std Median"),
    (SumRule(), "numpy", "Sum Prod CountNonzero"),
    (SumRule(), "math", "Logsumexp"),
    (SoftmaxRule(), "nn", "Softmax LogSoftmax"),
    (NormalizingRule(), "nn", "Normalize Sparsemax"),
    (NormalizingRule(), "numpy", "Cumsum Cumprod Flip Roll Sort Argsort"),
    (AxesRule(_transposed), "numpy", "Transpose"),
    (AxesRule(_swapped), "numpy", "Swapaxes"),
    (AxesRule(_moved), "numpy", "Moveaxis"),
    (AxesRule(_expanded), "numpy", "ExpandDims"),
    (AxesRule(_squeezed), "numpy", "Squeeze"),
    (AxesRule(_stacked), "numpy", "Stack"),
    (PickRule(), "numpy", "GetItem"),
    (SplitRule(), "numpy", "Split"),
    (ConcatenationRule(), "numpy", "Concatenate"),
    (WholeReshapeRule(), "numpy", "Reshape"),
    (EinsumRule(), "numpy", "Einsum"),
    (MatmulRule(), "numpy", "Matmul"),
)
for _rule, _module, _names in _OPERATIONS:
    for _name in _names.split():
        register_rule(f"keras.src.ops.{_module}.{_name}", _rule)
register_rule(keras.layers.Dot, DotRule())
