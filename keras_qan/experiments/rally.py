"""The experiment of a rally against training from scratch, on a data set by name."""

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
from keras_qan.utils.validation import check, check_choice, check_number

OPTIMIZERS = ("adam", "sgd")

#: Choices of the control of the learning rate.
STEERING = ("", "shipped", "learn")

#: Entries of a list that stand for "none".
_NONE = ("", "-")


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
    final_rate: float = flag(
        "rate that the last stage ends with: one fall from learning_rate, linear in the steps of "
        "all stages; 0 for the stages' own rates",
        0.0,
    )
    noise: tuple[str, ...] = flag("noise on each stage's copies; by default none", ())
    automatic: bool = flag("whether a rule ends stages early; `epochs` are the most", False)
    keep_budget: bool = flag(
        "whether a stage is longer by what the rule saved before it, so that the cost stays", False
    )
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
    compare_rate: float = flag("rate that from nothing begins with; 0 for learning_rate", 0.0)
    compare_final_rate: float = flag(
        "rate that from nothing ends with, linear in its steps; 0 for one that stays", 0.0
    )

    def __post_init__(self) -> None:
        self._check_lists()
        self.stages()
        check(
            self.automatic or not self.keep_budget,
            "keep_budget",
            self.keep_budget,
            "it with automatic alone",
            hint="Stages that no rule ends early save nothing.",
        )
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check(self.qan in STEERING, "qan", self.qan, "shipped, learn, or nothing")
        check_number("learning_rate", self.learning_rate, above=0)
        for name in (
            "final_rate", "compare_epochs", "compare_rate", "compare_final_rate", "look_every",
        ):  # fmt: skip
            check_number(name, getattr(self, name), 0)

    def _check_lists(self) -> None:
        count = len(self.shares)
        for name in ("shares", "widths", "epochs"):
            if len(getattr(self, name)) != count or not count:
                raise ValueError(
                    f"{name} is {','.join(getattr(self, name))} and shares is "
                    f"{','.join(self.shares)}; expected one for each stage in both."
                )
        for name in ("deepen", "rates", "final_rates", "noise"):
            if len(getattr(self, name)) not in (0, count):
                raise ValueError(
                    f"{name} is {','.join(getattr(self, name))}; expected one for each of the "
                    f"{count} stages, or nothing at all."
                )
        if len({len(parse_widths(text)) for text in self.widths}) != 1:
            raise ValueError(
                f"widths is {','.join(self.widths)}; expected as many widths in each stage. New "
                "layers come by deepen."
            )

    def stages(self) -> list[Stage]:
        """Return the stages that the lists describe.

        Raises:
          ValueError: an entry is not a number, or out of range.
        """
        names = layer_names(parse_widths(self.widths[0]))
        return [
            Stage(
                _parse_number("shares", self.shares, place),
                _parse_number("epochs", self.epochs, place),
                dict(zip(names, parse_widths(self.widths[place]), strict=True)),
                self._parse_layers(place),
                self._parse_optional("rates", place),
                self._parse_optional("final_rates", place),
                self._parse_optional("noise", place) or 0.0,
            )
            for place in range(len(self.shares))
        ]

    def _parse_layers(self, place: int) -> list[str]:
        text = self.deepen[place] if self.deepen else "-"
        return [] if text in _NONE else text.split("+")

    def _parse_optional(self, name: str, place: int) -> float | None:
        entries = getattr(self, name)
        if not entries or entries[place] in _NONE:
            return None
        return _parse_number(name, entries, place)

    def run(self) -> RallyComparison:
        """Run the rally and train from nothing, or resume both from the directory.

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
            self._make_callback(directory),
            batch_size=self.batch_size,
            look_every=self.look_every or None,
            seed=self.seed,
            rule=GrowthRule(self.width_gain) if self.automatic else None,
            new=self.new,  # type: ignore[arg-type]
            final_learning_rate=self.final_rate or None,
            keep_budget=self.keep_budget,
        )
        small = parse_widths(self.widths[0])
        found = rally.run(
            lambda seed: self._build_model(splits, small, seed),
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
        wide = parse_widths(self.widths[-1])

        def build_model(seed: int) -> keras.Model:
            if not deepen:
                return self._build_model(splits, wide, seed)
            # Of the same architecture, with weights of its own.
            model = keras.models.clone_model(found.model)
            _draw_weights(model, seed)
            self._compile(model)
            return model

        stage = Stage(
            1.0,
            self.compare_epochs,
            learning_rate=self.compare_rate or None,
            final_learning_rate=self.compare_final_rate or None,
        )
        rally = Rally(
            [stage],
            directory / "from_nothing",
            batch_size=self.batch_size,
            look_every=self.look_every or None,
            seed=self.seed,
        )
        return rally.run(build_model, splits.train, splits.validation, splits.test)

    def _make_callback(self, directory: Path) -> QANCallback | None:
        if self.qan == "learn":
            return QANCallback(directory / "qan", policy=None)
        return QANCallback() if self.qan == "shipped" else None

    def _splits(self) -> data.Splits:
        return data.load(
            self.dataset, train_fraction=self.train_fraction, data_dir=self.data_dir or None
        )

    def _build_model(self, splits: data.Splits, widths: Sequence[int], seed: int) -> keras.Model:
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

    Attributes:
      rally: the rally.
      from_nothing: the full network on all examples; None if it was not asked for.
      directory: the folder of both.
    """

    rally: RallyReport
    from_nothing: RallyReport | None
    directory: Path

    @property
    def target(self) -> float:
        """Validation accuracy that training from nothing ends with; not-a-number without it."""
        return self.from_nothing.looks[-1]["val_accuracy"] if self.from_nothing else float("nan")

    def ratio(self) -> float:
        """Return the cost to the target over that from nothing; infinity if never reached."""
        if self.from_nothing is None:
            return float("nan")
        return self.rally.cost_to(self.target) / cost_to(self.from_nothing.looks, self.target)


def _draw_weights(model: keras.Model, seed: int) -> None:
    for number, variable in enumerate(model.trainable_variables):
        if len(variable.shape) >= 2:
            variable.assign(keras.initializers.GlorotUniform(1_000 * seed + number)(variable.shape))


def parse_widths(text: str) -> tuple[int, ...]:
    """Return the numbers in a text like "16-32-64".

    Raises:
      ValueError: a part is no whole number.
    """
    try:
        return tuple(int(width) for width in text.split("-"))
    except ValueError:
        raise ValueError(
            f"widths has {text!r}; expected whole numbers with dashes between, for example "
            "16-32-64."
        ) from None


def _parse_number(name: str, entries: Sequence[str], place: int) -> float:
    try:
        return float(entries[place])
    except ValueError:
        raise ValueError(
            f"{name} is {','.join(entries)}; expected a number for each stage with commas between, "
            f"and {entries[place]!r} is none. Write it as 0.5, for example."
        ) from None
