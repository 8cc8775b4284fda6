"""A search by names and numbers: what the script runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_qan import data
from keras_qan.metaqnn.q_learning import EpsilonSchedule, QLearning
from keras_qan.metaqnn.recipe import Recipe, Stopping
from keras_qan.metaqnn.remote import make_trial_map
from keras_qan.metaqnn.search import MetaQNN
from keras_qan.metaqnn.space import SPACES, Space
from keras_qan.parallel import Executor, make_executor
from keras_qan.utils import progress


def _said(text: str, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ArchitectureExperiment:
    """A search of architectures; each field is a flag of the script.

    Raises:
      ValueError: a field is out of range; the message says which.
    """

    dataset: str = _said("data set: digits (nothing to download), mnist, cifar10", "digits")
    train_fraction: float = _said("share of the training examples to use, in (0, 1]", 1.0)
    validation_examples: int = _said("held out of the training examples; 0 for a sixth", 0)
    data_dir: str = _said("folder of prepared data sets; by default TFDS_DATA_DIR's", "")
    space: str = _said(f"what may be built: {', '.join(SPACES)}", "small_images")
    max_parameters: int = _said("weights of a model at the most; 0 for no limit", 150_000)
    directory: str = _said(
        "where the search is kept and gone on from; by default runs/<dataset>_metaqnn", ""
    )
    seed: int = _said("what everything random follows from", 0)
    models: int = _said("how many different models there are to be in all", 60)
    schedule: int = _said(
        "models that the paper's schedule of ε is shrunk to; 0 for as many as `models`",
        0,
    )
    alpha: float = _said("learning rate of the action values", 0.01)
    gamma: float = _said("discount of the action values", 1.0)
    initial_value: float = _said("value of what was never tried", 0.5)
    replays: int = _said("trajectories replayed for each model", 128)
    epochs: int = _said("epochs of each model", 8)
    learning_rate: float = _said("first learning rate", 3e-3)
    decay: float = _said("the rate is multiplied by it ...", 0.2)
    decay_every: int = _said("... after every so many epochs", 5)
    batch_size: int = _said("examples in a batch", 32)
    weight_decay: float = _said("L2 penalty on kernels", 5e-4)
    mirror: bool = _said("whether images are mirrored at random", False)
    restart_after: int = _said(
        "epochs after which a model no better than chance starts anew, slower; 0 for never", 3
    )
    max_seconds: float = _said("time budget of each model; 0 for none", 0.0)
    stopping: bool = _said("whether models predicted to end behind are stopped", False)
    confidence: float = _said("how sure that has to be", 0.9)
    keep_best: int = _said("whatever may be among the best so many goes on", 3)
    reward: str = _said("of a stopped model: predicted or observed", "predicted")
    warm_start: bool = _said("whether models start from their nearest relative", False)
    retrain: int = _said("how many of the best are trained anew in the end; 0 for none", 10)
    ensemble: int = _said("how many of these are averaged", 5)
    engine: str = _said(
        "what trains the models: local (this machine) or ray (pip install -e .[ray])", "local"
    )
    workers: int = _said("models trained at once, each by a process of its own if above 1", 1)
    ray_address: str = _said("of a Ray cluster; by default one of its own on this machine", "")
    final: str = _said("recipe of the retraining: same, or paper for CIFAR-10's", "same")

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise ValueError(f"space is {self.space!r}; expected one of {', '.join(SPACES)}.")
        if self.final not in ("same", "paper"):
            raise ValueError(f"final is {self.final!r}; expected same or paper.")
        for name in ("models", "epochs", "decay_every", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1.")
        for name in ("schedule", "validation_examples", "max_parameters", "retrain", "max_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 0.")
        if self.retrain and not 1 <= self.ensemble <= self.retrain:
            raise ValueError(f"ensemble is {self.ensemble}; expected 1 to retrain={self.retrain}.")
        self.recipe()
        self.learning()
        self.rule()

    def search(self, workers: Executor | None = None) -> MetaQNN:
        """The search, gone on from where its directory is.

        Args:
          workers: what trains the models; by default this process.

        Raises:
          ValueError: the directory holds another search.
        """
        more: dict[str, Any] = {}
        if workers is not None and not workers.is_here:
            more = {"engine": make_trial_map(workers), "parallel": workers.workers}
        return MetaQNN(
            self.architectures(),
            self._splits(),
            Path(self.directory) if self.directory else Path("runs") / f"{self.dataset}_metaqnn",
            self.seed,
            self.learning(),
            self.recipe(),
            self.rule(),
            self.warm_start,
            **more,
        )

    def run(self, watch: progress.Progress | None = None) -> SearchReport:
        """Searches, trains the best anew, and reports them on the test examples."""
        with make_executor(self.engine, self.workers, self.ray_address) as workers:
            search = self.search(workers)
            search.run(self.models, watch)
        if not self.retrain:
            return SearchReport(search, [], [], None)
        recipe = Recipe.paper_final() if self.final == "paper" else None
        found = search.ensemble(self.ensemble, self.retrain, recipe)
        test = search.task.test
        if test is None:
            return SearchReport(search, list(found.architectures), [], None)
        return SearchReport(
            search, list(found.architectures), found.accuracies(test), found.accuracy(test)
        )

    def architectures(self) -> Space:
        """What may be built."""
        return SPACES[self.space](max_parameters=self.max_parameters or None)

    def learning(self) -> QLearning:
        """How the agent learns."""
        schedule = EpsilonSchedule.scaled(self.schedule or self.models)
        return QLearning(schedule, self.alpha, self.gamma, self.initial_value, self.replays)

    def recipe(self) -> Recipe:
        """How each model is trained."""
        return Recipe.falling(
            self.learning_rate,
            self.epochs,
            self.decay,
            self.decay_every,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            mirror=self.mirror,
            restart_after=self.restart_after,
            max_seconds=self.max_seconds or None,
        )

    def rule(self) -> Stopping | None:
        """When models are stopped."""
        found = Stopping(self.confidence, self.keep_best, 0.0, self.reward)  # type: ignore[arg-type]
        return found if self.stopping else None

    def flags(self) -> str:
        """The experiment as a flag file."""
        lines = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool):
                lines.append(f"--{field.name}" if value else f"--no{field.name}")
            else:
                lines.append(f"--{field.name}={value}")
        return "\n".join(lines) + "\n"

    def _splits(self) -> data.Splits:
        more: dict[str, Any] = {}
        if self.validation_examples:
            whole = data.load(self.dataset, data_dir=self.data_dir or None)
            count = len(whole.train) + len(whole.validation)
            more["validation_fraction"] = self.validation_examples / count
        return data.load(
            self.dataset,
            train_fraction=self.train_fraction,
            data_dir=self.data_dir or None,
            **more,
        )


@dataclass(frozen=True, eq=False)
class SearchReport:
    """What a search came to.

    Args:
      search: the search.
      architectures: of the ensemble, best first.
      test_accuracies: of each by itself; empty if nothing was trained anew.
      ensemble_accuracy: of all together; None if nothing was trained anew.
    """

    search: MetaQNN
    architectures: list[str]
    test_accuracies: list[float]
    ensemble_accuracy: float | None
