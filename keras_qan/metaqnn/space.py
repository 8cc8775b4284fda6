"""Layers of an architecture, and how they are written.

Which architectures there are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LayerKind = Literal["C", "R", "P", "FC", "GAP", "SM"]


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

    kind: LayerKind
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


Pairs = tuple[tuple[int, int], ...]


class ImpossibleSpaceError(ValueError):
    """No architecture of the space fits."""


@dataclass(frozen=True)
class Space:
    """What an architecture may be made of: Table 1 of arXiv:1611.02167 with any numbers.

    Args:
      filters: d, of a convolution.
      sizes: f, sides of its window; stride 1, padded to keep the image's size.
      pools: (f, ℓ), window and stride of a max-pooling, without padding. It follows a convolution,
        never a pooling or the input.
      dense: units of a fully connected layer; none wider than the one before.
      max_dense: how many of these in a row at most.
      max_depth: how many layers at most, the end not counted.
      min_depth: how many layers there are at least before the end.
      bins: lower ends of the bins of representation size, descending. The agent knows the bin; the
        true size is carried beside it.
      dense_below: fully connected layers come only below this representation size.
      residual: widths of residual blocks of two 3×3 convolutions; none by default.
      batch_norm: whether convolutions are followed by batch normalisation.
      max_parameters: budget of weights, batch statistics included; None for none.

    Raises:
      ImpossibleSpaceError: nothing can be built of it.
      ValueError: a number is out of range.
    """

    filters: tuple[int, ...] = (16, 32, 64)
    sizes: tuple[int, ...] = (1, 3, 5)
    pools: Pairs = ((2, 2), (3, 2))
    dense: tuple[int, ...] = (128, 64, 32)
    max_dense: int = 2
    max_depth: int = 6
    min_depth: int = 1
    bins: tuple[int, ...] = (8, 4, 1)
    dense_below: int = 8
    residual: tuple[int, ...] = ()
    batch_norm: bool = False
    max_parameters: int | None = None

    def __post_init__(self) -> None:
        # Lists, as JSON has them, become tuples: spaces are compared.
        for name in ("filters", "sizes", "dense", "bins", "residual"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "pools", tuple(tuple(pair) for pair in self.pools))
        numbers = [
            *self.filters, *self.sizes, *self.dense, *self.residual, *self.bins,
            *(number for pair in self.pools for number in pair),
        ]  # fmt: skip
        if any(isinstance(one, bool) or not isinstance(one, int) or one < 1 for one in numbers):
            raise ValueError(f"Received {self}; expected whole numbers of at least 1.")
        if any(size % 2 == 0 for size in self.sizes):
            raise ValueError(
                f"Received sizes={self.sizes}; expected odd sides, which have a centre."
            )
        if self.min_depth < 0 or self.max_depth < max(1, self.min_depth) or self.max_dense < 0:
            raise ValueError(
                f"Received min_depth={self.min_depth}, max_depth={self.max_depth} and "
                f"max_dense={self.max_dense}; expected 0 ≤ min_depth ≤ max_depth, at least one "
                "layer, and max_dense of at least 0."
            )
        if not self.bins or list(self.bins) != sorted(set(self.bins), reverse=True):
            raise ValueError(f"Received bins={self.bins}; expected descending sizes, as (8, 4, 1).")
        if self.bins[-1] != 1:
            raise ValueError(f"Received bins={self.bins}; expected the last to be 1.")
        has_convolutions = bool(self.filters and self.sizes)
        if not has_convolutions and not self.residual and not (self.dense and self.max_dense):
            raise ImpossibleSpaceError(
                "Received an empty space: no convolution (filters and sizes), no residual block "
                "and no fully connected layer (dense and max_dense). Give it at least one of them."
            )
        if self.max_parameters is not None and self.max_parameters < 1:
            raise ValueError(
                f"Received max_parameters={self.max_parameters}; expected at least 1, or None."
            )

    def bin_of(self, size: int) -> int:
        """The bin of a representation size: the largest lower end that it reaches."""
        return next(low for low in self.bins if size >= low)

    @classmethod
    def small_images(cls, max_parameters: int | None = 150_000) -> Space:
        """Images from 8×8 to 32×32 and a CPU: at most six layers, 16 to 64 filters."""
        return cls(max_parameters=max_parameters)

    @classmethod
    def residual_images(cls, max_parameters: int | None = 150_000) -> Space:
        """`small_images` with batch normalisation and residual blocks."""
        return cls(
            filters=(16, 32), residual=(16, 32), batch_norm=True, max_parameters=max_parameters
        )

    @classmethod
    def paper(cls, max_depth: int = 18) -> Space:
        """Table 1 of arXiv:1611.02167: 18 layers for CIFAR-10, 12 for SVHN and MNIST.

        The paper prints the bins as (∞, 8], (8, 4], (4, 1]; its code puts sizes from 8 into the
        first and from 4 into the second, which is what these are. The empty network is among its
        architectures.
        """
        return cls(
            filters=(64, 128, 256, 512),
            sizes=(1, 3, 5),
            pools=((5, 3), (3, 2), (2, 2)),
            dense=(512, 256, 128),
            max_dense=2,
            max_depth=max_depth,
            min_depth=0,
        )


#: The spaces by the names that the script knows.
SPACES = {
    "small_images": Space.small_images,
    "residual_images": Space.residual_images,
    "paper": lambda max_parameters=None: _with_budget(Space.paper(), max_parameters),
    "paper_12": lambda max_parameters=None: _with_budget(Space.paper(12), max_parameters),
}


def _with_budget(space: Space, max_parameters: int | None) -> Space:
    import dataclasses

    return dataclasses.replace(space, max_parameters=max_parameters)
