"""A bare `QANCallback` beside what people use instead: the same fits, the same initial rates."""

from __future__ import annotations

import functools
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_qan import data, models
from keras_qan.experiments import origin, statistics
from keras_qan.experiments.executor_flags import ThreadFlags
from keras_qan.experiments.flags import (
    FLAG_FILE,
    describe_differences,
    flag,
    next_directory,
    open_run,
    to_text,
)
from keras_qan.experiments.model_factory import ModelFactory
from keras_qan.experiments.runner import FIRST_UNSEEN_SEED, RunReport
from keras_qan.qan.callback import QANCallback
from keras_qan.storage.run_log import InMemoryRunLog, RunLog, read
from keras_qan.utils.progress import Progress
from keras_qan.utils.validation import check, check_choice, check_integer, check_number

#: The arms that start from each initial rate: the bare callback, the same fit without it, Keras's
#: CosineDecay, and its ReduceLROnPlateau.
AT_EACH_RATE = ("qan", "constant", "cosine", "plateau")

#: All arms; `adamw` is Keras's AdamW as it is, the same from every initial rate.
ARMS = (*AT_EACH_RATE, "adamw")


@dataclass(frozen=True)
class ScheduleExperiment(ThreadFlags):
    """A bare callback is compared with other ways to set a rate; each field is a flag.

    Raises:
      ValueError: a field is out of range; the message says which.
    """

    dataset: str = flag("data set: digits (nothing to download), mnist, cifar10", "digits")
    model: str = flag("model: mlp, cnn, cnn_bn, wrn-<depth>-<width>", "cnn")
    directory: str = flag(
        "where the run is kept, and gone on with; by default runs/<dataset>_<model>_schedules with "
        "the next free number",
        "",
        is_saved=False,
    )
    seed: int = flag("what everything random follows from", 0)
    seeds: int = flag("unseen seeds that each arm is trained with", 4)
    learning_rate: tuple[float, ...] = flag(
        "initial learning rates, ascending", (0.001, 0.03, 0.24)
    )
    momentum: float = flag("of the models' SGD, in [0, 1)", 0.9)
    epochs: int = flag("epochs of each training", 6)
    batch_size: int = flag("examples in a batch", 32)
    train_fraction: float = flag("share of the training examples to use, in (0, 1]", 1.0)
    arms: tuple[str, ...] = flag(f"who is compared: {', '.join(ARMS)}", ARMS)
    data_dir: str = flag("folder of prepared data sets; by default TFDS_DATA_DIR's", "")

    def __post_init__(self) -> None:
        """Check the fields that nothing below checks itself."""
        ThreadFlags.__post_init__(self)
        for name in ("epochs", "batch_size", "seeds"):
            check_integer(name, getattr(self, name), 1)
        check_integer("seed", self.seed, 0)
        check_number("momentum", self.momentum, 0, below=1)
        check(len(self.arms) > 0, "arms", self.arms, "at least one", f"Arms: {', '.join(ARMS)}.")
        for arm in self.arms:
            check_choice("arms", arm, ARMS)
        rates = self.learning_rate
        check(
            len(rates) > 0 and all(0 < rate < math.inf for rate in rates),
            "learning_rate",
            rates,
            "at least one initial rate, each above 0",
        )

    def run(self, progress: Progress | None = None) -> RunReport:
        """Train every arm, and write everything to the run directory.

        Fits that the directory holds are not done again.

        Raises:
          DirectoryInUseError: another process writes to the directory.
          ValueError: the run in the directory was made with other flags.
        """
        self.use_threads()
        directory = (
            Path(self.directory)
            if self.directory
            else next_directory(f"{self.dataset}_{self.model}_schedules")
        )
        _require_same(directory, self)
        with open_run(directory, self), progress or Progress() as shown:
            origin.write(directory, FIRST_UNSEEN_SEED + self.seed)
            _Fits(self, directory).run(shown)
            rows = compare(directory, self.learning_rate)
        return RunReport(rows, directory, 0)

    def specs(self) -> list[tuple[str, float, int]]:
        """Return arm, initial rate and seed of every fit, interleaved."""
        found = []
        for number in range(self.seeds):
            seed = FIRST_UNSEEN_SEED + self.seed + number
            for rate in self.learning_rate:
                found += [(arm, rate, seed) for arm in AT_EACH_RATE if arm in self.arms]
            found += [("adamw", 0.001, seed)] if "adamw" in self.arms else []
        return found


def compare(directory: Path, rates: tuple[float, ...]) -> list[dict[str, Any]]:
    """Return the rows of `statistics.compare`, with AdamW beside every initial rate."""
    episodes = []
    for record in read(directory, "episodes"):
        is_same = record["arm"] == "adamw"
        episodes += [
            record | {"initial_learning_rate": rate}
            for rate in (rates if is_same else (record["initial_learning_rate"],))
        ]
    return statistics.compare(episodes, read(directory, "epochs"))


