"""The rules, one file a kind of layer; importing this registers them all."""

from importlib import import_module

from net2net.rules.base import Grown, Mapped, Port, Rule, Target, Weight, copied, shared
from net2net.rules.registry import register_rule, registered, rule_for

_FILES = (
    "elementwise",
    "prelu",
    "dense",
    "convolution",
    "transposed",
    "depthwise",
    "separable",
    "batch_normalization",
    "layer_normalization",
    "group_normalization",
    "pooling",
    "merging",
    "concatenation",
    "reshaping",
    "recurrent",
    "convolutional_recurrent",
    "bidirectional",
    "time_distributed",
    "embedding",
    "attention",
    "einsum_dense",
    "operations",
    "applications",
)
for _file in _FILES:
    import_module(f"net2net.rules.{_file}")

__all__ = [
    "Grown",
    "Mapped",
    "Port",
    "Rule",
    "Target",
    "Weight",
    "copied",
    "register_rule",
    "registered",
    "rule_for",
    "shared",
]
