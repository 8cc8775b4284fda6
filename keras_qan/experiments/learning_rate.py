"""An experiment from a data set and a model by name: what the scripts run."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_qan import data, distribute, models, selection
from keras_qan.experiments import baselines as arm_room
from keras_qan.experiments.runner import Evaluation, RunReport, Task, run_episodes
from keras_qan.parallel import EXECUTORS, Call, make_executor, set_threads
from keras_qan.qan import presets
from keras_qan.qan.callback import QANCallback
from keras_qan.selection import Selector
from keras_qan.storage import files
from keras_qan.storage.lock import Lock
from keras_qan.utils.progress import Progress

OPTIMIZERS = ("sgd", "adam", "adamw")

#: Who may choose the batches.
SELECTIONS = ("class_mix", "loss_rank", "prune")

#: What may differ when a run is gone on with.
_MAY_GROW = (
    "episodes",
    "arms",
    "eval_seeds",
    "directory",
    "resume",
    "strategy",
    "ray_address",
    "save_every_epochs",
)


def _said(text: str, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class LearningRateExperiment:
    """QAN learns on one task and is compared with other arms; each field is a flag of the script.

    Raises:
      ValueError: a field is out of range; the message says which.
    """

    dataset: str = _said("data set: digits (nothing to download), mnist, cifar10", "digits")
    model: str = _said("student: mlp, cnn, cnn_bn, wrn-<depth>-<width>", "cnn")
    directory: str = _said(
        "where the run is kept; by default runs/<dataset>_<model> with the next free number", ""
    )
    resume: bool = _said("go on with the run that is in the directory", False)
    seed: int = _said("what everything random follows from", 0)
    preset: str = _said("QAN's settings: default, or paper for those of Fu et al. 2016", "default")
    episodes: int = _said("trainings that QAN learns from", 60)
    epochs: int = _said("epochs of each training", 10)
    batch_size: int = _said("examples in a batch", 32)
    train_fraction: float = _said("share of the training examples to use, in (0, 1]", 1.0)
    wrong_labels: float = _said(
        "share of the training examples that are given a wrong label, in [0, 1)", 0.0
    )
    optimizer: str = _said("the students' optimizer: sgd, adam, adamw", "sgd")
    momentum: float = _said("of sgd, in [0, 1)", 0.9)
    nesterov: bool = _said("whether sgd's momentum is Nesterov's", False)
    weight_decay: float = _said("L2 penalty on the students' kernels", 0.0)
    learning_rate: tuple[float, ...] = _said(
        "initial learning rates of the evaluation, ascending", (0.01,)
    )
    learning_rate_spread: float = _said(
        "training episodes start between the lowest rate / spread and the highest · spread", 1.0
    )
    selection: str = _said(
        f"what the agent chooses mini-batches with: {', '.join(SELECTIONS)}; by default nothing", ""
    )
    rate_actions: bool = _said("whether the agent steers the learning rate", True)
    decide_every: int = _said("steps between decisions; 0 for the preset's", 0)
    steps_per_execution: int = _said("steps that Keras runs in one call", 1)
    arms: tuple[str, ...] = _said(
        f"who is compared: {', '.join(arm_room.NAMES)}", ("qan", "random", "constant", "cosine")
    )
    eval_seeds: int = _said("unseen seeds that each arm is trained with", 5)
    strategy: str = _said(
        f"devices that share each batch: {', '.join(distribute.NAMES)}; auto takes all local GPUs, "
        "multi_worker the hosts in TF_CONFIG",
        "auto",
    )
    data_dir: str = _said("folder of prepared data sets; by default TFDS_DATA_DIR's", "")
    engine: str = _said(
        "what plays the episodes: local (this machine) or ray (pip install -e .[ray])", "local"
    )
    workers: int = _said("episodes played at once, each by a process of its own if above 1", 1)
    ray_address: str = _said("of a Ray cluster; by default one of its own on this machine", "")
    threads: int = _said(
        "CPU threads of each training; 0 for one for each core. Results agree to the last bit for "
        "the same number only",
        0,
    )
    save_every_epochs: int = _said(
        "epochs between saves of a training that is not over; 0 for as often as takes at most 1 % "
        "of its time, -1 for never",
        0,
    )

    def __post_init__(self) -> None:
        """Checks every field that the rooms below do not check themselves."""
        at_least_one = ("epochs", "batch_size", "eval_seeds", "steps_per_execution", "workers")
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1.")
        for name in ("episodes", "decide_every", "seed", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 0.")
        if not 0.0 < self.train_fraction <= 1.0:
            raise ValueError(
                f"train_fraction is {self.train_fraction}; expected a share in (0, 1]."
            )
        if not 0.0 <= self.wrong_labels < 1.0:
            raise ValueError(f"wrong_labels is {self.wrong_labels}; expected a share in [0, 1).")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer is {self.optimizer!r}; expected one of {', '.join(OPTIMIZERS)}."
            )
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum is {self.momentum}; expected a number in [0, 1).")
        if not (self.learning_rate_spread >= 1.0 and math.isfinite(self.learning_rate_spread)):
            raise ValueError(
                f"learning_rate_spread is {self.learning_rate_spread}; expected at least 1."
            )
        if not self.learning_rate:
            raise ValueError("learning_rate is empty; expected at least one initial rate.")
        if self.selection not in ("", *SELECTIONS):
            raise ValueError(
                f"selection is {self.selection!r}; expected one of {', '.join(SELECTIONS)}, or "
                "nothing for batches in random order."
            )
        if not (self.rate_actions or self.selection):
            raise ValueError(
                "rate_actions is False and selection is empty, so that nothing is left to steer; "
                "expected one of them. Name a selection, for example class_mix."
            )
        if self.strategy not in distribute.NAMES:
            raise ValueError(
                f"strategy is {self.strategy!r}; expected one of {', '.join(distribute.NAMES)}."
            )
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
        if self.engine not in EXECUTORS or (self.ray_address and self.engine != "ray"):
            raise ValueError(
                f"engine is {self.engine!r} and ray_address {self.ray_address!r}; expected one of "
                f"{', '.join(EXECUTORS)}, and an address with ray alone."
            )
        if self.save_every_epochs < -1:
            raise ValueError(
                f"save_every_epochs is {self.save_every_epochs}; expected at least -1 (never)."
            )
        presets.by_name(self.preset)
        self.evaluation()

    def evaluation(self) -> Evaluation:
        """How the learned policy is compared."""
        return Evaluation(self.arms, self.eval_seeds, self.learning_rate)

    def run(self, progress: Progress | None = None) -> RunReport:
        """Learns, evaluates and writes everything to the run directory.

        Raises:
          FileExistsError: the directory holds a run and `resume` is not set.
          FileNotFoundError: `resume` is set and the directory holds no run.
          DirectoryInUseError: another process is at the run in the directory.
          ImportError: Ray is asked for and not installed.
          RuntimeError: TensorFlow had begun before the strategy could be made.
          ValueError: the run in the directory was made with other flags, or TF_CONFIG is unusable.
        """
        self.use_threads()
        self.open_strategy()  # before anything else uses a device
        team = distribute.current_worker_group()
        if (
            team is not None
            and not team.is_chief
            and not self.directory.startswith(str(team.scratch))
        ):
            aside = str(distribute.directory_here(Path(self.directory)))
            return dataclasses.replace(self, directory=aside, resume=False).run(progress)
        directory = self._choose_directory()
        directory.mkdir(parents=True, exist_ok=True)
        engine = make_executor(
            self.engine, self.workers, self.ray_address, threads=self.threads or None
        )
        with Lock(directory), engine:
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
                engine=engine,
                save_every_epochs=None if self.save_every_epochs < 0 else self.save_every_epochs,
            )

    def use_threads(self) -> None:
        """Sets TensorFlow's threads, if so many are asked for; before anything else uses it.

        Raises:
          ValueError: TensorFlow has begun with another number.
        """
        set_threads(self.threads)

    def open_strategy(self) -> contextlib.AbstractContextManager[Any]:
        """The scope that models are made in; at the first call, devices are set up and listed.

        With "auto" and one device there is none: TensorFlow uses that device anyway. Nor where
        steps_per_execution is above 1, which Keras cannot do on several.
        """
        strategy = _strategy(self.strategy)
        is_alone = strategy.num_replicas_in_sync == 1 or self.steps_per_execution > 1
        if self.strategy == "auto" and is_alone:
            return contextlib.nullcontext()
        return strategy.scope()

    def learner(self, directory: Path, selector: Selector | None = None) -> QANCallback:
        """The callback that learns, with the selector's actions where one is given."""
        settings = presets.by_name(self.preset, self.seed)
        if selector is not None:
            settings = presets.with_selection(settings, selector, self.rate_actions)
        if self.decide_every:
            settings["decide_every"] = self.decide_every
        return QANCallback(directory, **settings)

    def task(self) -> Task:
        """What is trained."""
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
                f"{__name__}:task_of",
                {"fields": dataclasses.asdict(self) | {"directory": "", "resume": False}},
            ),
        )

    def _selector(self, splits: data.Splits, batch_size: int) -> Selector | None:
        """What chooses the training batches, if anything does."""
        if not self.selection:
            return None
        examples = tf.data.Dataset.from_tensor_slices((splits.train.x, splits.train.y))
        if self.selection == "class_mix":
            # Half of an even share is every class's own, whatever the agent pushes.
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

    # The run directory.

    def flags(self) -> str:
        """The experiment as a flag file; what only says where to keep it is left out."""
        lines = []
        for field in dataclasses.fields(self):
            if field.name in ("directory", "resume"):
                continue
            value = getattr(self, field.name)
            if isinstance(value, bool):
                lines.append(f"--{field.name}" if value else f"--no{field.name}")
            else:
                text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                lines.append(f"--{field.name}={text}")
        return "\n".join(lines) + "\n"

    def _choose_directory(self) -> Path:
        directory = Path(self.directory) if self.directory else self._next_directory()
        if self.resume and not (self.directory and directory.is_dir()):
            raise FileNotFoundError(
                f"There is no run to resume in {self.directory or 'no directory'!r}; expected "
                "--directory to name the folder of a run."
            )
        return directory

    def _open(self, directory: Path) -> None:
        """Checks that the run in the directory is this one, and notes the flags."""
        path = directory / "flags.txt"
        if path.exists() and not self.resume:
            raise FileExistsError(
                f"{directory} holds a run already. Set --resume to go on with it, or give another "
                "--directory."
            )
        if path.exists():
            self._require_same(path.read_text(encoding="utf-8", errors="replace"), directory)
        elif self.resume and any((directory / name).exists() for name in ("agent", "run.json")):
            raise FileNotFoundError(
                f"There is no run to resume in {str(directory)!r}: its flags.txt is gone; expected "
                "one. Write down there the flags that it was made with, one a line."
            )
        files.remove_leftovers(directory, "flags.txt")
        files.replace(path, self.flags())

    def _next_directory(self) -> Path:
        stem = f"{self.dataset}_{self.model}"
        number = 1
        while (Path("runs") / f"{stem}-{number:03d}").exists():
            number += 1
        return Path("runs") / f"{stem}-{number:03d}"

    def _require_same(self, saved: str, directory: Path) -> None:
        def settled(text: str) -> set[str]:
            return {line for line in text.splitlines() if line and _flag(line) not in _MAY_GROW}

        before, now = settled(saved), settled(self.flags())
        known = {_flag(line) for line in before}
        standard = settled(LearningRateExperiment().flags())
        # A run of an earlier version says nothing of flags that came later.
        now = {line for line in now if _flag(line) in known or line not in standard}
        differing = before ^ now
        if differing:
            raise ValueError(
                f"The run in {directory} was made with other flags: "
                f"{', '.join(sorted(differing))}. Repeat its own with "
                f"--flagfile={directory}/flags.txt, or use another --directory."
            )


@functools.cache
def _strategy(name: str) -> tf.distribute.Strategy:
    """One strategy of each name for the process: workers meet once, and models share theirs."""
    return distribute.from_name(name)


def _flag(line: str) -> str:
    """The name of the flag that a line of a flag file sets."""
    name = line.split("=")[0].removeprefix("--")
    return name.removeprefix("no") if name.startswith("no") and "=" not in line else name


def task_of(fields: dict[str, Any]) -> Task:
    """The task of an experiment with these fields: what its workers call."""
    return LearningRateExperiment(**fields).task()