class _Fits:
    """The fits of an experiment, and their records.

    Args:
      experiment: what is compared.
      directory: of the run.
    """

    def __init__(self, experiment: ScheduleExperiment, directory: Path) -> None:
        self._experiment = experiment
        self._directory = directory
        self._splits = data.load(
            experiment.dataset,
            train_fraction=experiment.train_fraction,
            data_dir=experiment.data_dir or None,
        )
        self._validation = self._splits.validation.batches(256)
        self._test = self._splits.test.batches(256)
        self._models = {
            name: ModelFactory(functools.partial(self._build, optimizer), self._validation)
            for name, optimizer in (("sgd", self._sgd), ("adamw", keras.optimizers.AdamW))
        }

    def run(self, progress: Progress) -> None:
        """Train what is missing."""
        experiment = self._experiment
        RunLog(self._directory).keep_finished(0)
        done = {
            (record["arm"], record["initial_learning_rate"], record["seed"])
            for record in read(self._directory, "episodes")
        }
        specs = experiment.specs()
        progress.start("fits", len(done), len(specs), experiment.epochs)
        for number, spec in enumerate(specs):
            if spec not in done:
                self._fit(*spec, number, progress)
                progress.advance()

    def _fit(self, arm: str, rate: float, seed: int, number: int, progress: Progress) -> None:
        experiment = self._experiment
        model = self._models["adamw" if arm == "adamw" else "sgd"].build(seed)
        model.optimizer.learning_rate = rate
        log = RunLog(self._directory)
        log.context = {"arm": arm, "phase": "evaluate", "episode": number, "seed": seed}
        size = min(experiment.batch_size, len(self._splits.train))
        recorder = FitRecorder(log, keeps_rates=arm != "qan")
        started = time.perf_counter()
        with warnings.catch_warnings():
            # A training that comes to nothing is an outcome here: the table says so.
            warnings.simplefilter("ignore", RuntimeWarning)
            model.fit(
                self._splits.train.batches(size, seed=seed, drop_remainder=True),
                validation_data=self._validation,
                epochs=experiment.epochs,
                shuffle=False,  # the batches are shuffled already, by their seed
                verbose=0,
                callbacks=[*_callbacks(arm, log), recorder, progress.epochs()],
            )
        seconds = time.perf_counter() - started
        scores = model.evaluate(self._test, verbose=0, return_dict=True)
        log.record(
            "episodes",
            initial_learning_rate=rate,
            steps=recorder.step,
            val_loss=recorder.val_loss,
            diverged=not math.isfinite(recorder.val_loss),
            seconds=seconds,
            **{f"test_{name}": float(value) for name, value in scores.items()},
        )
        log.write()

    def _build(
        self, make_optimizer: Callable[[], keras.optimizers.Optimizer], seed: int
    ) -> keras.Model:
        splits = self._splits
        model = models.build(
            self._experiment.model, splits.input_shape, splits.num_classes, seed=seed
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(make_optimizer(), loss, metrics=["accuracy"], jit_compile=False)
        return model

    def _sgd(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.SGD(0.01, momentum=self._experiment.momentum)


class CosineRate(keras.callbacks.Callback):
    """Keras's `CosineDecay` to zero, set before each step, so that one compiled step serves all."""

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Compute the rates of the whole training."""
        steps = self.params["epochs"] * self.params["steps"]
        initial = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        schedule = keras.optimizers.schedules.CosineDecay(initial, steps)
        self._rates = iter(keras.ops.convert_to_numpy(schedule(np.arange(steps, dtype="float32"))))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Set the rate of the step."""
        self.model.optimizer.learning_rate = float(next(self._rates))


class FitRecorder(keras.callbacks.Callback):
    """Records the epochs of a fit, and the learning rate at their beginnings and its changes.

    Args:
      log: what the records are added to.
      keeps_rates: whether the rates are recorded here, not by a callback that steers.

    Attributes:
      step: optimizer steps done.
      val_loss: the last validation loss; not-a-number before the first.
    """

    def __init__(self, log: RunLog, keeps_rates: bool) -> None:
        super().__init__()
        self._log, self._keeps_rates = log, keeps_rates
        self._rate: float | None = None
        self.step, self.val_loss = 0, math.nan

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Record the rate."""
        self._rate = None
        self._record_rate()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Record the rate if it is another one."""
        self.step += 1
        self._record_rate()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Record the epoch."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.val_loss = values["val_loss"]
        self._log.record("epochs", epoch=epoch, step=self.step, **values)

    def _record_rate(self) -> None:
        if not self._keeps_rates:
            return
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        if rate != self._rate:
            self._log.record("decisions", step=self.step, learning_rate=rate)
            self._rate = rate


class _Decisions(InMemoryRunLog):
    """The log of a callback in an arm: decisions go to the run's log, the rest nowhere."""

    def __init__(self, log: RunLog) -> None:
        super().__init__()
        self._log = log

    def record(self, file: str, **values: Any) -> None:
        """Add a decision to the run's log."""
        if file == "decisions":
            self._log.record(file, **values)


def _callbacks(arm: str, log: RunLog) -> list[keras.callbacks.Callback]:
    """Return what steers the rate in an arm."""
    if arm == "cosine":
        return [CosineRate()]
    if arm == "plateau":
        # Keras's own but for the patience, which would outlast the training.
        return [keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1)]
    if arm != "qan":
        return []
    callback = QANCallback()
    callback.state.log = _Decisions(log)
    return [callback]


def _require_same(directory: Path, experiment: ScheduleExperiment) -> None:
    """Refuse a directory whose run was made with other flags."""
    path = directory / FLAG_FILE
    if not path.exists():
        return
    before = path.read_text(encoding="utf-8", errors="replace").splitlines()
    now = to_text(experiment).splitlines()
    if set(before) != set(now):
        raise ValueError(
            f"The run in {directory} was made with other flags: "
            f"{describe_differences(before, now)}. Go on with its own by --flagfile={path} "
            f"--directory={directory}, or use another --directory."
        )
