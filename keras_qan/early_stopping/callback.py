"""CurveStopping: stops a `fit` that is predicted to end behind the best trainings so far."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
import numpy as np

from keras_qan.early_stopping.curves import Feature, FeatureTable, plain_feature
from keras_qan.early_stopping.history import CurveHistory, FinishedCurve
from keras_qan.early_stopping.intervals import Prediction
from keras_qan.early_stopping.predictor import CurvePredictor
from keras_qan.early_stopping.rule import Mode, StopRule
from keras_qan.storage.serialization import keras_serializable
from keras_qan.utils.backend import Keras3Callback
from keras_qan.utils.validation import check

FeatureProvider = Mapping[str, Feature] | Callable[[keras.Model], Mapping[str, Feature]]

#: Regressors are fitted anew when the number of finished curves has grown by this factor.
_GROWTH = 1.1


@keras_serializable
class CurveStopping(Keras3Callback, keras.callbacks.Callback):
    """Stops trainings that are predicted to end behind the best finished ones.

    Every training that runs to its end joins a history. Once that is large enough, the end of the
    present training is predicted after each epoch, and it is stopped if with `confidence` it will
    end behind the `keep_best`-th best: arXiv:1705.10823, with intervals from the residuals.
    Where a validation comes every few epochs, its last value stands for those in between.
    Trainings of other lengths are compared at the length of this one; one that resumes from a later
    epoch with those that did the same. Copies, as KerasTuner makes them for each trial, share the
    history; so do processes with the same directory.

    Args:
      history: the directory of finished curves, or a `CurveHistory`.
      monitor: the metric's name in the logs. Defaults to "val_accuracy".
      confidence: probability that a stopped training ends behind, in (0, 1). With conformal
        intervals, Δ / (1 − Δ) finished curves are needed before anything can be stopped: 99 for
        0.99, 19 for 0.95. Defaults to 0.99.
      keep_best: n, trainings that may still end among the best n go on. Defaults to 1.
      margin: in the metric's unit; those that may end so far behind go on too. Defaults to 0.
      features: further features of a model: a mapping from names to numbers or names, or a
        function of the model that gives one. The number of weights, the number of layers and the
        initial learning rate are always taken. Defaults to none.
      mode: "max" where larger is better, "min" for losses. Defaults to what Keras knows, as in its
        own callbacks: the direction of the metric's object, and "min" for the loss.
      predictor: Defaults to `CurvePredictor()`.
      verbose: 0 for silence, 1 for a line where a training is stopped, 2 for each prediction too.
        Defaults to 1 in a `fit` that is verbose, to 0 in another.

    Attributes:
      prediction: of the end of the present or last training; None if there was none.
      stopped_epoch: the epoch after which the last training was stopped, counted from 0; None if
        it was not stopped.
      num_missing: the number of finished curves missing before anything can be stopped.

    Raises:
      ValueError: an argument is out of range; or, after the first epoch of a `fit`, the metric is
        not among the logs or no number, or Keras does not know its mode.
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
        *,
        features: FeatureProvider | None = None,
        mode: Mode | Literal["auto"] | None = None,
        predictor: CurvePredictor | None = None,
        verbose: Literal[0, 1, 2] | None = None,
    ) -> None:
        super().__init__()
        self._given_mode = mode
        self._knows_mode = mode not in (None, "auto") or monitor in ("loss", "val_loss")
        usual: Any = mode if mode not in (None, "auto") else "min" if self._knows_mode else "max"
        self.rule = StopRule(confidence, keep_best, margin, usual)
        if features is not None and not callable(features):
            FeatureTable([features])
        self.history = history if isinstance(history, CurveHistory) else CurveHistory(history)
        self.monitor = monitor
        self._shared = _SharedPredictor(predictor or CurvePredictor())
        self._given = features
        check(verbose in (None, 0, 1, 2), "verbose", verbose, "0, 1, 2 or None for that of fit")
        self.verbose = verbose
        self._reset()

    def _reset(self) -> None:
        """Forget the last training."""
        self.prediction: Prediction | None = None
        self.stopped_epoch: int | None = None
        self._values: list[float] = []
        self._predictions: list[tuple[float, ...]] = []
        self._features: dict[str, Feature] = {}
        self._planned = 0
        self._first_epoch = 0
        self._threshold: float | None = None
        self._is_predicting = False

    def __deepcopy__(self, memo: dict[int, Any]) -> CurveStopping:
        """Copy the callback for another training; history and predictor are shared."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(self.__dict__)
        keras.callbacks.Callback.__init__(twin)
        twin._reset()
        return twin

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that it was made with, for `keras.saving`.

        The finished curves are no part of it, but the path of their directory. A function that
        gives features has to be registered with `keras.saving`.
        """
        return {
            "history": os.fspath(self.history.directory),
            "monitor": self.monitor,
            "confidence": self.rule.confidence,
            "keep_best": self.rule.keep_best,
            "margin": self.rule.margin,
            "features": self._given,
            "mode": self._given_mode,
            "predictor": self._shared.predictor,
            "verbose": self.verbose,
        }

    @property
    def predicted_end(self) -> float:
        """Predicted end of the present or last training; NaN if there was no prediction."""
        return math.nan if self.prediction is None else float(self.prediction.end[0])

    @property
    def num_missing(self) -> int:
        """Number of finished curves missing before anything can be stopped."""
        return max(0, self._needed - len(self.history.finished_curves(self.monitor)))

    @property
    def _needed(self) -> int:
        predictor = self._shared.predictor
        return self.rule.curves_needed(predictor.rule, predictor.min_curves)

    # Keras's hooks.

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Forget the last training, and take the model's features."""
        self._reset()
        self._features = self._describe_model()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Before the first epoch, note how many there will be.

        Raises:
          ValueError: that is not known.
        """
        if not self._planned:
            epochs = (self.params or {}).get("epochs")
            if epochs is None:
                raise ValueError(
                    "CurveStopping was not told how many epochs this training has; expected a list "
                    "of callbacks in fit, or in a loop of your own "
                    "keras.callbacks.CallbackList(callbacks, model=model, epochs=...)."
                )
            self._planned = int(epochs) - epoch
            self._first_epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the metric, predict the end, and stop if that is behind."""
        number = epoch + 1 - self._first_epoch
        value = self._value(logs or {})
        if value is None:  # no validation in this epoch
            self._values += self._values[-1:]
            return
        is_first = not self._values
        self._values += [value] * (number - len(self._values))
        if is_first:
            if not self._features["num_weights"]:
                self._features |= _size_of(self.model)  # it was built by its first step
            self._learn()
        if not self._is_predicting or len(self._values) >= self._planned:
            return
        if not math.isfinite(value):
            self._give_up(
                f"{self.monitor} is {value} after epoch {epoch}",
                "keras.callbacks.TerminateOnNaN ends such trainings.",
            )
            return
        self._predict(epoch)

    def _value(self, logs: Mapping[str, Any]) -> float | None:
        """The metric in an epoch's logs; None where there was no validation."""
        found = logs.get(self.monitor)
        if found is None:
            has_validated = any(name.startswith("val_") for name in logs)
            if self.monitor.startswith("val_") and not has_validated and _may_validate():
                return None
            raise ValueError(
                f"Received logs with {sorted(logs)}; expected monitor={self.monitor!r} among "
                "them. Pass validation_data and the metric to compile, or another monitor."
            )
        try:
            array = np.asarray(keras.ops.convert_to_numpy(found), np.float64)
        except (TypeError, ValueError):
            array = np.zeros(0)
        if array.size != 1:
            raise ValueError(
                f"Received {self.monitor}={found!r}; expected a single number, so that trainings "
                "can be ranked. Give the metric an average, such as "
                "keras.metrics.F1Score(average='macro'), or take another monitor."
            )
        return float(array.reshape(()))

    def _learn(self) -> None:
        """Learn from the curves that have finished since the last training."""
        if not self._knows_mode:
            mode = _direction_of(self.monitor, self.model)
            self.rule, self._knows_mode = dataclasses.replace(self.rule, mode=mode), True
        finished = self.history.finished_curves(self.monitor, self._first_epoch)
        missing = self._needed - len(finished)
        if missing > 0:
            self._say(2, f"CurveStopping cannot stop yet: {missing} finished curves are missing")
        if missing > 0 or self._planned < 2:
            return
        self._threshold = self.rule.threshold(one.values[: self._planned][-1] for one in finished)
        try:
            self._shared.refit(finished, self._planned, self._features)
        except ValueError as error:
            self._give_up(str(error))
            return
        self._is_predicting = True

    def _give_up(self, why: str, hint: str = "") -> None:
        self._is_predicting = False
        warnings.warn(
            f"{why}: CurveStopping predicts nothing for the rest of this training. {hint}".rstrip(),
            RuntimeWarning,
            stacklevel=3,
        )

    def _predict(self, epoch: int) -> None:
        """Predict the end, and stop the training where it is behind."""
        found = self._shared.predict(self._values, self._features, self._planned)
        if found is None or self._threshold is None:
            return
        self.prediction = found
        ends = (float(part[0]) for part in found)
        self._predictions.append((float(len(self._values)), *ends))
        end = (
            f"{self.monitor} is predicted to end at {self.predicted_end:.4g} "
            f"({found.low[0]:.4g} … {found.high[0]:.4g})"
        )
        if self.rule.should_stop(found, self._threshold)[0]:
            self.stopped_epoch = epoch
            self.model.stop_training = True
            self._say(1, f"Epoch {epoch + 1}: stopped, as {end}, behind {self._threshold:.4g}")
        else:
            self._say(2, f"Epoch {epoch + 1}: {end}, not surely behind {self._threshold:.4g}")

    def _say(self, level: int, text: str) -> None:
        """Print a line where the verbosity reaches the level."""
        verbose = bool((self.params or {}).get("verbose")) if self.verbose is None else self.verbose
        if verbose >= level:
            print(f"\n{text}", flush=True)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Add the curve to the history, unless something else ended the training early."""
        is_whole = len(self._values) >= self._planned
        if self._values and (is_whole or self.stopped_epoch is not None):
            self.history.add(self._record(stopped=self.stopped_epoch is not None))

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

    def _describe_model(self) -> dict[str, Feature]:
        model = self.model
        found = _size_of(model)
        rate = getattr(getattr(model, "optimizer", None), "learning_rate", None)
        if rate is not None:
            found["learning_rate"] = float(np.asarray(keras.ops.convert_to_numpy(rate)))
        given = self._given(model) if callable(self._given) else self._given
        found |= {name: plain_feature(value) for name, value in dict(given or {}).items()}
        FeatureTable([found])  # refuses what it cannot encode, before the training
        return found


def _size_of(model: keras.Model) -> dict[str, Feature]:
    """Return how many weights and layers a model has; no weights before it is built."""
    num_weights = int(model.count_params()) if model.built else 0
    return {"num_weights": num_weights, "num_layers": len(model.layers)}


class _SharedPredictor:
    """A predictor and the curves it learned from, shared by all copies of a callback."""

    def __init__(self, predictor: CurvePredictor) -> None:
        self.predictor = predictor
        self._num_curves = 0
        self._settings: tuple[int, set[str]] = (0, set())

    def refit(
        self, finished: list[FinishedCurve], planned: int, features: Mapping[str, Feature]
    ) -> None:
        """Fit anew where there are a tenth more curves, or another length or other features.

        Raises:
          ValueError: features do not fit those of the finished trainings.
        """
        names = set(features)
        has_grown = len(finished) >= max(1.0, _GROWTH * self._num_curves)
        if has_grown or (planned, names) != self._settings:
            rows = [one.features for one in finished]
            self._table = FeatureTable(rows, names)
            # Longer trainings are learned from up to the end of this one.
            curves = [one.values[:planned] for one in finished]
            self.predictor.fit(curves, self._table.encode(rows))
            self._num_curves, self._settings = len(finished), (planned, names)
        self._table.encode([features])

    def predict(
        self, values: list[float], features: Mapping[str, Feature], planned: int
    ) -> Prediction | None:
        if not self.predictor.can_predict(len(values)):
            return None
        return self.predictor.predict([values], self._table.encode([features]), np.array([planned]))


def _may_validate() -> bool:
    """Return whether the running `fit` has validation data, which it does not tell callbacks."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "fit" and "validation_data" in frame.f_locals:
            return frame.f_locals["validation_data"] is not None
        frame = frame.f_back
    return False


def _direction_of(monitor: str, model: keras.Model) -> Mode:
    """Find which way a metric is better, as Keras's own callbacks do: its object says it.

    Raises:
      ValueError: Keras does not know.
    """
    name = monitor.removeprefix("val_")
    groups = [getattr(one, "metrics", []) for one in getattr(model, "metrics", [])]
    for metric in (one for group in groups for one in group):
        direction = getattr(metric, "_direction", None)
        if metric.name == name and direction in ("up", "down"):
            return "max" if direction == "up" else "min"
    raise ValueError(
        f"Received monitor={monitor!r}, and Keras does not know whether larger is better; expected "
        'the loss, or a metric of Keras\'s own in compile. Pass mode="max" or mode="min".'
    )
