"""Operations of `keras.ops` in a Functional model: the elementwise ones, such as x + y."""

from __future__ import annotations

from net2net.rules.elementwise import ElementwiseRule
from net2net.rules.merging import MergingRule
from net2net.rules.registry import register_rule

# Operations have no public class names, so they are named as Keras spells them.
_ELEMENTWISE = {
    "numpy": ("Absolute", "Negative", "Square", "Sqrt", "Exp", "Log", "Tanh", "Sigmoid", "Clip"),
    "nn": (
        "Relu", "Relu6", "Sigmoid", "Silu", "Gelu", "Elu", "Selu", "Softplus", "Softsign",
        "HardSigmoid", "HardSilu", "LeakyRelu",
    ),
}  # fmt: skip
_MERGING = ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "TrueDivide", "Divide")

for _module, _names in _ELEMENTWISE.items():
    for _name in _names:
        register_rule(f"keras.src.ops.{_module}.{_name}", ElementwiseRule())
for _name in _MERGING:
    register_rule(f"keras.src.ops.numpy.{_name}", MergingRule())
