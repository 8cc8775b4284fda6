"""Grow a trained Keras model without changing what it computes."""

from net2net.deepening import Depth, deepen, deepenable
from net2net.errors import UnsupportedLayerError
from net2net.rules import Rule, register_rule, rule_for
from net2net.rules.elementwise import ElementwiseRule
from net2net.widening import Width, grow, widen, widenable

__all__ = [
    "Depth",
    "ElementwiseRule",
    "Rule",
    "UnsupportedLayerError",
    "Width",
    "deepen",
    "deepenable",
    "grow",
    "register_rule",
    "rule_for",
    "widen",
    "widenable",
]
