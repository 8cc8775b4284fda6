"""Learning rate and momentum as hyperparameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from keras_qan.drmad.hyperparameters.base import (
    GranularHyperparameter,
    Hyperparameter,
    at_progress,
)
from keras_qan.drmad.hyperparameters.transforms import Logit
from keras_qan.utils.validation import check_integer

if TYPE_CHECKING:
    from keras_qan.drmad.model_info import ModelInfo

_CONSTANT = "1 is constant through the training."


class LearningRate(GranularHyperparameter):
    """The rate α of w ← w + α v, for each layer and point of a schedule; transform log.

    Between the points, which are spread evenly from the first step to the last, it is linear.

    Args:
      per: "layer" or "universal". Defaults to "layer".
      schedule_points: number of points. Defaults to 1, a constant rate.
      initial: rate that all start from. Defaults to the compiled optimizer's, or 0.1.
      bounds: lowest and highest rate. Defaults to 1e-6 to 10.
      search: range that `search_then_descend` looks in. Defaults to 1e-3 to 3.

    Raises:
      ValueError: an argument is out of range.
    """

    default_bounds = (1e-6, 10.0)
    default_initial = 0.1
    default_search = (1e-3, 3.0)
    in_loss = False
    once = True

    def __init__(
        self,
        per: str | None = None,
        *,
        schedule_points: int = 1,
        initial: float | None = None,
        bounds: tuple[float, float] | None = None,
        search: tuple[float, float] | None = None,
    ) -> None:
        self.schedule_points = check_integer("schedule_points", schedule_points, 1, hint=_CONSTANT)
        super().__init__(per, initial=initial, bounds=bounds, search=search)

    @property
    def name(self) -> str:
        """Class and granularity."""
        points = f", schedule_points={self.schedule_points}" if self.schedule_points > 1 else ""
        return f"LearningRate(per={self.per!r}{points})"

    def shape(self, info: ModelInfo) -> tuple[int, ...]:
        """`[L, P]`: layers (or 1) and points."""
        return (len(info.layers) if self.per == "layer" else 1, self.schedule_points)

    def start(self, info: ModelInfo) -> float:
        """Rate that all points start from."""
        return info.learning_rate if self.initial is None else self.initial

    def rates(self, value: tf.Tensor, progress: tf.Tensor, info: ModelInfo) -> tf.Tensor:
        """Return the rate of each weight tensor, `[number of tensors]`.

        Args:
          value: the rates, `[L, P]`.
          progress: share of the training that is done, `[]`, in [0, 1].
          info: what is known of the model.
        """
        now = at_progress(value, progress)
        places = info.layer_of if self.per == "layer" else [0] * len(info.layer_of)
        return tf.gather(now, tf.constant(places, tf.int32))


class Momentum(Hyperparameter):
    """The momentum γ of v ← γ v − (1 − γ) g; transform logit, bounds 0.001 to 0.999.

    Args:
      schedule_points: number of points. Defaults to 1, a constant.
      initial: momentum that all start from. Defaults to the compiled optimizer's, or 0.9.
      bounds: lowest and highest momentum. Defaults to 0.001 to 0.999.
      search: range that `search_then_descend` looks in. Defaults to 0.3 to 0.99.

    Raises:
      ValueError: an argument is out of range.
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
        self.schedule_points = check_integer("schedule_points", schedule_points, 1, hint=_CONSTANT)
        super().__init__(initial=initial, bounds=bounds, search=search)

    def shape(self, info: ModelInfo) -> tuple[int, ...]:  # noqa: ARG002
        """`[P]`."""
        return (self.schedule_points,)

    def start(self, info: ModelInfo) -> float:
        """Momentum that all points start from."""
        return info.momentum if self.initial is None else self.initial

    def momentum(self, value: tf.Tensor, progress: tf.Tensor) -> tf.Tensor:
        """Return γ at this point of the training, `[]`.

        Args:
          value: the momenta, `[P]`.
          progress: share of the training that is done, `[]`, in [0, 1].
        """
        return at_progress(value, progress)
