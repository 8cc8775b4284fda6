"""The base class of hyperparameters: numbers with a transform, bounds, and a place in training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from keras_qan.drmad.hyperparameters.transforms import Log, Transform
from keras_qan.utils.validation import check_choice

if TYPE_CHECKING:
    from keras_qan.drmad.data import Batch
    from keras_qan.drmad.model_info import ModelInfo


class Hyperparameter:
    """A tensor of tuned numbers.

    A subclass defines how many there are (`shape`) and where they act: in the training loss
    (`in_loss`, with `penalty` or `weigh`), in the update, or on the initial weights.

    Args:
      initial: value that all start from. Defaults to the class's `default_initial`.
      bounds: lowest and highest value. Defaults to the class's `default_bounds`.
      search: range that `search_then_descend` looks for the average in. Defaults to the class's
        `default_search`.

    Attributes:
      transform: map from the unconstrained scale, on which steps are taken, to the values.
      in_loss: whether the training loss depends on it directly.
      once: whether a training can have only one of the class.

    Raises:
      ValueError: an argument is out of range.
    """

    transform: ClassVar[Transform] = Log()
    default_bounds: ClassVar[tuple[float, float]]
    default_initial: ClassVar[float]
    default_search: ClassVar[tuple[float, float] | None] = None
    in_loss: ClassVar[bool] = True
    once: ClassVar[bool] = False

    def __init__(
        self,
        *,
        initial: float | None = None,
        bounds: tuple[float, float] | None = None,
        search: tuple[float, float] | None = None,
    ) -> None:
        kind = type(self).__name__
        self.bounds = _pair(kind, "bounds", bounds or self.default_bounds, self.transform)
        self.search = search or self.default_search
        if self.search is not None:
            low, high = _pair(kind, "search", self.search, self.transform)
            self.search = max(low, self.bounds[0]), min(high, self.bounds[1])
        if initial is not None and not (
            isinstance(initial, int | float) and self.bounds[0] <= initial <= self.bounds[1]
        ):
            raise ValueError(
                f"{kind} got initial={initial!r}; expected a number within its bounds "
                f"{self.bounds[0]:g} to {self.bounds[1]:g}. Choose another, or widen `bounds`."
            )
        self.initial = None if initial is None else float(initial)

    @property
    def name(self) -> str:
        """Name in logs and messages."""
        return type(self).__name__

    def shape(self, info: ModelInfo) -> tuple[int, ...]:
        """Return the shape of the numbers.

        Args:
          info: what is known of the model.

        Raises:
          ValueError: the model or the loss has no place for this hyperparameter.
        """
        raise NotImplementedError

    def start(self, info: ModelInfo) -> float:  # noqa: ARG002
        """Return the value that all numbers start from.

        Args:
          info: what is known of the model.
        """
        return self.default_initial if self.initial is None else self.initial

    def initial_unconstrained(self, info: ModelInfo) -> np.ndarray:
        """Return the unconstrained numbers to start from, float64 `shape(info)`.

        Args:
          info: what is known of the model.
        """
        value = float(np.clip(self.start(info), *self.bounds))
        return np.full(self.shape(info), self.transform.unconstrained(value))

    def unconstrained_bounds(self) -> tuple[float, float]:
        """Return the bounds on the unconstrained scale."""
        low, high = self.transform.unconstrained(np.asarray(self.bounds))
        return float(low), float(high)

    def penalty(
        self,
        value: tf.Tensor,  # noqa: ARG002
        weights: list[tf.Tensor],  # noqa: ARG002
        info: ModelInfo,  # noqa: ARG002
    ) -> tf.Tensor | None:
        """Return a term of the training loss, `[]`, or None.

        Args:
          value: the numbers, `shape(info)`.
          weights: the model's trainable weights.
          info: what is known of the model.
        """
        return None

    def weigh(
        self,
        value: tf.Tensor,  # noqa: ARG002
        losses: tf.Tensor,
        outputs: Any,  # noqa: ARG002
        batch: Batch,  # noqa: ARG002
        info: ModelInfo,  # noqa: ARG002
    ) -> tf.Tensor:
        """Return the losses of a batch's examples, changed; `[B]`.

        Args:
          value: the numbers, `shape(info)`.
          losses: of the batch's examples, `[B]`.
          outputs: what the model answers for the batch.
          batch: inputs, targets, weights and places of the examples.
          info: what is known of the model.
        """
        return losses

    def config(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return {"class": type(self).__name__} | {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(self).items()
            if not key.startswith("_")
        }

    def __repr__(self) -> str:
        return self.name


class GranularHyperparameter(Hyperparameter):
    """A hyperparameter with a number for each part of the model, of the kind that `per` names.

    Args:
      per: one of the class's `granularities`. Defaults to the first of them.
      initial: see `Hyperparameter`.
      bounds: see `Hyperparameter`.
      search: see `Hyperparameter`.
    """

    granularities: ClassVar[tuple[str, ...]] = ("layer", "universal")

    def __init__(
        self,
        per: str | None = None,
        *,
        initial: float | None = None,
        bounds: tuple[float, float] | None = None,
        search: tuple[float, float] | None = None,
    ) -> None:
        kinds = self.granularities
        self.per = check_choice("per", kinds[0] if per is None else per, kinds)
        super().__init__(initial=initial, bounds=bounds, search=search)

    @property
    def name(self) -> str:
        """Class and granularity."""
        return f"{type(self).__name__}(per={self.per!r})"


def _pair(
    kind: str, argument: str, pair: tuple[float, float], transform: Transform
) -> tuple[float, float]:
    fault: str | None = "two numbers"
    if isinstance(pair, list | tuple) and len(pair) == 2:
        low, high = pair
        numbers = all(isinstance(v, int | float) and math.isfinite(v) for v in pair)
        fault = transform.fault(low, high) if numbers else "two finite numbers"
    if fault:
        raise ValueError(
            f"{kind} got {argument}={pair!r}; expected {fault}, as its transform is "
            f"{transform.name}. Give for example {argument}={(1e-4, 0.5)}."
        )
    return float(pair[0]), float(pair[1])


def at_progress(values: tf.Tensor, progress: tf.Tensor) -> tf.Tensor:
    """Values between a schedule's points, linear in the progress of the training.

    Args:
      values: `[..., P]`, at P points spread evenly from the first step to the last.
      progress: `[]` in [0, 1].

    Returns:
      `[...]`.
    """
    points = values.shape[-1]
    if points == 1:
        return values[..., 0]
    place = progress * tf.cast(points - 1, progress.dtype)
    # A hat function for each point; differentiable in the values and dense, as P is small.
    hats = tf.maximum(
        tf.cast(0.0, progress.dtype),
        1.0 - tf.abs(place - tf.range(points, dtype=progress.dtype)),
    )
    return tf.reduce_sum(values * tf.cast(hats, values.dtype), axis=-1)
