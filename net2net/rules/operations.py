"""Operations of `keras.ops` in a Functional model: x + y, maxima over channels, masks."""

from __future__ import annotations

from collections.abc import Iterable

from net2net.mapping import Structure
from net2net.rules.base import CallView, Mapped, Port, Rule, demand
from net2net.rules.elementwise import ElementwiseRule
from net2net.rules.merging import MergingRule
from net2net.rules.registry import register_rule


class ReductionRule(Rule):
    """A maximum over channels does not see copies; a mean needs equally many of each."""

    def __init__(self, *, equal: bool = False) -> None:
        self.equal = equal

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Take maps on the reduced axes, pass others through."""
        rank, axis = len(call.inputs[0]), call.layer.axis
        given = axis if isinstance(axis, list | tuple) else [axis]
        reduced = list(range(rank)) if axis is None else [one % rank for one in given]
        kept = [one for one in range(rank) if one not in reduced]
        keepdims = call.layer.keepdims
        if mapped.port.side == "in" and mapped.axis in reduced:
            demand(mapped.map, Structure(equal=self.equal))
            return []
        if mapped.port.side == "in":
            place = mapped.axis if keepdims else kept.index(mapped.axis)
            return [Mapped(Port("out"), place, mapped.map)]
        return [Mapped(Port("in"), mapped.axis if keepdims else kept[mapped.axis], mapped.map)]


# Operations have no public class names, so they are named as Keras spells them.
_ELEMENTWISE = {
    "numpy": ("Absolute", "Negative", "Square", "Sqrt", "Exp", "Log", "Tanh", "Sigmoid", "Clip"),
    "nn": (
        "Relu", "Relu6", "Sigmoid", "Silu", "Gelu", "Elu", "Selu", "Softplus", "Softsign",
        "HardSigmoid", "HardSilu", "LeakyRelu",
    ),
}  # fmt: skip
_MERGING = (
    "Add", "Subtract", "Multiply", "Maximum", "Minimum", "TrueDivide", "Divide",
    "NotEqual", "Equal", "Greater", "Less", "LogicalAnd", "LogicalOr",
)  # fmt: skip

for _module, _names in _ELEMENTWISE.items():
    for _name in _names:
        register_rule(f"keras.src.ops.{_module}.{_name}", ElementwiseRule())
for _name in _MERGING:
    register_rule(f"keras.src.ops.numpy.{_name}", MergingRule())
for _name in ("Any", "All", "Max", "Min", "Amax", "Amin"):
    register_rule(f"keras.src.ops.numpy.{_name}", ReductionRule())
register_rule("keras.src.ops.numpy.Mean", ReductionRule(equal=True))
