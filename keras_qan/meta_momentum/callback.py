"""MetaMomentum, the callback that pulls a model toward a teacher; and the fades of its strength."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_qan.actions import Schedule
from keras_qan.meta_momentum.losses import Pull, TeacherLoss
from keras_qan.meta_momentum.teachers import BestStudentTeacher, Teacher, make_teacher
from keras_qan.meta_momentum.train_step import TrainStepPatch
from keras_qan.storage.serialization import configurable, keras_serializable
from keras_qan.utils.backend import Keras3Callback
from keras_qan.utils.experimental import experimental
from keras_qan.utils.fit_patch import detach_leftovers
from keras_qan.utils.validation import check, check_integer, check_number


@configurable
class LinearFade:
    """1 − t/T: full strength at first, none at the end."""

    def __call__(self, progress: tf.Tensor) -> tf.Tensor:
        """Share of the strength at `progress`, float32 `[]` in [0, 1]."""
        return 1.0 - progress


@configurable
class ConstantStrength:
    """1 until the time is over, then none, as in the original."""

    def __call__(self, progress: tf.Tensor) -> tf.Tensor:
        """Share of the strength at `progress`, float32 `[]` in [0, 1]."""
        return tf.ones_like(progress)


@keras_serializable
@experimental(
    "our own figures show no gain yet. Agents with the pull were level with those without it, or "
    "behind (`benchmarks/rally`, part teachers)."
)
class MetaMomentum(Keras3Callback, keras.callbacks.Callback):
    """Pulls a model in training toward a teacher, for a time.

    After each update t the watched weights move toward the teacher's,

        w ← w + c_t (w* − w),   c_t = strength · fade(t / steps) for t < steps, then 0

    (issue 5 of the original QAN, where c was constant for its time, as with
    `fade=ConstantStrength()`). `Features()` and `Distillation()` add to the loss instead. The model
    is not rebuilt, and its compiled loss and the reported loss stay the same.

    A teacher that was trained on the same task is leakage: its cost was paid elsewhere. Report it
    as an arm of its own.

    Args:
      teacher: a trained model; "previous" for the best student of this callback's earlier
        trainings, by validation loss; or a `Teacher`.
      strength: c, in [0, 1): the share of the way that one step covers; for the losses, their
        weight. Defaults to 0.01.
      steps: number of optimizer steps that it lasts. Defaults to 1/strength for `Pull`, and to the
        whole training for the losses.
      layers: names of the layers to watch. Defaults to all with a trained kernel.
      form: `Pull()`, `Features()` or `Distillation(temperature)`. Defaults to `Pull()`.
      fade: schedule from progress in [0, 1] to a share of the strength. Defaults to `LinearFade()`.
      directory: folder to keep the teacher "previous" in, and to resume it from. Defaults to memory
        alone.

    Attributes:
      teacher: the teacher.
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
        usual = "It is the share of the way that one step covers; the original used 0.01 and 0.001."
        check_number("strength", strength, 0, below=1, hint=usual)
        if steps is not None:
            check_integer("steps", steps, 1, hint="None is 1/strength.")
        named = not isinstance(layers, str) and (layers is None or len(list(layers)) > 0)
        check(named, "layers", layers, "a list of layer names, such as ['conv_1'], or None for all")
        form = Pull() if form is None else form
        check(
            isinstance(form, TeacherLoss) and not isinstance(form, type),
            "form",
            form,
            "Pull(), Features() or Distillation(temperature=2.0) from keras_qan.meta_momentum",
        )
        fade = LinearFade() if fade is None else fade
        is_schedule = callable(fade) and not isinstance(fade, type)
        check(is_schedule, "fade", fade, "a schedule such as LinearFade() or Cosine()")
        self.teacher = make_teacher(teacher, directory)
        self.strength, self.steps = float(strength), steps
        self.layers = None if layers is None else tuple(layers)
        self.form: TeacherLoss = form
        self.fade: Schedule = fade
        self.keeps = True
        self._patch: TrainStepPatch | None = None
        self._scores: dict[str, float] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> MetaMomentum:
        """Copy for another training, which shares the teacher's knowledge."""
        made = copy.copy(self)
        memo[id(self)] = made
        if hasattr(type(self.teacher), "__deepcopy__"):
            made.teacher = copy.deepcopy(self.teacher, memo)
        made._model = None
        made._patch, made._scores = None, {}
        return made

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that it was made with, for `keras.saving`.

        Raises:
          TypeError: the teacher is a model or an object, whose weights a config does not hold.
        """
        if type(self.teacher) is not BestStudentTeacher:
            raise TypeError(
                f"This MetaMomentum has the teacher {self.teacher!r}, whose weights a config does "
                'not hold; expected "previous". Save the teacher by model.save, and make the '
                "callback anew with keras.saving.load_model(path)."
            )
        directory = self.teacher.directory
        return {
            "teacher": "previous",
            "strength": self.strength,
            "steps": self.steps,
            "layers": self.layers,
            "form": self.form,
            "fade": self.fade,
            "directory": None if directory is None else os.fspath(directory),
        }

    # Keras's hooks.

    def set_model(self, model: keras.Model) -> None:
        """Set the model, and remove the patches of an interrupted fit."""
        super().set_model(model)
        if isinstance(model, keras.Model):
            detach_leftovers(model)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Put the pull into the training step.

        Raises:
          TypeError: the model is not one of Keras 3.
          ValueError: the model is not built, the teacher does not fit it, or the training's length
            is not known.
        """
        model = self.model
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"MetaMomentum got a model of class {type(model).__module__}."
                f"{type(model).__name__}; expected a Keras 3 model (keras {keras.__version__})."
            )
        if not model.built:
            raise ValueError(
                f"MetaMomentum got model {model.name!r}, which is not built yet, so that it has no "
                "weights to pull; expected a built one. Begin it with keras.Input, or call it on a "
                "batch before fit."
            )
        self._scores = {}
        if self._patch is None or self._patch.model is not model:
            self._patch = TrainStepPatch(model, self.form.bind(model, self.layers), self.fade)
        self._patch.attach(self.teacher, self.strength, self._length())

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Leave the teacher out of validation."""
        if self._patch is not None:
            self._patch.pause()

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Bring the teacher back."""
        if self._patch is not None:
            self._patch.resume()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Note the losses, by which the best student is chosen."""
        for name in ("val_loss", "loss"):
            if name in (logs or {}):
                self._scores[name] = float((logs or {})[name])

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Restore the model, and tell the teacher of the student."""
        if self._patch is not None:
            self._patch.detach()
        if self.keeps:
            kind = "val_loss" if "val_loss" in self._scores else "loss"
            self.teacher.note(self.model, self._scores.get(kind, math.nan), kind)

    def _length(self) -> int:
        steps = self.form.default_steps(self.strength) if self.steps is None else self.steps
        if steps is not None:
            return int(steps)
        params = self.params or {}  # Keras's own is None in a loop that sets none
        an_epoch, epochs = params.get("steps"), params.get("epochs")
        if not an_epoch or not epochs:
            raise ValueError(
                f"MetaMomentum got steps=None with form={type(self.form).__name__}(), which lasts "
                "for the whole training, and fit does not know how long that is; expected steps=, "
                "or steps_per_epoch= for fit."
            )
        return int(an_epoch * epochs)
