"""Hyperparameters of the update: learning rate and momentum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from keras_qan.drmad.hyperparameters.base import Hyperparameter, at_progress, checked_points, one_of
from keras_qan.drmad.hyperparameters.transforms import Logit

if TYPE_CHECKING:
    from keras_qan.drmad.model_info import ModelInfo


class LearningRate(Hyperparameter):
    """The rate α of w ← w + α v, for each layer and point of a schedule; transform log.

    Between the points, which are spread evenly from the first step to the last, it is linear.

    Args:
      per: "layer" or "universal".
      schedule_points: how many points the schedule has; 1 for a constant rate.
      initial: what all start from; None for the compiled optimizer's, or 0.1.
      bounds: lowest and highest rate; by default 1e-6 to 10.
      search: the range that `search_then_descend` looks in.
    """

    default_bounds = (1e-6, 10.0)
    default_initial = 0.1
    default_search = (1e-3, 3.0)
    in_loss = False
    once = True

    def __init__(
        self,
        per: str = "layer",
        *,
        schedule_points: int = 1,
        initial: float | None = None,
        bounds: tuple[float, float] | None = None,
        search: tuple[float, float] | None = None,
    ) -> None:
        self.per = one_of("LearningRate", per, ("layer", "universal"))
        self.schedule_points = checked_points("LearningRate", schedule_points)
        super().__init__(initial=initial, bounds=bounds, search=search)

    @property
    def name(self) -> str:
        """Kind and granularity."""
        points = f", schedule_points={self.schedule_points}" if self.schedule_points > 1 else ""
        return f"LearningRate(per={self.per!r}{points})"

    def shape(self, facts: ModelInfo) -> tuple[int, ...]:
        """`[L, P]`: layers (or 1) and points."""
        return (len(facts.layers) if self.per == "layer" else 1, self.schedule_points)

    def start(self, facts: ModelInfo) -> float:
        """The rate that all points start from."""
        return facts.learning_rate if self.initial is None else self.initial

    def rates(self, value: tf.Tensor, progress: tf.Tensor, facts: ModelInfo) -> tf.Tensor:
        """The rate of each weight tensor, `[number of tensors]`."""
        now = at_progress(value, progress)
        places = facts.layer_of if self.per == "layer" else [0] * len(facts.layer_of)
        return tf.gather(now, tf.constant(places, tf.int32))


class Momentum(Hyperparameter):
    """The momentum γ of v ← γ v − (1 − γ) g; transform logit, bounds 0.001 to 0.999.

    Args:
      schedule_points: how many points its schedule has; 1 for a constant.
      initial: what all start from; None for the compiled optimizer's, or 0.9.
      bounds: lowest and highest value.
      search: the range that `search_then_descend` looks in.
    """

    transform = Logit()
    default_bounds = (1e-3, 0.999)
    default_initial = 0.9
    default_search = (0.3, 0.99)
    in_loss = False
    once = True

    def __init__(
        self,
        schedule_points: int = 1,
        *,
        initial: float | None = None,
        bounds: tuple[float, float] | None = None,
        search: tuple[float, float] | None = None,
    ) -> None:
        self.schedule_points = checked_points("Momentum", schedule_points)
        super().__init__(initial=initial, bounds=bounds, search=search)

    def shape(self, facts: ModelInfo) -> tuple[int, ...]:  # noqa: ARG002
        """`[P]`."""
        return (self.schedule_points,)

    def start(self, facts: ModelInfo) -> float:
        """The momentum that all points start from."""
        return facts.momentum if self.initial is None else self.initial

    def momentum(self, value: tf.Tensor, progress: tf.Tensor) -> tf.Tensor:
        """γ at this point of the training, `[]`."""
        return at_progress(value, progress)
