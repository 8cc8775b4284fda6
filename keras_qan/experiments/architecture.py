"""The experiment of an architecture search, on a data set by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_qan import data
from keras_qan.experiments.executor_flags import ExecutorFlags
from keras_qan.experiments.flags import flag, open_run
from keras_qan.metaqnn.q_learning import EpsilonSchedule, QLearning
from keras_qan.metaqnn.recipe import Recipe, Stopping
from keras_qan.metaqnn.search import MetaQNN
from keras_qan.metaqnn.space import SPACES, Space
from keras_qan.parallel import Executor
from keras_qan.utils import progress
from keras_qan.utils.validation import check_choice, check_integer, check_number


@dataclass(frozen=True)
class ArchitectureExperiment(ExecutorFlags):
    """A search of architectures; each field is a flag of the script.

    Raises:
      ValueError: a field is out of range; the message says which.
    """

    dataset: str = flag("data set: digits (nothing to download), mnist, cifar10", "digits")
    train_fraction: float = flag("share of the training examples to use, in (0, 1]", 1.0)
    validation_examples: int = flag("held out of the training examples; 0 for a sixth", 0)
    data_dir: str = flag("folder of prepared data sets; by default TFDS_DATA_DIR's", "")
    space: str = flag(f"what may be built: {', '.join(SPACES)}", "small_images")
    max_parameters: int = flag("weights of a model at the most; 0 for no limit", 150_000)
    directory: str = flag(
        "where the search is kept and gone on from; by default runs/<dataset>_metaqnn", ""
    )
    seed: int = flag("what everything random follows from", 0)
    models: int = flag("how many different models there are to be in all", 60)
    schedule: int = flag(
        "models that the paper's schedule of ε is shrunk to; 0 for as many as `models`",
        0,
    )
    alpha: float = flag("learning rate of the action values", 0.01)
    gamma: float = flag("discount of the action values", 1.0)
    initial_value: float = flag("value of what was never tried", 0.5)
    replays: int = flag("trajectories replayed for each model", 128)
    epochs: int = flag("epochs of each model", 8)
    learning_rate: float = flag("first learning rate", 3e-3)
    decay: float = flag("the rate is multiplied by it ...", 0.2)
    decay_every: int = flag("... after every so many epochs", 5)
    batch_size: int = flag("examples in a batch", 32)
    weight_decay: float = flag("L2 penalty on kernels", 5e-4)
    mirror: bool = flag("whether images are mirrored at random", False)
    restart_after: int = flag(
        "epochs after which a model no better than chance starts anew, slower; 0 for never", 3
    )
    max_seconds: float = flag("time budget of each model; 0 for none", 0.0)
    stopping: bool = flag("whether models predicted to end behind are stopped", False)
    confidence: float = flag("how sure that has to be", 0.9)
    keep_best: int = flag("whatever may be among the best so many goes on", 3)
    reward: str = flag("of a stopped model: predicted or observed", "predicted")
    warm_start: bool = flag("whether models start from their nearest relative", False)
    retrain: int = flag("how many of the best are trained anew in the end; 0 for none", 10)
    ensemble: int = flag("how many of these are averaged", 5)
    final: str = flag("recipe of the retraining: same, or paper for CIFAR-10's", "same")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("space", self.space, tuple(SPACES))
        check_choice("final", self.final, ("same", "paper"))
        for name in ("models", "epochs", "decay_every"):
            check_integer(name, getattr(self, name), 1)
        for name in ("schedule", "validation_examples", "max_parameters", "retrain"):
            check_integer(name, getattr(self, name), 0)
        check_number("max_seconds", self.max_seconds, 0)
        if self.retrain:
            hint = f"retrain is {self.retrain}."
            check_integer("ensemble", self.ensemble, 1, self.retrain, hint=hint)
        self.recipe()
        self.learning()
        self.rule()

    def search(self, workers: Executor | None = None) -> MetaQNN:
        """Return the search, resumed from its directory.

        Args:
          workers: the processes that train the models. Defaults to this process.

        Raises:
          ValueError: the directory holds another search.
        """
        return MetaQNN(
            self.architectures(),
            self._splits(),
            self.run_directory(),
            seed=self.seed,
            learning=self.learning(),
            recipe=self.recipe(),
            stopping=self.rule(),
            warm_start=self.warm_start,
            engine=workers,
        )

    def run(self, watch: progress.Progress | None = None) -> SearchReport:
        """Search, train the best anew, and evaluate them on the test examples.

        Args:
          watch: the display of progress. Defaults to bars on a terminal, else to none.

        Raises:
          ValueError: the directory holds another search.
        """
        with open_run(self.run_directory(), self):
            with self.make_executor() as workers:
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

    def run_directory(self) -> Path:
        """Return the folder that the search is kept in."""
        return Path(self.directory or f"runs/{self.dataset}_metaqnn")

    def architectures(self) -> Space:
        """Return the architectures that may be built."""
        return SPACES[self.space](max_parameters=self.max_parameters or None)

    def learning(self) -> QLearning:
        """Return the settings of the agent."""
        schedule = EpsilonSchedule.scaled(self.schedule or self.models)
        return QLearning(schedule, self.alpha, self.gamma, self.initial_value, self.replays)

    def recipe(self) -> Recipe:
        """Return the training of each model."""
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
        """Return when models are stopped; None for never."""
        found = Stopping(self.confidence, self.keep_best, 0.0, self.reward)  # type: ignore[arg-type]
        return found if self.stopping else None

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
    """Outcome of a search.

    Attributes:
      search: the search.
      architectures: of the ensemble, best first.
      test_accuracies: of each by itself; empty if nothing was trained anew.
      ensemble_accuracy: of all together; None if nothing was trained anew.
    """

    search: MetaQNN
    architectures: list[str]
    test_accuracies: list[float]
    ensemble_accuracy: float | None
