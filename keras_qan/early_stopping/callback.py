"""CurveStopping: stops a `fit` that is predicted to end behind the best so far."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_qan.early_stopping.curves import Feature, FeatureTable
from keras_qan.early_stopping.history import CurveHistory, FinishedCurve
from keras_qan.early_stopping.intervals import Prediction
from keras_qan.early_stopping.predictor import CurvePredictor
from keras_qan.early_stopping.rule import Mode, StopRule, mode_of

_log = logging.getLogger(__name__)

FeatureProvider = Mapping[str, Feature] | Callable[[keras.Model], Mapping[str, Feature]]

#: Regressors are made anew when there are so many times more finished curves.
_GROWTH = 1.1


class CurveStopping(keras.callbacks.Callback):
    """Stops trainings that are predicted to end behind the best finished ones.

    Every training that runs to its end is added to a history and learned from. As soon as there are
    enough, the end of the present one is predicted after each epoch, and it is stopped if with
    `confidence` it will end behind the `keep_best`-th best: arXiv:1705.10823, with intervals from
    the residuals themselves. Trainings of other lengths are compared at the length of this one, and
    one that goes on from a later epoch with those that did the same. Copies, as KerasTuner makes
    them for each trial, share the history; so do processes that are given the same directory.

    Args:
      history: the directory of finished curves, or a `CurveHistory`.
      monitor: the metric, as it stands in the logs.
      confidence: how sure it has to be before a training is stopped, in (0, 1). With conformal
        intervals, Δ / (1 − Δ) finished curves are needed before anything can be stopped: 99 for
        0.99, 19 for 0.95.
      keep_best: n, trainings that may still end among the best n go on.
      margin: in the metric's unit; those that may end so far behind go on too.
      features: what else is known of a model: a mapping from names to numbers or names, or a
        function of the model that gives one. Its number of weights, its number of layers and its
        initial learning rate are always taken.
      mode: "max" where larger is better, "min" for losses; by default the metric's name decides.
      predictor: what predicts; by default `CurvePredictor()`.

    Attributes:
      prediction: where the present or last training is predicted to end; None if it was not.
      stopped_epoch: the epoch that the last training was stopped after, counted from 0; None if it
        was not stopped.
      num_missing: how many finished curves are missing before anything can be stopped.

    Raises:
      ValueError: an argument is out of range, or the metric's name does not say its mode.
      OSError: the directory cannot be made.

    Example:
      >>> import tempfile
      >>> stopper = CurveStopping(tempfile.mkdtemp(), "val_loss", confidence=0.95, keep_best=3)
      >>> stopper.num_missing
      19
    """

    def __init__(
        self,
        history: str | os.PathLike[str] | CurveHistory,
        monitor: str = "val_accuracy",
        confidence: float = 0.99,
        keep_best: int = 1,
        margin: float = 0.0,
        features: FeatureProvider | None = None,
        mode: Mode | None = None,
        predictor: CurvePredictor | None = None,
    ) -> None:
        super().__init__()
        rule = StopRule(confidence, keep_best, margin, mode or mode_of(monitor))
        if features is not None and not callable(features):
            FeatureTable([features])
        learned = _Learned(predictor or CurvePredictor())
        kept = history if isinstance(history, CurveHistory) else CurveHistory(history)
        self._adopt(kept, learned, monitor, rule, features)

    def _adopt(
        self,
        history: CurveHistory,
        learned: _Learned,
        monitor: str,
        rule: StopRule,
        features: FeatureProvider | None,
    ) -> None:
        """Sets every attribute; history and predictor are shared between copies."""
        self.history = history
        self.monitor = monitor
        self.rule = rule
        self._learned = learned
        self._given = features
        self.prediction: Prediction | None = None
        self.stopped_epoch: int | None = None
        self._values: list[float] = []
        self._predictions: list[tuple[float, ...]] = []
        self._features: dict[str, Feature] = {}
        self._planned = 0
        self._first_epoch = 0
        self._to_beat: float | None = None
        self._is_blind = True

    def __deepcopy__(self, memo: dict[int, Any]) -> CurveStopping:
        """A callback for another training, with the same history."""
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        keras.callbacks.Callback.__init__(copy)
        copy._adopt(self.history, self._learned, self.monitor, self.rule, self._given)
        return copy

    @property
    def predicted_end(self) -> float:
        """Where the present or last training is predicted to end; NaN if it was not predicted."""
        return math.nan if self.prediction is None else float(self.prediction.end[0])

    @property
    def num_missing(self) -> int:
        """How many finished curves are missing before anything can be stopped."""
        return max(0, self._needed - len(self.history.finished(self.monitor)))

    @property
    def _needed(self) -> int:
        predictor = self._learned.predictor
        return self.rule.curves_needed(predictor.rule, predictor.min_curves)

    # Keras's hooks.

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Forgets the last training, and looks at the model."""
        self.prediction, self.stopped_epoch = None, None
        self._values, self._predictions, self._is_blind = [], [], True
        self._planned = 0
        self._features = self._described()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Learns from the curves that have finished since, before the first epoch."""
        if self._planned:
            return  # not the first
        self._planned = int(self.params.get("epochs", epoch + 1)) - epoch
        self._first_epoch = epoch
        finished = self.history.finished(self.monitor, epoch)
        missing = self._needed - len(finished)
        if missing > 0:
            _log.info("CurveStopping trains on: %d finished curves are missing", missing)
        if missing > 0 or self._planned < 2:
            return
        self._to_beat = self.rule.to_beat(one.values[: self._planned][-1] for one in finished)
        self._learned.bring_up_to_date(finished, self._planned, set(self._features))
        self._is_blind = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the metric, predicts the end, and stops if that is behind."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            raise ValueError(
                f"Received logs with {sorted(logs or {})}; expected monitor={self.monitor!r} among "
                "them. Pass validation_data (with validation_freq=1) and the metric to compile, or "
                "another monitor."
            )
        self._values.append(float(value))
        if self._is_blind or len(self._values) >= self._planned:
            return
        if not math.isfinite(self._values[-1]):
            self._is_blind = True
            warnings.warn(
                f"{self.monitor} is {value} after epoch {epoch}: CurveStopping predicts nothing "
                "for the rest of this training. keras.callbacks.TerminateOnNaN ends such ones.",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        found = self._learned.predict(self._values, self._features, self._planned)
        if found is None or self._to_beat is None:
            return
        self.prediction = found
        ends = (float(part[0]) for part in found)
        self._predictions.append((float(len(self._values)), *ends))
        if self.rule.stops(found, self._to_beat)[0]:
            self.stopped_epoch = epoch
            self.model.stop_training = True
            if self.params.get("verbose"):
                print(
                    f"\nEpoch {epoch + 1}: stopped, as {self.monitor} is predicted to end at "
                    f"{self.predicted_end:.4g} ({found.low[0]:.4g} … {found.high[0]:.4g}), behind "
                    f"{self._to_beat:.4g}",
                    flush=True,
                )

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Adds the curve to the history, unless something else broke the training off."""
        is_whole = len(self._values) >= self._planned
        if self._values and (is_whole or self.stopped_epoch is not None):
            self.history.add(self._record(stopped=self.stopped_epoch is not None))

    # What they are made of.

    def _record(self, *, stopped: bool) -> FinishedCurve:
        return FinishedCurve(
            self.monitor,
            tuple(self._values),
            self._features,
            self._planned,
            stopped,
            tuple(self._predictions),
            self._first_epoch,
        )

    def _described(self) -> dict[str, Feature]:
        model = self.model
        found: dict[str, Feature] = {
            "num_weights": int(model.count_params()) if model.built else 0,
            "num_layers": len(model.layers),
        }
        rate = getattr(getattr(model, "optimizer", None), "learning_rate", None)
        if rate is not None:
            found["learning_rate"] = float(np.asarray(keras.ops.convert_to_numpy(rate)))
        given = self._given(model) if callable(self._given) else self._given
        found |= dict(given or {})
        FeatureTable([found])  # refuses what it cannot encode, before the training
        return found


class _Learned:
    """A predictor and the curves it learned from; what copies of a callback share."""

    def __init__(self, predictor: CurvePredictor) -> None:
        self.predictor = predictor
        self._num_curves = 0
        self._asked: tuple[int, set[str]] = (0, set())

    def bring_up_to_date(
        self, finished: list[FinishedCurve], planned: int, names: set[str]
    ) -> None:
        """Learns anew where there is a tenth more to learn from, or something else to predict."""
        has_grown = len(finished) >= max(1.0, _GROWTH * self._num_curves)
        if has_grown or (planned, names) != self._asked:
            rows = [one.features for one in finished]
            self._table = FeatureTable(rows, names)
            # Longer trainings teach where they stood when this one will end.
            curves = [one.values[:planned] for one in finished]
            self.predictor.fit(curves, self._table.encode(rows))
            self._num_curves, self._asked = len(finished), (planned, names)

    def predict(
        self, values: list[float], features: Mapping[str, Feature], planned: int
    ) -> Prediction | None:
        if not self.predictor.can_predict(len(values)):
            return None
        return self.predictor.predict([values], self._table.encode([features]), np.array([planned]))
