"""Grow a trained Keras model without changing what it computes."""

from net2net.composites import register_composite
from net2net.copying import copy_blocks
from net2net.deepening import Depth, deepen, deepenable
from net2net.errors import UnsupportedLayerError
from net2net.fitting import GrownFit, Growth, fit_and_grow
from net2net.optimizer_state import register_slots
from net2net.preview import GrowthPlan, PlannedLayer, plan
from net2net.rules import Rule, register_rule, rule_for
from net2net.rules.elementwise import ElementwiseRule
from net2net.widening import Width, grow, widen, widenable

__all__ = [
    "Depth",
    "ElementwiseRule",
    "GrownFit",
    "Growth",
    "GrowthPlan",
    "PlannedLayer",
    "Rule",
    "UnsupportedLayerError",
    "Width",
    "copy_blocks",
    "deepen",
    "deepenable",
    "fit_and_grow",
    "grow",
    "plan",
    "register_composite",
    "register_rule",
    "register_slots",
    "rule_for",
    "widen",
    "widenable",
]
