"""The outer loop: train, take the hypergradient, step, keep the best."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_qan.drmad import building, checkpoint, methods
from keras_qan.drmad.data import BatchRecording
from keras_qan.drmad.functional_model import FunctionalModel
from keras_qan.drmad.hyperparameters import Hyperparameter
from keras_qan.drmad.inner_loop import DivergedError, InnerLoop, Training, rate_and_momentum
from keras_qan.drmad.loops import Loops
from keras_qan.drmad.losses import ExampleLoss
from keras_qan.drmad.methods import Check, Exact, Method, compare_gradients, hypergradient
from keras_qan.drmad.outer_loop import OuterOptimizer, OuterState, TunerState
from keras_qan.storage.lock import Lock
from keras_qan.utils import progress as progress_room

_VALIDATION_BATCH = 256


class Tuner:
    """Tunes hyperparameters by descent on the validation loss.

    Each outer step trains the model from the same initial weights on the same batches, walks the
    training backward for the derivative of the validation loss by every hyperparameter, and moves
    all of them. The test set is never seen.

    Random layers (dropout, noise) draw the same in each training and in reverse. Statistics of
    batch normalisation are the batch's in training and the forward pass's in validation, where they
    count as constants.

    Args:
      build_model: `build_model()` or `build_model(seed)` → a built Keras model with one output,
        functional or sequential, compiled with its loss (or see `Training.loss`).
      train: `(x, y)` or `(x, y, sample_weight)` arrays, a batched `tf.data.Dataset` or a
        `keras.utils.PyDataset` that gives the same batches whenever it is walked.
      validation: likewise; the loss on it is what falls.
      hyperparameters: what to tune, for example `[L2(per="unit"), LearningRate(per="layer")]`.
      directory: where the search is kept, and taken up again; None for nowhere.
      method: "drmad_piecewise" (16 chords), "drmad" (one straight line), "exact" or "implicit", or
        one of their classes.
      training: the inner training.
      outer: the rule of the outer steps.
      strategy: a `tf.distribute.MirroredStrategy` whose devices share each batch; by default the
        one that the tuner is made under.

    Attributes:
      study: Optuna's, where `search_then_descend` made the tuner.

    Raises:
      ValueError: an argument, the model or the data does not fit; the message says which and what
        to do.
      CheckpointError: the directory holds a damaged search.
      DirectoryInUseError: another process writes to the directory.

    Example:
      >>> tuner = Tuner(build_model, train, validation, [L2(per="weight")])  # doctest: +SKIP
      >>> tuner.search(outer_steps=20)  # doctest: +SKIP
      >>> model = tuner.best_model()  # doctest: +SKIP
    """

    def __init__(
        self,
        build_model: Callable[..., keras.Model],
        train: Any,
        validation: Any,
        hyperparameters: Sequence[Hyperparameter],
        directory: str | Path | None = None,
        *,
        method: str | Method = "drmad_piecewise",
        training: Training | None = None,
        outer: OuterOptimizer | None = None,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self.hyperparameters = building.check_hyperparameters(hyperparameters)
        self.method = methods.method_from_name(method)
        self.training = training or Training()
        self.outer = outer or OuterOptimizer()
        self.directory = None if directory is None else Path(directory)
        self.study: Any = None
        self._strategy = building.chosen_strategy(strategy)
        self._build_model = build_model
        self._student = self._studied(train, validation)
        self.steps = self.training.steps or self.training.epochs * self._student.train.num_batches
        self._loops = Loops(self._student)
        raws = self.initial_raws()
        self._standing = TunerState(raws, OuterState(self.outer, raws))
        building.require_replayable(InnerLoop(self._loops, 1), raws)
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            weakref.finalize(self, Lock(self.directory).release)
            found = checkpoint.resume(self.directory, self._settings())
            if found is not None:
                self._standing.unpack(*found, self._student)

    def _studied(self, train: Any, validation: Any) -> FunctionalModel:
        settings = self.training
        data = BatchRecording(train, settings.batch_size, settings.seed, "train")
        held_out = BatchRecording(validation, _VALIDATION_BATCH, None, "validation")
        self._example = data.examples(tf.constant([0])).x
        model = building.require_model(self._built())
        compiled = getattr(model, "loss", None)
        loss = ExampleLoss(compiled if settings.loss is None else settings.loss)
        rate, momentum = rate_and_momentum(model, settings)
        return FunctionalModel(
            model,
            loss,
            self.hyperparameters,
            data,
            held_out,
            learning_rate=rate,
            momentum=momentum,
            seed=settings.seed,
            devices=building.devices(self._strategy),
        )

    def _built(self) -> keras.Model:
        return building.call_build_model(
            self._build_model, self.training.seed, self._strategy, self._example
        )

    # What a user asks for.

    @property
    def history(self) -> list[dict[str, Any]]:
        """A record of each outer step so far, as in `outer_steps.jsonl`."""
        return self._standing.history

    @property
    def divergences(self) -> int:
        """How many outer steps made training diverge and were halved."""
        return self._standing.divergences

    @property
    def num_hyperparameters(self) -> int:
        """How many numbers are tuned."""
        return sum(raw.size for raw in self._standing.raws)

    @property
    def val_loss(self) -> float:
        """The lowest validation loss so far; infinity before the first outer step."""
        return self._standing.val_loss

    @property
    def values(self) -> dict[str, np.ndarray]:
        """The hyperparameters' present values, by name."""
        return self._named(self._standing.raws)

    @property
    def best_values(self) -> dict[str, np.ndarray]:
        """The values that the lowest validation loss was reached with, by name.

        Raises:
          RuntimeError: nothing was searched yet.
        """
        return self._named(self._require_best()["raws"])

    def search(
        self, outer_steps: int = 20, *, progress: progress_room.Progress | None = None
    ) -> Tuner:
        """Trains and steps until `outer_steps` outer steps are done in all.

        A search that was broken off goes on in its directory: what counts is the total.

        Args:
          outer_steps: how many trainings with a hypergradient; one that diverges is repeated with
            half the step and not counted among them, but in `divergences`.
          progress: where progress is shown; by default a bar on a terminal.

        Returns:
          The tuner itself.

        Raises:
          DivergedError: the first training diverges, or no part of a step is possible.
          ValueError: the validation loss does not depend on a hyperparameter.
        """
        if not isinstance(outer_steps, int) or outer_steps < 0:
            raise ValueError(
                f"search got outer_steps={outer_steps!r}; expected a whole number of at least 0."
            )
        bars = progress or progress_room.for_terminal()
        with bars:
            bars.start("outer steps", len(self.history), outer_steps, 0)
            while len(self.history) < outer_steps:
                self._outer_step()
                self._keep()
                bars.advance()
        if self.directory is not None and self.history:
            self.draw()
        return self

    def check(self, steps: int = 50, *, method: str | Method | None = None) -> Check:
        """Compares the hypergradient with the exact one over a short training.

        Args:
          steps: of that training, at most the tuner's own.
          method: another method than the tuner's.

        Returns:
          A `Check`, with `.cosine` and `.sign_agreement`.

        Raises:
          DivergedError: the short training diverges.
        """
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"check got steps={steps!r}; expected a whole number of at least 1.")
        runs = InnerLoop(self._loops, min(steps, self.steps))
        judged = methods.method_from_name(method) if method is not None else self.method
        found, exact = (
            hypergradient(runs, self._standing.raws, m).gradients for m in (judged, Exact())
        )
        return compare_gradients(judged.name, runs.steps, list(self.values), found, exact)

    def hypergradient(
        self, *, method: str | Method | None = None, steps: int | None = None
    ) -> dict[str, np.ndarray]:
        """The derivatives of the validation loss by the present raw numbers, by name, float64.

        Args:
          method: another method than the tuner's.
          steps: another length of training.

        Raises:
          DivergedError: the training diverges.
        """
        runs = InnerLoop(self._loops, steps or self.steps)
        judged = methods.method_from_name(method) if method is not None else self.method
        found = hypergradient(runs, self._standing.raws, judged)
        return dict(zip(self.values, found.gradients, strict=True))

    def best_model(self) -> keras.Model:
        """The model of the lowest validation loss, trained, as `build_model` compiled it.

        Raises:
          RuntimeError: nothing was searched yet.
        """
        best = self._require_best()
        model = self._built()
        for variables, arrays in (
            (model.trainable_variables, best["weights"]),
            (model.non_trainable_variables, best["state"]),
        ):
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
        return model

    def draw(self, output: str | Path | None = None) -> list[Path]:
        """Draws the figures of the search.

        Args:
          output: folder to write to; None for `figures` in the search's directory.

        Returns:
          The files written: validation loss over outer steps; where they were tuned, penalties
          over the input's pixels and learning rates by layer over the training.
        """
        from keras_qan.drmad import figures

        if output is None and self.directory is None:
            raise ValueError(
                "draw got no output and the tuner has no directory; expected one of them. Give "
                "draw('figures')."
            )
        folder = Path(output) if output is not None else self.directory / "figures"  # type: ignore[operator]
        values = self.best_values if self._standing.best else self.values
        return figures.draw_search(
            folder, self.history, self.hyperparameters, values, self._student.facts, self._trials()
        )

    def _trials(self) -> list[float]:
        """The validation losses of Optuna's complete trials, in order."""
        trials = self.study.trials if self.study is not None else []
        return [t.value for t in trials if t.state.name == "COMPLETE"]

    # What Optuna and the benchmarks ask for.

    def evaluate(
        self,
        raws: list[np.ndarray],
        stops: Sequence[int] = (),
        each: Callable[[int, float], None] | None = None,
    ) -> float:
        """The validation loss of a training with these raw numbers, kept if it is the best.

        Args:
          raws: one array for each hyperparameter.
          stops: steps to validate at on the way.
          each: told the step and the validation loss there.

        Raises:
          DivergedError: the training diverges.
        """
        runs = InnerLoop(self._loops, self.steps)
        values = runs.values(raws)
        moment = runs.begin(values)
        for step in [*(s for s in stops if s < self.steps), self.steps]:
            moment = runs.advance(values, moment, step)
            loss = runs.validation_loss(moment)
            if each is not None and step < self.steps:
                each(step, loss)
        self._standing.remember(loss, raws, moment)
        return loss

    def initial_raws(self) -> list[np.ndarray]:
        """The raw numbers that the hyperparameters start from by themselves."""
        return [h.initial_raw(self._student.facts) for h in self.hyperparameters]

    def start_from(self, raws: list[np.ndarray]) -> None:
        """Begins the descent at these raw numbers; only before the first outer step."""
        if self.history:
            raise RuntimeError(
                f"The search has done {len(self.history)} outer steps; expected none before it is "
                "given another start. Use another directory."
            )
        self._standing.raws = [
            np.clip(np.asarray(raw, np.float64), *h.raw_bounds())
            for h, raw in zip(self.hyperparameters, raws, strict=True)
        ]

    # One outer step.

    def _outer_step(self) -> None:
        began = time.perf_counter()
        standing = self._standing
        runs = InnerLoop(self._loops, self.steps)
        while True:
            try:
                found = hypergradient(runs, standing.raws, self.method)
                standing.require_no_worse(found.val_loss, runs.validation_loss(found.start))
                break
            except DivergedError as error:
                standing.halve(error)
        if not self.history and not found.reached:
            building.require_dependence(list(self.values), found.gradients)
        standing.remember(found.val_loss, standing.raws, found.end)
        self.history.append(
            {
                "outer_step": len(self.history),
                "val_loss": found.val_loss,
                "train_loss": found.end.train_loss,
                "best_val_loss": self.val_loss,
                "divergences": self.divergences,
                "reached": found.reached,
                "seconds": time.perf_counter() - began,
                "hyperparameters": {
                    name: _summary(value, gradient)
                    for (name, value), gradient in zip(
                        self.values.items(), found.gradients, strict=True
                    )
                },
            }
        )
        standing.step(found.gradients, [h.raw_bounds() for h in self.hyperparameters])

    # Names, settings, files.

    def _keep(self) -> None:
        if self.directory is not None:
            checkpoint.write(self.directory, *self._standing.packed(self._student))

    def _require_best(self) -> dict[str, Any]:
        if not self._standing.best:
            raise RuntimeError("There is no best model yet; expected search() to have been called.")
        return self._standing.best

    def _settings(self) -> dict[str, Any]:
        return {
            "hyperparameters": [h.config() for h in self.hyperparameters],
            "method": methods.config(self.method),
            "training": self.training.config(),
            "outer": self.outer.config(),
            "steps": self.steps,
            "weights": [list(shape) for shape in self._student.facts.shapes],
            "train": self._student.train.fingerprint(),
            "validation": self._student.validation.fingerprint(),
        }

    def _named(self, raws: list[np.ndarray]) -> dict[str, np.ndarray]:
        named: dict[str, np.ndarray] = {}
        for h, raw in zip(self.hyperparameters, raws, strict=True):
            name = h.name if h.name not in named else f"{h.name} #{len(named)}"
            named[name] = h.transform.value(tf.constant(raw, tf.float64)).numpy()
        return named


def _summary(value: np.ndarray, gradient: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(value.mean()),
        "min": float(value.min()),
        "max": float(value.max()),
        "hypergradient_norm": float(np.linalg.norm(gradient)),
    }
