"""Stages as flags write them: lists with one entry for each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_qan.rally.networks import layer_names
from keras_qan.rally.stage import Stage

#: What stands for "none" in a list.
NONE = ("", "-")


@dataclass(frozen=True)
class WrittenStages:
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
