"""Stages as flags write them: lists with one entry for each stage.

A rally by names and numbers: what the script runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_qan import data
from keras_qan.experiments.flags import flag, open_run
from keras_qan.models.plain import layer_names, network
from keras_qan.qan.callback import QANCallback
from keras_qan.rally.growth_rule import GrowthRule
from keras_qan.rally.rally import Rally
from keras_qan.rally.report import RallyReport, cost_to
from keras_qan.rally.stage import Stage

#: What stands for "none" in a list.
NONE = ("", "-")


@dataclass(frozen=True)
class StageFlags:
    """The lists.

    Args:
      shares: of the examples.
      widths: convolutions, then the hidden layer, with dashes between.
      epochs: passes over the stage's examples.
      deepen: layers that are followed by a new one, with + between; "-" for none.
      rates: the first rate of each stage.
      final_rates: the last rate of each stage; "-" for one that stays.
      noise: on each stage's copies.

    The last four may be empty: then no stage has one of its own.

    Raises:
      ValueError: a list has another length than `shares`, or an entry is not a number.
    """

    shares: Sequence[str]
    widths: Sequence[str]
    epochs: Sequence[str]
    deepen: Sequence[str] = ()
    rates: Sequence[str] = ()
    final_rates: Sequence[str] = ()
    noise: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("shares", "widths", "epochs"):
            if len(getattr(self, name)) != len(self.shares) or not self.shares:
                raise ValueError(
                    f"{name} is {','.join(getattr(self, name))} and shares is "
                    f"{','.join(self.shares)}; expected one for each stage in both."
                )
        for name in ("deepen", "rates", "final_rates", "noise"):
            if getattr(self, name) and len(getattr(self, name)) != len(self.shares):
                raise ValueError(
                    f"{name} is {','.join(getattr(self, name))}; expected one for each of the "
                    f"{len(self.shares)} stages, or nothing at all."
                )
        if len({len(widths_of(text)) for text in self.widths}) != 1:
            raise ValueError(
                f"widths is {','.join(self.widths)}; expected as many widths in each stage. New "
                "layers come by deepen."
            )

    def stages(self) -> list[Stage]:
        """The stages.

        Raises:
          ValueError: an entry is not a number, or out of range.
        """
        names = layer_names(widths_of(self.widths[0]))
        return [
            Stage(
                _number("shares", self.shares, place),
                _number("epochs", self.epochs, place),
                dict(zip(names, widths_of(self.widths[place]), strict=True)),
                self._new_layers(place),
                self._optional("rates", place),
                self._optional("final_rates", place),
                self._optional("noise", place) or 0.0,
            )
            for place in range(len(self.shares))
        ]

    def _new_layers(self, place: int) -> list[str]:
        text = self.deepen[place] if self.deepen else "-"
        return [] if text in NONE else text.split("+")

    def _optional(self, name: str, place: int) -> float | None:
        entries = getattr(self, name)
        if not entries or entries[place] in NONE:
            return None
        return _number(name, entries, place)


def widths_of(text: str) -> tuple[int, ...]:
    """The numbers in a text like "16-32-64".

    Raises:
      ValueError: it is none.
    """
    try:
        return tuple(int(width) for width in text.split("-"))
    except ValueError:
        raise ValueError(
            f"widths has {text!r}; expected whole numbers with dashes between, for example "
            "16-32-64."
        ) from None


def _number(name: str, entries: Sequence[str], place: int) -> float:
    try:
        return float(entries[place])
    except ValueError:
        raise ValueError(
            f"{name} is {','.join(entries)}; expected a number for each stage with commas between, "
            f"and {entries[place]!r} is none. Write it as 0.5, for example."
        ) from None


OPTIMIZERS = ("adam", "sgd")


#: Who may steer the learning rate.
STEERING = ("", "shipped", "learn")


@dataclass(frozen=True)
class RallyExperiment:
    """A rally, and the full network trained from nothing beside it; each field is a flag.

    Raises:
      ValueError: a field is out of range; the message says which.
    """

    dataset: str = flag("data set: digits (nothing to download), mnist, cifar10", "digits")
    train_fraction: float = flag("share of the training examples that are all, in (0, 1]", 1.0)
    data_dir: str = flag("folder of prepared data sets; by default TFDS_DATA_DIR's", "")
    directory: str = flag(
        "where the rally is kept and gone on from; by default runs/<dataset>_rally",
        "",
        is_saved=False,
    )
    seed: int = flag("what everything random follows from", 0)
    shares: tuple[str, ...] = flag("share of the examples in each stage", ("0.25", "0.5", "1.0"))
    widths: tuple[str, ...] = flag(
        "widths in each stage: convolutions, then the hidden layer, with dashes between",
        ("4-8-16", "8-16-32", "16-32-64"),
    )
    deepen: tuple[str, ...] = flag(
        "for each stage, layers that are followed by a new one, with + between; - for none", ()
    )
    epochs: tuple[str, ...] = flag(
        "passes over each stage's examples, not always whole", ("4", "3", "3")
    )
    rates: tuple[str, ...] = flag("first rate of each stage; by default all learning_rate", ())
    final_rates: tuple[str, ...] = flag(
        "rate that each stage ends with, linear in its steps; - for one that stays", ()
    )
    noise: tuple[str, ...] = flag("noise on each stage's copies; by default none", ())
    automatic: bool = flag("whether a rule ends stages early; `epochs` are the most", False)
    width_gain: float = flag("the rule's: what twice the parameters take off the loss", 0.05)
    new: str = flag("what new units are: net2net, or zero_out and random as controls", "net2net")
    batch_size: int = flag("examples in a batch", 32)
    look_every: int = flag("steps between looks at the validation examples; 0 for a pass", 0)
    optimizer: str = flag("adam or sgd (momentum 0.9)", "adam")
    learning_rate: float = flag("the rate that each stage begins with", 1e-3)
    qan: str = flag(
        "who steers the rate: nobody, shipped (the policy that ships), or learn (from nothing)", ""
    )
    compare_epochs: float = flag(
        "passes of the full network from nothing over all examples, to compare with; 0 for none",
        6.0,
    )
    compare_final_rate: float = flag(
        "rate that from nothing ends with, linear in its steps; 0 for one that stays", 0.0
    )

    def __post_init__(self) -> None:
        self.stages()
        for name, allowed in (("optimizer", OPTIMIZERS), ("qan", STEERING)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; expected one of "
                    f"{', '.join(map(repr, allowed))}."
                )
        numbers = (self.compare_epochs, self.compare_final_rate, self.look_every)
        if not self.learning_rate > 0.0 or min(numbers) < 0:
            raise ValueError(
                f"learning_rate is {self.learning_rate}, compare_epochs {self.compare_epochs}, "
                f"compare_final_rate {self.compare_final_rate}, look_every {self.look_every}; "
                "expected a positive rate and nothing below zero."
            )

    def stages(self) -> list[Stage]:
        """The stages."""
        return StageFlags(
            self.shares,
            self.widths,
            self.epochs,
            self.deepen,
            self.rates,
            self.final_rates,
            self.noise,
        ).stages()

    def run(self) -> RallyComparison:
        """Rallies, and trains from nothing; goes on with what the directory holds.

        Raises:
          ValueError: the directory holds another experiment, or the rally cannot be.
        """
        directory = Path(self.directory or f"runs/{self.dataset}_rally")
        with open_run(directory, self):
            return self._run(directory)

    def _run(self, directory: Path) -> RallyComparison:
        splits = self._splits()
        rally = Rally(
            self.stages(),
            directory,
            self._steering(directory),
            batch_size=self.batch_size,
            look_every=self.look_every or None,
            seed=self.seed,
            rule=GrowthRule(self.width_gain) if self.automatic else None,
            new=self.new,  # type: ignore[arg-type]
        )
        small = widths_of(self.widths[0])
        found = rally.run(
            lambda seed: self._model(splits, small, seed),
            splits.train,
            splits.validation,
            splits.test,
        )
        return RallyComparison(found, self._from_nothing(splits, found, directory), directory)

    def _from_nothing(
        self, splits: data.Splits, found: RallyReport, directory: Path
    ) -> RallyReport | None:
        if not self.compare_epochs:
            return None
        deepen = [layer for stage in self.stages() for layer in stage.deepen]
        wide = widths_of(self.widths[-1])

        def build_model(seed: int) -> keras.Model:
            if not deepen:
                return self._model(splits, wide, seed)
            # Of the same architecture, with weights of its own.
            model = keras.models.clone_model(found.model)
            _draw_anew(model, seed)
            self._compile(model)
            return model

        rally = Rally(
            [Stage(1.0, self.compare_epochs, final_learning_rate=self.compare_final_rate or None)],
            directory / "from_nothing",
            batch_size=self.batch_size,
            look_every=self.look_every or None,
            seed=self.seed,
        )
        return rally.run(build_model, splits.train, splits.validation, splits.test)

    def _steering(self, directory: Path) -> QANCallback | None:
        if self.qan == "learn":
            return QANCallback(directory / "qan", policy=None)
        return QANCallback() if self.qan == "shipped" else None

    def _splits(self) -> data.Splits:
        return data.load(
            self.dataset, train_fraction=self.train_fraction, data_dir=self.data_dir or None
        )

    def _model(self, splits: data.Splits, widths: Sequence[int], seed: int) -> keras.Model:
        model = network(splits.input_shape, splits.num_classes, widths, seed)
        self._compile(model)
        return model

    def _compile(self, model: keras.Model) -> None:
        optimizer = (
            keras.optimizers.Adam(self.learning_rate)
            if self.optimizer == "adam"
            else keras.optimizers.SGD(self.learning_rate, momentum=0.9)
        )
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )


@dataclass(frozen=True, eq=False)
class RallyComparison:
    """A rally and the training from nothing beside it.

    Args:
      rally: the rally.
      from_nothing: the full network on all examples; None if it was not asked for.
      directory: where both are.
    """

    rally: RallyReport
    from_nothing: RallyReport | None
    directory: Path

    @property
    def target(self) -> float:
        """The validation accuracy that training from nothing ends with; not-a-number without it."""
        return self.from_nothing.looks[-1]["val_accuracy"] if self.from_nothing else float("nan")

    def ratio(self) -> float:
        """The rally's cost to the target over that from nothing; infinity if it never got there."""
        if self.from_nothing is None:
            return float("nan")
        return self.rally.cost_to(self.target) / cost_to(self.from_nothing.looks, self.target)


def _draw_anew(model: keras.Model, seed: int) -> None:
    for number, variable in enumerate(model.trainable_variables):
        if len(variable.shape) >= 2:
            variable.assign(keras.initializers.GlorotUniform(1_000 * seed + number)(variable.shape))
