"""Layers and architectures as text, and the space of architectures that a search may build."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from keras_qan.utils.validation import check, check_integer

LayerKind = Literal["C", "R", "P", "FC", "GAP", "SM"]
Pairs = tuple[tuple[int, int], ...]

# The fields of a layer that its text has in parentheses, in order.
_FIELDS: dict[str, tuple[str, ...]] = {
    "C": ("width", "size", "stride"),
    "R": ("width", "size"),
    "P": ("size", "stride"),
    "FC": ("width",),
    "GAP": (),
    "SM": (),
}

_TOKEN = re.compile(r"(C|R|P|FC|GAP|SM)(?:\(([\d, ]+)\))?")


@dataclass(frozen=True)
class Layer:
    """One layer.

    Args:
      kind: "C" convolution, "R" residual block of two convolutions, "P" max-pooling, "FC" fully
        connected, "GAP" or "SM" the end: global average pooling, or nothing, then softmax.
      width: filters or units. Defaults to 0.
      size: side of the square window. Defaults to 0.
      stride: of the window. Defaults to 1.
    """

    kind: LayerKind
    width: int = 0
    size: int = 0
    stride: int = 1

    @property
    def ends(self) -> bool:
        """True if the layer ends the architecture."""
        return self.kind in ("GAP", "SM")

    def __str__(self) -> str:
        numbers = ",".join(str(getattr(self, name)) for name in _FIELDS[self.kind])
        return f"{self.kind}({numbers})" if numbers else self.kind

    @classmethod
    def parse(cls, text: str) -> Layer:
        """Return the layer of a text that `str` gives.

        Args:
          text: of a layer.

        Raises:
          ValueError: it is not a layer.

        Example:
          >>> Layer.parse("C(64,3,1)")
          Layer(kind='C', width=64, size=3, stride=1)
        """
        match = _TOKEN.fullmatch(text.strip())
        numbers = [int(one) for one in match[2].split(",")] if match and match[2] else []
        if match is None or len(numbers) != len(_FIELDS[match[1]]):
            raise ValueError(
                f"Received the layer {text!r}; expected one such as C(64,3,1), R(64,3), P(2,2), "
                "FC(128), GAP or SM."
            )
        named = dict(zip(_FIELDS[match[1]], numbers, strict=True))
        return cls(match[1], **named)  # type: ignore[arg-type]


Architecture = tuple[Layer, ...]


def format_architecture(layers: Sequence[Layer]) -> str:
    """Return an architecture as text: "[C(64,3,1), P(2,2), SM]".

    Args:
      layers: one after the other.
    """
    return f"[{', '.join(map(str, layers))}]"


def parse_architecture(text: str) -> Architecture:
    """Return the layers of the text that `format_architecture` gives.

    Args:
      text: in brackets, the layers with commas between.

    Raises:
      ValueError: a part of it is not a layer.

    Example:
      >>> format_architecture(parse_architecture("[C(64,3,1), P(2,2), FC(128), SM]"))
      '[C(64,3,1), P(2,2), FC(128), SM]'
    """
    return tuple(Layer.parse(part) for part in re.split(r",\s*(?=[A-Z])", text.strip("[] \n")))


class ImpossibleSpaceError(ValueError):
    """No architecture of the space fits."""


@dataclass(frozen=True)
class Space:
    """Architectures to search: Table 1 of arXiv:1611.02167 with any numbers.

    Args:
      filters: d, of a convolution. Defaults to (16, 32, 64).
      sizes: f, odd sides of its window; stride 1, padded to keep the image's size. Defaults to
        (1, 3, 5).
      pools: (f, ℓ), window and stride of a max-pooling, without padding. It follows a convolution,
        never a pooling or the input. Defaults to ((2, 2), (3, 2)).
      dense: units of a fully connected layer, not wider than the one before. Defaults to
        (128, 64, 32).
      max_dense: the most of these in a row. Defaults to 2.
      max_depth: the most layers, the end not counted. Defaults to 6.
      min_depth: the fewest layers before the end. Defaults to 1.
      bins: lower ends of the bins of representation size, descending to 1. The agent sees the bin;
        the true size is carried beside it. Defaults to (8, 4, 1).
      dense_below: fully connected layers come only below this representation size. Defaults to 8.
      residual: widths of residual blocks of two 3×3 convolutions. Defaults to none.
      batch_norm: whether convolutions are followed by batch normalisation. Defaults to False.
      max_parameters: budget of weights, batch statistics included. Defaults to none.

    Raises:
      ImpossibleSpaceError: it has no layer to build with.
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
        is_odd = all(size % 2 for size in self.sizes)
        check(is_odd, "sizes", self.sizes, "odd sides, which have a centre")
        check_integer("min_depth", self.min_depth, 0)
        check_integer("max_depth", self.max_depth, max(1, self.min_depth))
        check_integer("max_dense", self.max_dense, 0)
        is_descending = list(self.bins) == sorted(set(self.bins), reverse=True)
        has_end = self.bins[-1:] == (1,)
        check(is_descending and has_end, "bins", self.bins, "descending sizes to 1, as (8, 4, 1)")
        has_convolutions = bool(self.filters and self.sizes)
        if not has_convolutions and not self.residual and not (self.dense and self.max_dense):
            raise ImpossibleSpaceError(
                "Received an empty space: no convolution (filters and sizes), no residual block "
                "and no fully connected layer (dense and max_dense). Give it at least one of them."
            )
        if self.max_parameters is not None:
            check_integer("max_parameters", self.max_parameters, 1, hint="None sets no budget.")

    def bin_of(self, size: int) -> int:
        """Return the bin of a representation size: the largest lower end that it reaches.

        Args:
          size: of the representation, in pixels.
        """
        return next(low for low in self.bins if size >= low)

    @classmethod
    def small_images(cls, max_parameters: int | None = 150_000) -> Space:
        """Return a space for images of 8 to 32 pixels and a CPU: at most six layers, 16 to 64 wide.

        Args:
          max_parameters: of a network; None for any number. Defaults to 150,000.
        """
        return cls(max_parameters=max_parameters)

    @classmethod
    def residual_images(cls, max_parameters: int | None = 150_000) -> Space:
        """Return `small_images` with batch normalisation and residual blocks.

        Args:
          max_parameters: of a network; None for any number. Defaults to 150,000.
        """
        return cls(
            filters=(16, 32), residual=(16, 32), batch_norm=True, max_parameters=max_parameters
        )

    @classmethod
    def paper(cls, max_depth: int = 18) -> Space:
        """Return table 1 of arXiv:1611.02167: 18 layers for CIFAR-10, 12 for SVHN and MNIST.

        The paper prints the bins as (∞, 8], (8, 4], (4, 1]; its code puts sizes from 8 into the
        first and from 4 into the second, which is what these are. The empty network is among its
        architectures.

        Args:
          max_depth: layers at most. Defaults to 18.
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


#: The spaces by the names of the script's flag.
SPACES = {
    "small_images": Space.small_images,
    "residual_images": Space.residual_images,
    "paper": lambda max_parameters=None: _with_budget(Space.paper(), max_parameters),
    "paper_12": lambda max_parameters=None: _with_budget(Space.paper(12), max_parameters),
}


def _with_budget(space: Space, max_parameters: int | None) -> Space:
    return dataclasses.replace(space, max_parameters=max_parameters)
