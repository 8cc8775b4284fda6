"""The rules, one module a kind of layer; importing the package registers them all."""

from importlib import import_module

from net2net.rules.base import (
    GrownLayer,
    MappedAxis,
    Port,
    Rule,
    Weight,
    WeightAxis,
    WidthAxis,
    copy_axis,
    divide_axis,
    weight,
)
from net2net.rules.registry import register_rule, registered_rules, rule_for

for _module in (
    "elementwise",
    "core",
    "convolution",
    "normalization",
    "merging",
    "reshaping",
    "operations",
    "recurrent",
    "attention",
):
    import_module(f"net2net.rules.{_module}")

__all__ = [
    "GrownLayer",
    "MappedAxis",
    "Port",
    "Rule",
    "Weight",
    "WeightAxis",
    "WidthAxis",
    "copy_axis",
    "divide_axis",
    "register_rule",
    "registered_rules",
    "rule_for",
    "weight",
]
