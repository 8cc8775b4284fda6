"""The experiment of hypergradients, on a data set by name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_qan import data, distribute, models
from keras_qan.drmad import hyperparameters as kinds
from keras_qan.drmad.hyperparameters import Hyperparameter
from keras_qan.drmad.inner_loop import Training
from keras_qan.drmad.methods import Drmad, Method, method_from_name
from keras_qan.drmad.outer_loop import OuterOptimizer
from keras_qan.drmad.search import search_then_descend
from keras_qan.drmad.tuner import Tuner
from keras_qan.experiments.executor_flags import ExecutorFlags, ThreadFlags
from keras_qan.experiments.flags import flag, open_run
from keras_qan.parallel import Call
from keras_qan.utils.validation import check, check_integer, check_number

_KINDS: dict[str, type[Hyperparameter]] = {
    "l2": kinds.L2,
    "l1": kinds.L1,
    "learning_rate": kinds.LearningRate,
    "momentum": kinds.Momentum,
    "label_smoothing": kinds.LabelSmoothing,
    "loss_weights": kinds.LossWeights,
    "initial_scale": kinds.InitialScale,
}


@dataclass(frozen=True)
class HyperparameterExperiment(ExecutorFlags, ThreadFlags):
    """Hyperparameters of a training on a data set; each field is a flag of the script.

    Raises:
      ValueError: a field is out of range; the message says which.
    """

    dataset: str = flag("data set: digits (nothing to download), mnist, cifar10", "digits")
    model: str = flag("mlp, cnn, cnn_bn, or widths of hidden layers such as 50-50-50", "50-50")
    hyperparameters: tuple[str, ...] = flag(
        "what to tune: kind, kind:per or kind:per:schedule_points, of the kinds "
        + ", ".join(_KINDS),
        ("l2:unit",),
    )
    directory: str = flag("where the search is kept and taken up again; nowhere if empty", "")
    method: str = flag("drmad, drmad_piecewise, exact or implicit", "drmad_piecewise")
    reverse_steps: int = flag("steps of drmad's reverse pass; 0 for as many as the training", 0)
    outer_steps: int = flag("trainings with a hypergradient", 20)
    trials: int = flag("trainings of a search for averages by Optuna beforehand", 0)
    trials_at_once: int = flag(
        "trials asked for together: the search depends on it, and not on the number of workers", 1
    )
    storage: str = flag("URL of Optuna's storage; by default SQLite in the directory", "")
    steps: int = flag("updates of each training", 500)
    batch_size: int = flag("examples in a batch", 50)
    examples: int = flag("training and validation examples together; 0 for all", 0)
    validation_fraction: float = flag("share of them held out for validation", 0.25)
    learning_rate: float = flag("α of w ← w + α v, where it is not tuned and where it starts", 0.1)
    momentum: float = flag("γ of v ← γ v − (1 − γ) g, likewise", 0.9)
    initial_penalty: float = flag("what L2 and L1 start from", 1e-4)
    initial_deviation: float = flag(
        "standard deviation of initial kernels of hidden widths; 0 for Glorot's uniform", 0.0
    )
    rule: str = flag("outer rule: adam, sign or plain", "adam")
    step_size: float = flag("of the outer rule, on the raw scale", 0.1)
    seed: int = flag("what everything random follows from", 0)
    check_steps: int = flag("length of a training to compare with exact first; 0 for none", 0)
    strategy: str = flag(
        "devices that share each batch: auto, one_device, mirrored; by default TensorFlow's first",
        "",
    )
    data_dir: str = flag("folder of prepared data sets; by default TFDS_DATA_DIR's", "")

    def __post_init__(self) -> None:
        """Check the fields that nothing below checks itself."""
        ExecutorFlags.__post_init__(self)
        ThreadFlags.__post_init__(self)
        for name in ("reverse_steps", "outer_steps", "trials", "examples", "check_steps", "seed"):
            check_integer(name, getattr(self, name), 0)
        check_integer("trials_at_once", self.trials_at_once, 1)
        check_number("initial_deviation", self.initial_deviation, 0)
        if self.workers > max(1, min(self.trials, self.trials_at_once)):
            raise ValueError(
                f"workers is {self.workers} with trials={self.trials} and "
                f"trials_at_once={self.trials_at_once}; expected no more workers than trials that "
                "are asked for together: the descent is one long training and keeps none busy. "
                f"Give --trials_at_once={self.workers} with at least as many trials, or "
                "--workers=1."
            )
        check(
            self.strategy in ("", "auto", "one_device", "mirrored"),
            "strategy",
            self.strategy,
            "auto, one_device, mirrored or none",
            "The reverse pass shares each batch among the devices of one machine alone.",
        )
        self.tuned()

    def tuned(self) -> list[Hyperparameter]:
        """Return the hyperparameters that the flag names."""
        return [self._parse(text) for text in self.hyperparameters]

    def _parse(self, text: str) -> Hyperparameter:
        kind, *rest = text.split(":")
        if kind not in _KINDS or len(rest) > 2:
            raise ValueError(
                f"hyperparameters holds {text!r}; expected kind, kind:per or "
                f"kind:per:schedule_points, of {', '.join(_KINDS)}. Try l2:unit."
            )
        options: dict[str, Any] = {}
        if rest and kind == "momentum":
            rest = ["", *rest]
        if rest and rest[0]:
            options["per"] = rest[0]
        if len(rest) > 1:
            if not rest[1].isdigit() or kind not in ("learning_rate", "momentum"):
                raise ValueError(
                    f"hyperparameters holds {text!r}; expected a whole number of schedule points, "
                    "for learning_rate or momentum. Try learning_rate:layer:10."
                )
            options["schedule_points"] = int(rest[1])
        if kind in ("l2", "l1"):
            options["initial"] = self.initial_penalty
        try:
            return _KINDS[kind](**options)
        except TypeError as error:
            raise ValueError(f"hyperparameters holds {text!r}: {error}.") from error

    def run(self) -> tuple[Tuner, dict[str, float]]:
        """Search, and evaluate the best model on the test set, once.

        Returns:
          The tuner, and the best model's test metrics.
        """
        # Before anything else uses a device.
        self.use_threads()
        strategy = distribute.from_name(self.strategy) if self.strategy else None
        if not self.directory:
            return self._run(strategy, None)
        with open_run(Path(self.directory), self):
            return self._run(strategy, Path(self.directory))

    def _run(self, strategy: Any, directory: Path | None) -> tuple[Tuner, dict[str, float]]:
        splits = self._splits()
        base, options = self._arguments(splits, strategy, directory)
        if not self.trials:
            tuner = Tuner(*base, **options).search(self.outer_steps)
        else:
            fields = dataclasses.asdict(self) | {"directory": ""}
            with self.make_executor() as workers:
                tuner = search_then_descend(
                    *base,
                    trials=self.trials,
                    outer_steps=self.outer_steps,
                    storage=self.storage or None,
                    trials_at_once=self.trials_at_once,
                    engine=workers,
                    source=Call(f"{__name__}:make_tuner", {"fields": fields}),
                    **options,
                )
        x, y = splits.test.x, splits.test.y
        metrics = tuner.best_model().evaluate(x, y, batch_size=256, verbose=0, return_dict=True)
        return tuner, {name: float(value) for name, value in metrics.items()}

    def tuner(self) -> Tuner:
        """Return the tuner without a directory; workers train with it."""
        strategy = distribute.from_name(self.strategy) if self.strategy else None
        base, options = self._arguments(self._splits(), strategy, None)
        return Tuner(*base, **options)

    def _splits(self) -> data.Splits:
        return data.load(
            self.dataset,
            validation_fraction=self.validation_fraction,
            seed=self.seed,
            data_dir=self.data_dir or None,
        )

    def _arguments(
        self, splits: data.Splits, strategy: Any, directory: Path | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional arguments and the options of the tuner."""
        train, validation = self._kept(splits)

        def build_model(seed: int) -> keras.Model:
            return self._model(splits, seed)

        options = {
            "method": self._method(),
            "training": Training(
                steps=self.steps,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                momentum=self.momentum,
                seed=self.seed,
            ),
            "outer": OuterOptimizer(self.rule, self.step_size),
            "strategy": strategy,
        }
        return (build_model, train, validation, self.tuned(), directory), options

    def _kept(self, splits: data.Splits) -> tuple[Any, Any]:
        """Return as many training and validation examples as asked for, in random order."""
        parts = []
        held_out = round(self.examples * self.validation_fraction)
        sizes = (self.examples - held_out, held_out)
        for number, (examples, size) in enumerate(
            zip((splits.train, splits.validation), sizes, strict=True)
        ):
            if self.examples and not 0 < size <= len(examples):
                raise ValueError(
                    f"examples is {self.examples}, of which {size} would be "
                    f"{('training', 'validation')[number]} examples; expected 1 to "
                    f"{len(examples)}. Choose another number or validation_fraction."
                )
            rng = np.random.default_rng([self.seed, number])
            places = rng.permutation(len(examples))[: size if self.examples else None]
            parts.append((examples.x[places], examples.y[places]))
        return parts[0], parts[1]

    def _method(self) -> Method:
        found = method_from_name(self.method)
        if self.reverse_steps and isinstance(found, Drmad):
            return dataclasses.replace(found, reverse_steps=self.reverse_steps)
        return found

    def _model(self, splits: data.Splits, seed: int) -> keras.Model:
        if self.model.replace("-", "").isdigit():
            widths = [int(width) for width in self.model.split("-") if width]
            model = perceptron(
                splits.input_shape, widths, splits.num_classes, seed, self.initial_deviation
            )
        else:
            model = models.build(self.model, splits.input_shape, splits.num_classes, seed=seed)
        model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
        return model


