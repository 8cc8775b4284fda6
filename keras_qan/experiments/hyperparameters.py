"""A search on a data set by name: what the script runs."""

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
from keras_qan.parallel import EXECUTORS, Call, make_executor, set_threads

_AT_LEAST_ONE = (("workers", 1), ("trials_at_once", 1))

_KINDS: dict[str, type[Hyperparameter]] = {
    "l2": kinds.L2,
    "l1": kinds.L1,
    "learning_rate": kinds.LearningRate,
    "momentum": kinds.Momentum,
    "label_smoothing": kinds.LabelSmoothing,
    "loss_weights": kinds.LossWeights,
    "initial_scale": kinds.InitialScale,
}


def _said(text: str, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class HyperparameterExperiment:
    """Hyperparameters of a training on a data set; each field is a flag of the script.

    Raises:
      ValueError: a field is out of range; the message says which.
    """

    dataset: str = _said("data set: digits (nothing to download), mnist, cifar10", "digits")
    model: str = _said("mlp, cnn, cnn_bn, or widths of hidden layers such as 50-50-50", "50-50")
    hyperparameters: tuple[str, ...] = _said(
        "what to tune: kind, kind:per or kind:per:schedule_points, of the kinds "
        + ", ".join(_KINDS),
        ("l2:unit",),
    )
    directory: str = _said("where the search is kept and taken up again; nowhere if empty", "")
    method: str = _said("drmad, drmad_piecewise, exact or implicit", "drmad_piecewise")
    reverse_steps: int = _said("steps of drmad's reverse pass; 0 for as many as the training", 0)
    outer_steps: int = _said("trainings with a hypergradient", 20)
    trials: int = _said("trainings of a search for averages by Optuna beforehand", 0)
    trials_at_once: int = _said(
        "trials asked for together: the search depends on it, and not on the number of workers", 1
    )
    storage: str = _said("URL of Optuna's storage; by default SQLite in the directory", "")
    steps: int = _said("updates of each training", 500)
    batch_size: int = _said("examples in a batch", 50)
    examples: int = _said("training and validation examples together; 0 for all", 0)
    validation_fraction: float = _said("share of them held out for validation", 0.25)
    learning_rate: float = _said("α of w ← w + α v, where it is not tuned and where it starts", 0.1)
    momentum: float = _said("γ of v ← γ v − (1 − γ) g, likewise", 0.9)
    initial_penalty: float = _said("what L2 and L1 start from", 1e-4)
    initial_deviation: float = _said(
        "standard deviation of initial kernels of hidden widths; 0 for Glorot's uniform", 0.0
    )
    rule: str = _said("outer rule: adam, sign or plain", "adam")
    step_size: float = _said("of the outer rule, on the raw scale", 0.1)
    seed: int = _said("what everything random follows from", 0)
    check_steps: int = _said("length of a training to compare with exact first; 0 for none", 0)
    strategy: str = _said(
        "devices that share each batch: auto, one_device, mirrored; by default TensorFlow's first",
        "",
    )
    data_dir: str = _said("folder of prepared data sets; by default TFDS_DATA_DIR's", "")
    engine: str = _said(
        "what trains the trials: local (this machine) or ray (pip install -e .[ray])", "local"
    )
    workers: int = _said("trials trained at once, each by a process of its own if above 1", 1)
    ray_address: str = _said("of a Ray cluster; by default one of its own on this machine", "")
    threads: int = _said(
        "CPU threads of each training; 0 for one for each core. Results agree to the last bit for "
        "the same number only",
        0,
    )

    def __post_init__(self) -> None:
        """Checks what the rooms below do not check themselves."""
        whole = ("reverse_steps", "outer_steps", "trials", "examples", "check_steps", "seed")
        for name, least in (*((n, 0) for n in (*whole, "threads")), *_AT_LEAST_ONE):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}.")
        if self.engine not in EXECUTORS or (self.ray_address and self.engine != "ray"):
            raise ValueError(
                f"engine is {self.engine!r} and ray_address {self.ray_address!r}; expected one of "
                f"{', '.join(EXECUTORS)}, and an address with ray alone."
            )
        if self.workers > max(1, min(self.trials, self.trials_at_once)):
            raise ValueError(
                f"workers is {self.workers} with trials={self.trials} and "
                f"trials_at_once={self.trials_at_once}; expected no more workers than trials that "
                "are asked for together: the descent is one long training and keeps none busy. "
                f"Give --trials_at_once={self.workers} with at least as many trials, or "
                "--workers=1."
            )
        if self.initial_deviation < 0.0:
            raise ValueError(f"initial_deviation is {self.initial_deviation}; expected at least 0.")
        if self.strategy not in ("", "auto", "one_device", "mirrored"):
            raise ValueError(
                f"strategy is {self.strategy!r}; expected auto, one_device, mirrored or none. "
                "The reverse pass shares each batch among the devices of one machine alone."
            )
        self.tuned()

    def tuned(self) -> list[Hyperparameter]:
        """The hyperparameters that the flag names."""
        return [self._one(text) for text in self.hyperparameters]

    def _one(self, text: str) -> Hyperparameter:
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
        """Searches, and evaluates the best model on the test set, once.

        Returns:
          The tuner, and the best model's test metrics.
        """
        # Before anything else uses a device.
        self.use_threads()
        strategy = distribute.from_name(self.strategy) if self.strategy else None
        splits = self._splits()
        directory = Path(self.directory) if self.directory else None
        base, options = self._arguments(splits, strategy, directory)
        if not self.trials:
            tuner = Tuner(*base, **options).search(self.outer_steps)
        else:
            fields = dataclasses.asdict(self) | {"directory": ""}
            with make_executor(self.engine, self.workers, self.ray_address) as workers:
                tuner = search_then_descend(
                    *base,
                    trials=self.trials,
                    outer_steps=self.outer_steps,
                    storage=self.storage or None,
                    trials_at_once=self.trials_at_once,
                    engine=workers,
                    source=Call(f"{__name__}:tuner_of", {"fields": fields}),
                    **options,
                )
        x, y = splits.test.x, splits.test.y
        metrics = tuner.best_model().evaluate(x, y, batch_size=256, verbose=0, return_dict=True)
        return tuner, {name: float(value) for name, value in metrics.items()}

    def use_threads(self) -> None:
        """Sets TensorFlow's threads, if so many are asked for; before anything else uses it.

        Raises:
          ValueError: TensorFlow has begun with another number.
        """
        set_threads(self.threads)

    def tuner(self) -> Tuner:
        """The tuner that is searched with, without a directory: what workers train with."""
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
        """What a tuner is made of."""
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
        """As many examples as asked for, in random order; as arrays."""
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


def tuner_of(fields: dict[str, Any]) -> Tuner:
    """The tuner of an experiment with these fields: what its workers call."""
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
      deviation: of normal initial kernels; 0 for Glorot's uniform.
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
