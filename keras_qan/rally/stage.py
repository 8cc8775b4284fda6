"""One stage of a rally: its data, its network, and its length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keras_qan.utils.validation import check, check_integer, check_number


@dataclass(frozen=True)
class Stage:
    """A stage.

    Args:
      examples: training examples: a share in (0, 1] as a float, or a number as an integer. 1.0 is
        all of them, and 1 is one.
      epochs: passes over these examples, above 0, whole or not; with a `GrowthRule` at most so
        many, and what earlier stages saved where `Rally` keeps its budget. Defaults to 1.
      widths: width of each layer in this stage, by name. Defaults to the widths of the stage
        before.
      deepen: layers that are followed by a new one from this stage on; see `net2net.deepen`.
        Defaults to none.
      learning_rate: rate that the stage begins with. Defaults to the one that the model was
        compiled with. Net2Net's authors advise a tenth of it after a growth.
      final_learning_rate: rate that the stage ends with, linear in its steps. Defaults to a
        constant rate.
      noise: standard deviation of noise on the outgoing weights of this stage's copies, in units of
        the weights' own; above 0 the function is kept approximately. See `net2net.widen`. Defaults
        to 0.

    Raises:
      ValueError: one of them is out of range.

    Example:
      >>> Stage(0.25, epochs=3, widths={"hidden": 128})  # doctest: +NORMALIZE_WHITESPACE
      Stage(examples=0.25, epochs=3, widths={'hidden': 128}, deepen=(), learning_rate=None,
      final_learning_rate=None, noise=0.0)
    """

    examples: float | int
    epochs: float = 1
    widths: Mapping[str, int] = field(default_factory=dict)
    deepen: Sequence[str] = ()
    learning_rate: float | None = None
    final_learning_rate: float | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        is_number = not isinstance(self.examples, bool) and isinstance(self.examples, int | float)
        is_share = isinstance(self.examples, float) and 0.0 < self.examples <= 1.0
        check(
            is_number and (is_share or (isinstance(self.examples, int) and self.examples >= 1)),
            "examples",
            self.examples,
            "a share in (0, 1] as a float, for example 0.25, or a number of examples as an integer "
            "of at least 1",
        )
        check_number("epochs", self.epochs, above=0, hint="0.5 is half a pass.")
        check(
            not isinstance(self.deepen, str),
            "deepen",
            self.deepen,
            f"a list of layer names, for example [{self.deepen!r}]",
        )
        for layer, width in self.widths.items():
            check_integer(f"The width of {layer!r}", width, 1)
        for name, otherwise in (
            ("learning_rate", "None keeps the one that the model was compiled with."),
            ("final_learning_rate", "None is a constant rate."),
        ):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0, hint=otherwise)
        check_number("noise", self.noise, 0, hint="0 is exact copies.")
        object.__setattr__(self, "widths", dict(self.widths))
        object.__setattr__(self, "deepen", tuple(self.deepen))

    def size(self, num_examples: int) -> int:
        """Return the number of examples that it takes of so many.

        Args:
          num_examples: how many there are.
        """
        if isinstance(self.examples, float):
            return math.floor(self.examples * num_examples + 0.5)
        return self.examples


def check_stages(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages, if they grow as far as can be told without data and model.

    Raises:
      ValueError: a stage shrinks, or there is none.
      TypeError: something else is among them.
    """
    if isinstance(stages, Stage) or not list(stages):
        raise ValueError(
            f"Rally got stages={stages!r}; expected a list with at least one stage, for example "
            "[Stage(0.2, epochs=2), Stage(1.0, widths={'hidden': 128})]."
        )
    for stage in stages:
        if not isinstance(stage, Stage):
            raise TypeError(f"Rally got the stage {stage!r}; expected Stage(examples, ...).")
    widths: dict[str, int] = {}
    for number, stage in enumerate(stages, start=1):
        before = stages[number - 2] if number > 1 else None
        same_kind = before is not None and type(before.examples) is type(stage.examples)
        if before is not None and same_kind and stage.examples < before.examples:
            raise ValueError(
                f"Stage {number} has examples={stage.examples} and the one before it "
                f"{before.examples}; expected stages that grow. Put them in ascending order."
            )
        for layer, width in stage.widths.items():
            if width < widths.get(layer, width):
                raise ValueError(
                    f"Stage {number} asks for {width} units in layer {layer!r}, which has "
                    f"{widths[layer]} before it; expected stages that grow. Leave the layer out "
                    "where it is to stay as it is."
                )
        widths |= stage.widths
    return tuple(stages)