def make_tuner(fields: dict[str, Any]) -> Tuner:
    """Return the tuner of an experiment with these fields; its workers call this."""
    return HyperparameterExperiment(**fields).tuner()


def perceptron(
    shape: tuple[int, ...], widths: list[int], num_classes: int, seed: int, deviation: float = 0.0
) -> keras.Model:
    """Returns rectified layers of these widths, and logits; not compiled.

    Args:
      shape: of one input.
      widths: of the hidden layers.
      num_classes: number of logits.
      seed: of the initial kernels.
      deviation: of normal initial kernels; 0 for Glorot's uniform. Defaults to 0.
    """

    def kernel(number: int) -> keras.Initializer:
        drawn = int(np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1)[0] >> 1)
        if deviation:
            return keras.initializers.RandomNormal(stddev=deviation, seed=drawn)
        return keras.initializers.GlorotUniform(seed=drawn)

    layers: list[Any] = [keras.Input(shape, name="inputs"), keras.layers.Flatten(name="flatten")]
    for number, width in enumerate(widths):
        layers.append(
            keras.layers.Dense(
                width, "relu", kernel_initializer=kernel(number), name=f"hidden_{number + 1}"
            )
        )
    layers.append(
        keras.layers.Dense(num_classes, kernel_initializer=kernel(len(widths)), name="logits")
    )
    return keras.Sequential(layers)
