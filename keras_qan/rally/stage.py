"""One stage of a rally: how much data, how large a network, for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stage:
    """A stage.

    Args:
      examples: how many training examples: a share in (0, 1] if it is a float, a number if it is an
        integer. 1.0 is all of them, and 1 is one.
      epochs: passes over these examples, above 0, not always whole; with a `GrowthRule` the most.
      widths: the width of each layer in this stage, by name; layers that are not named stay as wide
        as they are.
      deepen: layers that are followed by a new one from this stage on; see `net2net.deepen`.
      learning_rate: the rate that the stage begins with; by default the one that the model was
        compiled with. Net2Net's authors advise a tenth of it after a growth.
      final_learning_rate: the rate that the stage ends with, linear in its steps; by default the
        rate stays.
      noise: standard deviation of noise on the outgoing weights of this stage's copies, in units of
        the weights' own; above 0 the function is kept only about. See `net2net.widen`.

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
        if isinstance(self.examples, bool) or not isinstance(self.examples, int | float):
            raise ValueError(f"Stage got examples={self.examples!r}; {_EXAMPLES}")
        if isinstance(self.examples, float) and not 0.0 < self.examples <= 1.0:
            raise ValueError(f"Stage got examples={self.examples}; {_EXAMPLES}")
        if isinstance(self.examples, int) and self.examples < 1:
            raise ValueError(f"Stage got examples={self.examples}; {_EXAMPLES}")
        if (
            isinstance(self.epochs, bool)
            or not isinstance(self.epochs, int | float)
            or not (self.epochs > 0 and math.isfinite(self.epochs))
        ):
            raise ValueError(
                f"Stage got epochs={self.epochs!r}; expected a number of passes above 0, for "
                "example 3, or 0.5 for half a pass."
            )
        if isinstance(self.deepen, str):
            raise ValueError(
                f"Stage got deepen={self.deepen!r}; expected a list of layer names, for example "
                f"[{self.deepen!r}]."
            )
        for layer, width in self.widths.items():
            if isinstance(width, bool) or int(width) != width or width < 1:
                raise ValueError(
                    f"Stage got widths={dict(self.widths)}; expected the width of each layer, an "
                    f"integer of at least 1, and {layer!r} has {width!r}."
                )
        for name, otherwise in (
            ("learning_rate", "the one that the model was compiled with"),
            ("final_learning_rate", "a rate that stays"),
        ):
            rate = getattr(self, name)
            if rate is not None and not (rate > 0.0 and math.isfinite(rate)):
                raise ValueError(
                    f"Stage got {name}={rate}; expected a positive number, or None for {otherwise}."
                )
        if not (self.noise >= 0.0 and math.isfinite(self.noise)):
            raise ValueError(
                f"Stage got noise={self.noise}; expected a number of at least 0, and 0 for exact "
                "copies."
            )
        object.__setattr__(self, "widths", dict(self.widths))
        object.__setattr__(self, "deepen", tuple(self.deepen))

    def size(self, num_examples: int) -> int:
        """How many of so many examples it takes."""
        if isinstance(self.examples, float):
            return math.floor(self.examples * num_examples + 0.5)
        return self.examples

    def config(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "examples": self.examples,
            "epochs": self.epochs,
            "widths": dict(self.widths),
            "deepen": list(self.deepen),
            "learning_rate": self.learning_rate,
            "final_learning_rate": self.final_learning_rate,
            "noise": self.noise,
        }


_EXAMPLES = (
    "expected a share in (0, 1] as a float, for example 0.25, or a number of examples as an "
    "integer of at least 1."
)


def check_stages(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages, if there are any and none shrinks what can be compared without data and model.

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
