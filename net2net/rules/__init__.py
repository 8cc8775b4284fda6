"""The rules, one file a kind of layer; importing this registers them all."""

from importlib import import_module

from net2net.rules.base import GrownLayer, MappedOutput, Port, Rule, Target, Weight, copied, divided
from net2net.rules.registry import register_rule, registered, rule_for

_FILES = (
    "elementwise",
    "core",
    "convolution",
    "normalization",
    "merging",
    "reshaping",
    "recurrent",
    "attention",
)
for _file in _FILES:
    import_module(f"net2net.rules.{_file}")

__all__ = [
    "GrownLayer",
    "MappedOutput",
    "Port",
    "Rule",
    "Target",
    "Weight",
    "copied",
    "divided",
    "register_rule",
    "registered",
    "rule_for",
]
