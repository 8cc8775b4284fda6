"""Layers of an architecture, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["C", "R", "P", "FC", "GAP", "SM"]

_NUMBERS = {"C": 3, "R": 2, "P": 2, "FC": 1, "GAP": 0, "SM": 0}
_TOKEN = re.compile(r"(C|R|P|FC|GAP|SM)(?:\(([\d, ]+)\))?")


@dataclass(frozen=True)
class Layer:
    """One layer.

    Args:
      kind: "C" convolution, "R" residual block of two convolutions, "P" max-pooling, "FC" fully
        connected, "GAP" or "SM" the end: global average pooling, or nothing, then softmax.
      width: filters or units.
      size: side of the square window.
      stride: of the window.
    """

    kind: Kind
    width: int = 0
    size: int = 0
    stride: int = 1

    @property
    def ends(self) -> bool:
        """Whether nothing follows it."""
        return self.kind in ("GAP", "SM")

    def __str__(self) -> str:
        numbers = {
            "C": (self.width, self.size, self.stride),
            "R": (self.width, self.size),
            "P": (self.size, self.stride),
            "FC": (self.width,),
        }.get(self.kind)
        return f"{self.kind}({','.join(map(str, numbers))})" if numbers else self.kind

    @classmethod
    def parse(cls, text: str) -> Layer:
        """Reads what `str` wrote.

        Raises:
          ValueError: it is no layer.

        Example:
          >>> Layer.parse("C(64,3,1)")
          Layer(kind='C', width=64, size=3, stride=1)
        """
        match = _TOKEN.fullmatch(text.strip())
        numbers = [int(one) for one in match[2].split(",")] if match and match[2] else []
        if match is None or len(numbers) != _NUMBERS[match[1]]:
            raise ValueError(
                f"Received the layer {text!r}; expected one such as C(64,3,1), R(64,3), P(2,2), "
                "FC(128), GAP or SM."
            )
        if match[1] == "C":
            return cls("C", *numbers)
        if match[1] == "R":
            return cls("R", numbers[0], numbers[1])
        if match[1] == "P":
            return cls("P", 0, numbers[0], numbers[1])
        if match[1] == "FC":
            return cls("FC", numbers[0])
        return cls("GAP" if match[1] == "GAP" else "SM")


Architecture = tuple[Layer, ...]


def text_of(layers: Sequence[Layer]) -> str:
    """Writes an architecture: "[C(64,3,1), P(2,2), SM]"."""
    return f"[{', '.join(map(str, layers))}]"


def architecture(text: str) -> Architecture:
    """Reads what `text_of` wrote.

    Raises:
      ValueError: a part of it is no layer.

    Example:
      >>> text_of(architecture("[C(64,3,1), P(2,2), FC(128), SM]"))
      '[C(64,3,1), P(2,2), FC(128), SM]'
    """
    return tuple(Layer.parse(part) for part in re.split(r",\s*(?=[A-Z])", text.strip("[] \n")))
