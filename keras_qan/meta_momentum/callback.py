"""How a pull fades: the share of its strength at each point of its time.

MetaMomentum: Keras's hooks → a teacher's pull in the training step.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_qan.actions import Schedule
from keras_qan.meta_momentum.losses import Pull, TeacherLoss
from keras_qan.meta_momentum.teachers import Teacher, teacher_of
from keras_qan.meta_momentum.train_step import TrainStepPatch, detach_leftovers
from keras_qan.storage.serialization import configurable


@configurable
class LinearFade:
    """1 − t/T: the whole strength at first, nothing at the end."""

    def __call__(self, progress: tf.Tensor) -> tf.Tensor:
        """The share at `progress`, float32 `[]` in [0, 1]."""
        return 1.0 - progress


@configurable
class ConstantStrength:
    """1 until the time is over, then nothing: as the original had it."""

    def __call__(self, progress: tf.Tensor) -> tf.Tensor:
        """The share at `progress`, float32 `[]` in [0, 1]."""
        return tf.ones_like(progress)


class MetaMomentum(keras.callbacks.Callback):
    """Pulls a model in training toward a teacher, for a time.

    After each update t the watched weights move toward the teacher's,

        w ← w + c_t (w* − w),   c_t = strength · fade(t / steps) for t < steps, then 0

    (issue 5 of the original QAN, where c was constant for its time; `fade=Constant()` gives that).
    Other forms add to the loss instead: `Features()` and `Distillation()`. The model is not
    rebuilt, and its compiled loss and the loss that is reported stay the same.

    A teacher that was trained on the same task is leakage: what a student gains by it was paid for
    elsewhere. Report it as an arm of its own.

    Args:
      teacher: a trained model; "previous" for the best student of this callback's earlier
        trainings, by validation loss; or an object as in `keras_qan.meta_momentum.teachers`.
      strength: c, in [0, 1): the share of the way that one step covers; for the losses, their
        weight.
      steps: how many optimizer steps it lasts; by default 1/strength for `Pull`, and the whole
        training for the losses.
      layers: names of the layers to watch; by default all with a trained kernel.
      form: `Pull()`, `Features()` or `Distillation(temperature)`.
      fade: how it fades, a schedule from progress in [0, 1] to a share; by default `Linear()`.
      directory: where "previous" is kept; gone on from if there is something.

    Attributes:
      teacher: who teaches.
      keeps: whether the student of a training may become the teacher. Set it to False for
        evaluations.

    Raises:
      ValueError: an argument is out of range.
      CheckpointError: the files in the directory are damaged.

    Example:
      >>> import numpy as np
      >>> pull = MetaMomentum("previous", strength=0.05)
      >>> x, y = np.ones((64, 4)), np.ones((64, 1))
      >>> for _ in range(2):
      ...     model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
      ...     model.compile("sgd", "mse")
      ...     history = model.fit(x, y, verbose=0, callbacks=[pull])
      >>> pull.teacher.episodes
      2
    """

    def __init__(
        self,
        teacher: keras.Model | Teacher | str,
        strength: float = 0.01,
        steps: int | None = None,
        layers: Sequence[str] | None = None,
        form: TeacherLoss | None = None,
        fade: Schedule | None = None,
        directory: str | Path | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 <= strength < 1.0:
            raise ValueError(
                f"MetaMomentum got strength={strength}; expected a number in [0, 1): the share of "
                "the way to the teacher that one step covers. The original used 0.01 and 0.001."
            )
        if steps is not None and (isinstance(steps, bool) or int(steps) != steps or steps < 1):
            raise ValueError(
                f"MetaMomentum got steps={steps}; expected at least 1 optimizer step, or None for "
                "1/strength."
            )
        if isinstance(layers, str) or (layers is not None and not list(layers)):
            raise ValueError(
                f"MetaMomentum got layers={layers!r}; expected a list of layer names, for example "
                "['conv_1'], or None for all."
            )
        form = Pull() if form is None else form
        if isinstance(form, type) or not callable(getattr(form, "bind", None)):
            raise ValueError(
                f"MetaMomentum got form={form!r}; expected Pull(), Features() or "
                "Distillation(temperature=2.0) from keras_qan.meta_momentum."
            )
        if fade is not None and (isinstance(fade, type) or not callable(fade)):
            raise ValueError(
                f"MetaMomentum got fade={fade!r}; expected a schedule such as Linear() or Cosine()."
            )
        self.teacher = teacher_of(teacher, directory)
        self.strength, self.steps = float(strength), steps
        self.layers = None if layers is None else tuple(layers)
        self.form: TeacherLoss = form
        self.fade: Schedule = LinearFade() if fade is None else fade
        self.keeps = True
        self._attachment: TrainStepPatch | None = None
        self._scores: dict[str, float] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> MetaMomentum:
        """A callback for another training, whose teacher knows what this one's does."""
        made = copy.copy(self)
        memo[id(self)] = made
        if hasattr(type(self.teacher), "__deepcopy__"):
            made.teacher = copy.deepcopy(self.teacher, memo)
        made._model = None
        made._attachment, made._scores = None, {}
        return made

    # Keras's hooks.

    def set_model(self, model: keras.Model) -> None:
        """Notes the model, and undoes what a fit that was broken off left in it."""
        super().set_model(model)
        if isinstance(model, keras.Model):
            detach_leftovers(model)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Puts the pull into the training step.

        Raises:
          TypeError: the model is not one of Keras 3.
          ValueError: the teacher does not fit the model, or the training's length is not known.
        """
        model = self.model
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"MetaMomentum got a model of class {type(model).__module__}."
                f"{type(model).__name__}; expected a Keras 3 model (keras {keras.__version__})."
            )
        self._scores = {}
        attachment = self._attachment
        if attachment is None or attachment.model is not model:
            bound = self.form.bind(model, self.layers)
            attachment = self._attachment = TrainStepPatch(model, bound, self.fade)
        attachment.attach(self.teacher, self.strength, self._length())

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Validation has no teacher."""
        if self._attachment is not None:
            self._attachment.is_evaluating = True

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Training goes on."""
        if self._attachment is not None:
            self._attachment.is_evaluating = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Notes the losses, by which the best student is chosen."""
        for name in ("val_loss", "loss"):
            if name in (logs or {}):
                self._scores[name] = float((logs or {})[name])

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Leaves the model as it was, and lets the teacher hear how the student ended."""
        if self._attachment is not None:
            self._attachment.detach()
        if self.keeps:
            kind = "val_loss" if "val_loss" in self._scores else "loss"
            self.teacher.note(self.model, self._scores.get(kind, math.nan), kind)

    def _length(self) -> int:
        steps = self.form.default_steps(self.strength) if self.steps is None else self.steps
        if steps is not None:
            return int(steps)
        an_epoch, epochs = self.params.get("steps"), self.params.get("epochs")
        if not an_epoch or not epochs:
            raise ValueError(
                f"MetaMomentum got steps=None with form={type(self.form).__name__}(), which lasts "
                "for the whole training, and fit does not know how long that is; expected steps=, "
                "or steps_per_epoch= for fit."
            )
        return int(an_epoch * epochs)
