"""The outer loop: train, take the hypergradient, step, keep the best."""

from __future__ import annotations

import dataclasses
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from keras_qan.drmad import building, checkpoint, methods
from keras_qan.drmad.data import BatchRecording
from keras_qan.drmad.functional_model import FunctionalModel
from keras_qan.drmad.hyperparameters import Hyperparameter
from keras_qan.drmad.inner_loop import (
    DivergedError,
    InnerLoop,
    Training,
    adam_settings,
    rate_and_momentum,
)
from keras_qan.drmad.loops import Loops
from keras_qan.drmad.losses import ExampleLoss
from keras_qan.drmad.methods import Check, Exact, Method, compare_gradients, hypergradient
from keras_qan.drmad.outer_loop import OuterOptimizer, OuterState, TunerState
from keras_qan.plots import draw_if_possible
from keras_qan.storage.lock import Lock
from keras_qan.utils import progress as progress_bars
from keras_qan.utils.experimental import experimental
from keras_qan.utils.validation import check_folder, check_integer

_VALIDATION_BATCH = 256


@experimental(
    "in our own figures thousands of penalties did no better than training on the validation data "
    "too; weights of examples did, where wrong labels agree (`benchmarks/regularisation`)."
)
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
      train: training data, as arrays `(x, y)` or `(x, y, sample_weight)`, or as a batched
        `tf.data.Dataset` or `keras.utils.PyDataset` that gives the same batches in every pass.
      validation: validation data, likewise, whose loss is minimised.
      hyperparameters: hyperparameters to tune, such as `[L2(per="unit"), LearningRate()]`.
      directory: folder to keep the search in, and to resume it from. Defaults to memory alone.
      method: "drmad_piecewise" (16 chords), "drmad" (one straight line), "exact" or "implicit", or
        an instance of `Drmad`, `Exact` or `Implicit`. Defaults to "drmad_piecewise".
      training: the inner training. Defaults to `Training()`.
      outer: rule of the outer steps. Defaults to `OuterOptimizer()`.
      strategy: a `tf.distribute.MirroredStrategy` whose devices share each batch. Defaults to the
        one in scope.

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
        methods.require_line(self.method, self.training.optimizer == "adam")
        self.outer = outer or OuterOptimizer()
        self.directory = None if directory is None else check_folder("directory", directory)
        self.study: Any = None
        self._strategy = building.current_strategy(strategy)
        self._build_model = build_model
        self._model = self._functional_model(train, validation)
        self.steps = self.training.steps or self.training.epochs * self._model.train.num_batches
        self._loops = Loops(self._model, adam_settings(self._model.model, self.training))
        start = self.initial_unconstrained()
        self._state = TunerState(start, OuterState(self.outer, start))
        building.require_replayable(self.inner_loop(1), start)
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            weakref.finalize(self, Lock(self.directory).release)
            found = checkpoint.resume(self.directory, self._settings())
            if found is not None:
                self._state.set_state(*found, self._model)

    def _functional_model(self, train: Any, validation: Any) -> FunctionalModel:
        settings = self.training
        data = BatchRecording(train, settings.batch_size, settings.seed, "train")
        held_out = BatchRecording(validation, _VALIDATION_BATCH, None, "validation")
        self._example = data.examples(tf.constant([0])).x
        model = building.require_model(self._build())
        building.require_kept(model, settings)
        own = getattr(model, "loss", None)
        loss = ExampleLoss(own, model) if settings.loss is None else ExampleLoss(settings.loss)
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

    def _build(self) -> keras.Model:
        return building.call_build_model(
            self._build_model, self.training.seed, self._strategy, self._example
        )

    @property
    def history(self) -> list[dict[str, Any]]:
        """A record of each outer step so far, as in `outer_steps.jsonl`."""
        return self._state.history

    @property
    def divergences(self) -> int:
        """Number of outer steps that made training diverge and were halved."""
        return self._state.divergences

    @property
    def num_hyperparameters(self) -> int:
        """Number of values that are tuned."""
        return sum(numbers.size for numbers in self._state.unconstrained)

    @property
    def val_loss(self) -> float:
        """Lowest validation loss so far; infinity before the first outer step."""
        return self._state.val_loss

    @property
    def values(self) -> dict[str, np.ndarray]:
        """Present values of the hyperparameters, by name."""
        return self._named(self._state.unconstrained)

    @property
    def best_values(self) -> dict[str, np.ndarray]:
        """Values of the lowest validation loss, by name.

        Raises:
          RuntimeError: nothing was searched yet.
        """
        return self._named(self._require_best()["raws"])

    def search(
        self,
        outer_steps: int = 20,
        *,
        progress: progress_bars.Progress | None = None,
        verbose: int | Literal["auto"] = 1,
    ) -> Tuner:
        """Train and step until `outer_steps` outer steps are done in all.

        A search that was interrupted resumes from its directory: the total counts.

        Args:
          outer_steps: number of trainings with a hypergradient; one that diverges is repeated with
            half the step and counted in `divergences` instead. Defaults to 20.
          progress: progress display. Defaults to what `verbose` says.
          verbose: as in Keras: 0 for silence, 1 for a bar on a terminal and lines elsewhere, with
            what is decided, 2 for a line an outer step. Defaults to 1.

        Returns:
          The tuner itself.

        Raises:
          DivergedError: the first training diverges, or no part of a step is possible.
          ValueError: the validation loss does not depend on a hyperparameter, or `verbose` is out
            of range.
        """
        check_integer("outer_steps", outer_steps, 0)
        shown = progress_bars.for_verbosity(verbose)
        with progress or shown as bars:
            bars.start("outer steps", len(self.history), outer_steps, 0)
            while len(self.history) < outer_steps:
                best, divergences = self.val_loss, self.divergences
                self._outer_step()
                self._keep()
                bars.advance()
                if self.divergences > divergences:
                    times = self.divergences - divergences
                    bars.say(
                        f"outer step {len(self.history)}: halved {times} times, as it diverged"
                    )
                loss = self.history[-1]["val_loss"]
                so_far = ", the lowest so far" if loss < best else ""
                bars.say(
                    f"outer step {len(self.history)}: validation loss {loss:.4g}{so_far}", False
                )
        if self.directory is not None and self.history:
            draw_if_possible(self.draw)
        return self

    def check(self, steps: int = 50, *, method: str | Method | None = None) -> Check:
        """Compare the hypergradient with the exact one over a short training.

        Args:
          steps: length of that training, at most the tuner's own. Defaults to 50.
          method: method to compare. Defaults to the tuner's.

        Returns:
          A `Check`, with `.cosine` and `.sign_agreement`.

        Raises:
          DivergedError: the short training diverges.
        """
        inner = self.inner_loop(min(check_integer("steps", steps, 1), self.steps))
        compared = self.method if method is None else methods.method_from_name(method)
        found, exact = (
            hypergradient(inner, self._state.unconstrained, m).gradients
            for m in (compared, Exact())
        )
        return compare_gradients(compared.name, inner.steps, list(self.values), found, exact)

    def hypergradient(
        self, *, method: str | Method | None = None, steps: int | None = None
    ) -> dict[str, np.ndarray]:
        """Return the validation loss's derivatives by the unconstrained numbers, float64 by name.

        Args:
          method: method to use. Defaults to the tuner's.
          steps: length of training. Defaults to the tuner's.

        Raises:
          DivergedError: the training diverges.
        """
        chosen = self.method if method is None else methods.method_from_name(method)
        found = hypergradient(self.inner_loop(steps), self._state.unconstrained, chosen)
        return dict(zip(self.values, found.gradients, strict=True))

    def best_model(self) -> keras.Model:
        """Return the trained model of the lowest validation loss, as `build_model` compiled it.

        Raises:
          RuntimeError: nothing was searched yet.
        """
        best = self._require_best()
        model = self._build()
        for variables, arrays in (
            (model.trainable_variables, best["weights"]),
            (model.non_trainable_variables, best["state"]),
        ):
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
        return model

    def draw(self, output: str | Path | None = None) -> list[Path]:
        """Draw the figures of the search.

        Args:
          output: folder to write to. Defaults to `figures` in the search's directory.

        Returns:
          The files written: validation loss over outer steps; where they were tuned, penalties
          over the input's pixels and learning rates by layer over the training.

        Raises:
          ValueError: there is no folder to write to.
        """
        from keras_qan.drmad import figures

        if output is None and self.directory is None:
            raise ValueError(
                "draw got no output and the tuner has no directory; expected one of them. Give "
                "draw('figures')."
            )
        folder = Path(output) if output is not None else self.directory / "figures"  # type: ignore[operator]
        values = self.best_values if self._state.best else self.values
        return figures.draw_search(
            folder, self.history, self.hyperparameters, values, self._model.info, self._trials()
        )

    def _trials(self) -> list[float]:
        """Validation losses of Optuna's complete trials, in order."""
        trials = self.study.trials if self.study is not None else []
        return [t.value for t in trials if t.state.name == "COMPLETE"]

    # For the search for averages and for benchmarks.

    def inner_loop(self, steps: int | None = None) -> InnerLoop:
        """Return the trainings of the model.

        Args:
          steps: length of each. Defaults to the tuner's.
        """
        return InnerLoop(self._loops, steps or self.steps)

    def evaluate(
        self,
        unconstrained: list[np.ndarray],
        report_steps: Sequence[int] = (),
        report: Callable[[int, float], None] | None = None,
    ) -> float:
        """Train with these unconstrained numbers.

        The training is kept if it is the best so far.

        Args:
          unconstrained: one array for each hyperparameter.
          report_steps: steps to validate at on the way. Defaults to none.
          report: called there with the step and the validation loss. Defaults to none.

        Returns:
          The validation loss.

        Raises:
          DivergedError: the training diverges.
        """
        inner = self.inner_loop()
        values = inner.values(unconstrained)
        state = inner.start(values)
        for step in [*(s for s in report_steps if s < self.steps), self.steps]:
            state = inner.advance(values, state, step)
            loss = inner.validation_loss(state)
            if report is not None and step < self.steps:
                report(step, loss)
        self._state.record_best(loss, unconstrained, state)
        return loss

    def set_study(self, study: Any) -> None:
        """Keep the Optuna study that the tuner's averages come from.

        Args:
          study: an `optuna.Study`, or None.
        """
        self.study = study

    def initial_unconstrained(self) -> list[np.ndarray]:
        """Return the unconstrained numbers that the hyperparameters start from by default."""
        return [h.initial_unconstrained(self._model.info) for h in self.hyperparameters]

    def start_from(self, unconstrained: list[np.ndarray]) -> None:
        """Begin the descent at these numbers; only before the first outer step.

        Args:
          unconstrained: one array for each hyperparameter.

        Raises:
          RuntimeError: the search has begun.
        """
        if self.history:
            raise RuntimeError(
                f"The search has done {len(self.history)} outer steps; expected none before it is "
                "given another start. Use another directory."
            )
        self._state.start_from(
            [
                np.clip(np.asarray(numbers, np.float64), *h.unconstrained_bounds())
                for h, numbers in zip(self.hyperparameters, unconstrained, strict=True)
            ]
        )

    # One outer step.

    def _outer_step(self) -> None:
        began = time.perf_counter()
        state, inner = self._state, self.inner_loop()
        while True:
            try:
                found = hypergradient(inner, state.unconstrained, self.method)
                state.require_no_worse(found.val_loss, inner.validation_loss(found.start))
                break
            except DivergedError as error:
                state.halve(error)
        if not self.history and not found.reached:
            building.require_dependence(list(self.values), found.gradients)
        state.record_best(found.val_loss, state.unconstrained, found.end)
        self.history.append(
            {
                "outer_step": len(self.history),
                "val_loss": found.val_loss,
                "train_loss": float(found.end.train_loss),
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
        state.step(found.gradients, [h.unconstrained_bounds() for h in self.hyperparameters])

    # Names, settings, files.

    def _keep(self) -> None:
        if self.directory is not None:
            checkpoint.write(self.directory, *self._state.get_state(self._model))

    def _require_best(self) -> dict[str, Any]:
        if not self._state.best:
            raise RuntimeError("There is no best model yet; expected search() to have been called.")
        return self._state.best

    def _settings(self) -> dict[str, Any]:
        return {
            "hyperparameters": [h.config() for h in self.hyperparameters],
            "method": methods.config(self.method),
            "training": self.training.config(),
            "outer": dataclasses.asdict(self.outer),
            "steps": self.steps,
            "weights": [list(shape) for shape in self._model.info.shapes],
            "train": self._model.train.fingerprint(),
            "validation": self._model.validation.fingerprint(),
        }

    def _named(self, unconstrained: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Values by name, numbered where a name comes twice."""
        named: dict[str, np.ndarray] = {}
        for h, numbers in zip(self.hyperparameters, unconstrained, strict=True):
            name = h.name if h.name not in named else f"{h.name} #{len(named)}"
            named[name] = h.transform.value(tf.constant(numbers, tf.float64)).numpy()
        return named


def _summary(value: np.ndarray, gradient: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(value.mean()),
        "min": float(value.min()),
        "max": float(value.max()),
        "hypergradient_norm": float(np.linalg.norm(gradient)),
    }
