"""The experiment of QAN, on a data set and a model by name."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_qan import data, distribute, models, selection
from keras_qan.experiments import baselines
from keras_qan.experiments.executor_flags import ExecutorFlags, ThreadFlags
from keras_qan.experiments.flags import (
    FLAG_FILE,
    describe_differences,
    flag,
    flag_name,
    next_directory,
    run_directory,
    to_text,
    write_flags,
)
from keras_qan.experiments.origin import ORIGIN_FILE
from keras_qan.experiments.runner import Evaluation, RunReport, Task, run_episodes
from keras_qan.parallel import Call
from keras_qan.qan import presets
from keras_qan.qan.callback import QANCallback
from keras_qan.selection import Selector
from keras_qan.storage.lock import Lock
from keras_qan.utils.progress import Progress
from keras_qan.utils.validation import check, check_choice, check_integer, check_number

OPTIMIZERS = ("sgd", "adam", "adamw")

#: Selectors that may choose the batches.
SELECTIONS = ("class_mix", "loss_rank", "prune")

#: Flags that may differ when a run is resumed.
_MAY_CHANGE = (
    "episodes",
    "arms",
    "eval_seeds",
    "directory",
    "resume",
    "strategy",
    "ray_address",
    "save_every_epochs",
)


@dataclass(frozen=True)
class LearningRateExperiment(ExecutorFlags, ThreadFlags):
    """QAN learns on one task and is compared with other arms; each field is a flag of the script.

    Raises:
      ValueError: a field is out of range; the message says which.
    """

    dataset: str = flag("data set: digits (nothing to download), mnist, cifar10", "digits")
    model: str = flag("model: mlp, cnn, cnn_bn, wrn-<depth>-<width>", "cnn")
    directory: str = flag(
        "where the run is kept; by default runs/<dataset>_<model> with the next free number",
        "",
        is_saved=False,
    )
    resume: bool = flag("go on with the run that is in the directory", False, is_saved=False)
    seed: int = flag("what everything random follows from", 0)
    preset: str = flag(
        "QAN's settings: default, options for actions that last, paper for Fu et al. 2016's",
        "default",
    )
    episodes: int = flag("trainings that QAN learns from", 60)
    epochs: int = flag("epochs of each training", 10)
    batch_size: int = flag("examples in a batch", 32)
    train_fraction: float = flag("share of the training examples to use, in (0, 1]", 1.0)
    wrong_labels: float = flag(
        "share of the training examples that are given a wrong label, in [0, 1)", 0.0
    )
    optimizer: str = flag("the models' optimizer: sgd, adam, adamw", "sgd")
    momentum: float = flag("of sgd, in [0, 1)", 0.9)
    nesterov: bool = flag("whether sgd's momentum is Nesterov's", False)
    weight_decay: float = flag("L2 penalty on the models' kernels", 0.0)
    learning_rate: tuple[float, ...] = flag(
        "initial learning rates of the evaluation, ascending", (0.01,)
    )
    learning_rate_spread: float = flag(
        "training episodes start between the lowest rate / spread and the highest · spread", 1.0
    )
    selection: str = flag(
        f"what the agent chooses mini-batches with: {', '.join(SELECTIONS)}; by default nothing", ""
    )
    rate_actions: bool = flag("whether the agent steers the learning rate", True)
    decide_every: int = flag("steps between decisions; 0 for the preset's", 0)
    steps_per_execution: int = flag("steps that Keras runs in one call", 1)
    arms: tuple[str, ...] = flag(
        f"who is compared: {', '.join(baselines.NAMES)}", ("qan", "random", "constant", "cosine")
    )
    eval_seeds: int = flag("unseen seeds that each arm is trained with", 5)
    strategy: str = flag(
        f"devices that share each batch: {', '.join(distribute.NAMES)}; auto takes all local GPUs, "
        "multi_worker the hosts in TF_CONFIG",
        "auto",
    )
    data_dir: str = flag("folder of prepared data sets; by default TFDS_DATA_DIR's", "")
    save_every_epochs: int = flag(
        "epochs between saves of a training that is not over; 0 for as often as takes at most 1 % "
        "of its time, -1 for never",
        0,
    )

    def __post_init__(self) -> None:
        """Check the fields that nothing below checks itself."""
        ExecutorFlags.__post_init__(self)
        ThreadFlags.__post_init__(self)
        for name in ("epochs", "batch_size", "eval_seeds", "steps_per_execution"):
            check_integer(name, getattr(self, name), 1)
        for name in ("episodes", "decide_every", "seed"):
            check_integer(name, getattr(self, name), 0)
        check_integer("save_every_epochs", self.save_every_epochs, -1, hint="-1 is never.")
        check_number("train_fraction", self.train_fraction, above=0, maximum=1)
        check_number("wrong_labels", self.wrong_labels, 0, below=1)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_number("momentum", self.momentum, 0, below=1)
        check_number("learning_rate_spread", self.learning_rate_spread, 1)
        rates = self.learning_rate
        check(len(rates) > 0, "learning_rate", rates, "at least one initial rate")
        if self.selection:
            hint = "Leave it empty for batches in random order."
            check_choice("selection", self.selection, SELECTIONS, hint=hint)
        check(
            self.rate_actions or bool(self.selection),
            "rate_actions",
            self.rate_actions,
            "it or a selection, so that something is left to steer",
            "Name a selection, for example class_mix.",
        )
        check_choice("strategy", self.strategy, distribute.NAMES)
        self._check_devices()
        presets.by_name(self.preset)
        self.evaluation()

    def _check_devices(self) -> None:
        if self.steps_per_execution > 1 and self.strategy in ("mirrored", "multi_worker"):
            raise ValueError(
                f"steps_per_execution is {self.steps_per_execution} with strategy "
                f"{self.strategy}; expected 1, as Keras's fit fails with more on several devices. "
                "Leave one of them out."
            )
        if self.strategy == "multi_worker" and (self.engine != "local" or self.workers > 1):
            raise ValueError(
                f"strategy is multi_worker with engine {self.engine} and workers={self.workers}; "
                "expected one model on several hosts, or several episodes at once, not both. Leave "
                "engine and workers out, or use another strategy."
            )

    def evaluation(self) -> Evaluation:
        """Return how the learned policy is compared."""
        return Evaluation(self.arms, self.eval_seeds, self.learning_rate)

    def run(self, progress: Progress | None = None) -> RunReport:
        """Learn, evaluate and write everything to the run directory.

        Raises:
          FileExistsError: the directory holds a run and `resume` is not set.
          FileNotFoundError: `resume` is set and the directory holds no run.
          DirectoryInUseError: another process writes to the directory.
          ImportError: Ray is asked for and not installed.
          RuntimeError: TensorFlow had begun before the strategy could be made.
          ValueError: the run in the directory was made with other flags, or TF_CONFIG is unusable.
        """
        self.use_threads()
        self.open_strategy()  # before anything else uses a device
        workers = distribute.current_worker_group()
        if (
            workers is not None
            and not workers.is_chief
            and not self.directory.startswith(str(workers.scratch))
        ):
            aside = str(distribute.worker_directory(Path(self.directory)))
            return dataclasses.replace(self, directory=aside, resume=False).run(progress)
        directory = self._choose_directory()
        with run_directory(directory), Lock(directory), self.make_executor() as executor:
            self._open(directory)
            task = self.task()
            return run_episodes(
                task,
                self.learner(directory, task.selector),
                episodes=self.episodes,
                evaluation=self.evaluation(),
                learning_rates=(
                    self.learning_rate[0] / self.learning_rate_spread,
                    self.learning_rate[-1] * self.learning_rate_spread,
                ),
                seed=self.seed,
                progress=progress,
                engine=executor,
                save_every_epochs=None if self.save_every_epochs < 0 else self.save_every_epochs,
            )

    def open_strategy(self) -> contextlib.AbstractContextManager[Any]:
        """Return the scope that models are made in; the first call sets up and lists the devices.

        With "auto" there is none on one device, which TensorFlow uses anyway, nor where
        steps_per_execution is above 1, which Keras cannot do on several.
        """
        strategy = _strategy(self.strategy)
        is_alone = strategy.num_replicas_in_sync == 1 or self.steps_per_execution > 1
        if self.strategy == "auto" and is_alone:
            return contextlib.nullcontext()
        return strategy.scope()

    def learner(self, directory: Path, selector: Selector | None = None) -> QANCallback:
        """Return the callback that learns, with the actions of a selector where one is given."""
        settings = presets.by_name(self.preset, self.seed)
        if selector is not None:
            settings = presets.with_selection(settings, selector, self.rate_actions)
        if self.decide_every:
            settings["decide_every"] = self.decide_every
        return QANCallback(directory, **settings)

    def task(self) -> Task:
        """Return the training."""
        splits = data.load(
            self.dataset, train_fraction=self.train_fraction, data_dir=self.data_dir or None
        )
        if self.wrong_labels:
            train = splits.train.with_wrong_labels(
                self.wrong_labels, num_classes=splits.num_classes, seed=self.seed
            )
            splits = dataclasses.replace(splits, train=train)

        def build_model(seed: int) -> keras.Model:
            with self.open_strategy():
                model = models.build(
                    self.model,
                    splits.input_shape,
                    splits.num_classes,
                    seed=seed,
                    weight_decay=self.weight_decay,
                )
                model.compile(
                    self._optimizer(),
                    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                    metrics=["accuracy"],
                    steps_per_execution=self.steps_per_execution,
                    jit_compile=False,
                )
            return model

        batch_size = min(self.batch_size, len(splits.train))
        return Task(
            build_model=build_model,
            train=lambda seed: splits.train.batches(batch_size, seed=seed, drop_remainder=True),
            validation=splits.validation.batches(256),
            test=splits.test.batches(256),
            epochs=self.epochs,
            selector=self._selector(splits, batch_size),
            steps=len(splits.train) // batch_size,
            source=Call(
                f"{__name__}:make_task",
                {"fields": dataclasses.asdict(self) | {"directory": "", "resume": False}},
            ),
        )

    def _selector(self, splits: data.Splits, batch_size: int) -> Selector | None:
        """Return the selector of the training batches; None for a random order."""
        if not self.selection:
            return None
        examples = tf.data.Dataset.from_tensor_slices((splits.train.x, splits.train.y))
        if self.selection == "class_mix":
            # Every class keeps half of an even share, whatever the agent chooses.
            least = batch_size // (2 * splits.num_classes)
            return selection.ClassMix(examples, splits.num_classes, batch_size, least=least)
        if self.selection == "loss_rank":
            # The agent begins without pressure, and moves it toward the hard or the easy.
            return selection.LossRank(examples, batch_size, pressure=1.0, anneal=False)
        return selection.Prune(examples, batch_size)

    def _optimizer(self) -> keras.optimizers.Optimizer:
        rate = self.learning_rate[0]
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(rate, momentum=self.momentum, nesterov=self.nesterov)
        return {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[self.optimizer](
            rate
        )

    def _choose_directory(self) -> Path:
        directory = Path(self.directory or next_directory(f"{self.dataset}_{self.model}"))
        if self.resume and not (self.directory and directory.is_dir()):
            raise FileNotFoundError(
                f"There is no run to resume in {self.directory or 'no directory'!r}; expected "
                "--directory to name the folder of a run."
            )
        return directory

    def _open(self, directory: Path) -> None:
        """Check that the run in the directory is this one, and write its flags."""
        path = directory / FLAG_FILE
        if path.exists() and not self.resume:
            raise FileExistsError(
                f"{directory} holds a run already. Set --resume to go on with it, or give another "
                "--directory."
            )
        if path.exists():
            self._require_same(path.read_text(encoding="utf-8", errors="replace"), directory)
        elif (
            self.resume
            and (directory / "agent").exists()
            and not (directory / ORIGIN_FILE).exists()
        ):
            raise FileNotFoundError(
                f"There is no run to resume in {str(directory)!r}: it holds what a QANCallback has "
                "learned in trainings of its own; expected a run of this script. Go on with it by "
                f"QANCallback({str(directory)!r}) in your training, or give another --directory."
            )
        elif self.resume and any((directory / name).exists() for name in ("agent", ORIGIN_FILE)):
            raise FileNotFoundError(
                f"There is no run to resume in {str(directory)!r}: its flags.txt is gone; expected "
                "one. Write down there the flags that it was made with, one a line."
            )
        write_flags(directory, self)

    def _require_same(self, saved: str, directory: Path) -> None:
        before, now = _fixed_flags(saved), _fixed_flags(to_text(self))
        known = {flag_name(line) for line in before}
        defaults = _fixed_flags(to_text(LearningRateExperiment()))
        # The file of an earlier version lacks later flags.
        now = {line for line in now if flag_name(line) in known or line not in defaults}
        if before != now:
            raise ValueError(
                f"The run in {directory} was made with other flags: "
                f"{describe_differences(before, now)}. Repeat its own with "
                f"--flagfile={directory}/flags.txt, or use another --directory."
            )


def _fixed_flags(text: str) -> set[str]:
    """Return the lines of a flag file that a resumed run has to repeat."""
    return {line for line in text.splitlines() if line and flag_name(line) not in _MAY_CHANGE}


@functools.cache
def _strategy(name: str) -> tf.distribute.Strategy:
    """Return the process's one strategy of a name: workers meet once, and models share theirs."""
    return distribute.from_name(name)


def make_task(fields: dict[str, Any]) -> Task:
    """Return the task of an experiment with these fields; its workers call this."""
    return LearningRateExperiment(**fields).task()
