"""The rally: data and network grow together, stage by stage.

`Rally([Stage(...), ...]).run(build_model, train, validation)` trains a small network on a small
subset, grows both with `net2net`, and goes on until all is full. `costs.multiply_adds` counts what
a model's training costs.
"""

# ruff: noqa: E402  (what is needed is said before the imports that need it)

from keras_qan.utils.backend import require_tensorflow

require_tensorflow("keras_qan.rally")

from keras_qan.rally.flops import Cost, multiply_adds, register_cost
from keras_qan.rally.growth_rule import GrowthRule
from keras_qan.rally.plan import PlannedStage
from keras_qan.rally.rally import Rally
from keras_qan.rally.report import RallyReport, cost_to
from keras_qan.rally.stage import Stage

__all__ = [
    "Cost",
    "GrowthRule",
    "PlannedStage",
    "Rally",
    "RallyReport",
    "Stage",
    "cost_to",
    "multiply_adds",
    "register_cost",
]
