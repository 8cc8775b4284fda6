"""Rallies to a full network that its passes are enough for, by width and by depth.

The full network has three convolutions, the last of them what `net2net.deepen` puts behind the
second. Each arm but from nothing spends half of what that one costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras

import net2net
from keras_qan.models.plain import network
from keras_qan.models.seeded import SeededLayers

#: Widths of the convolutions, two or three of them, and last of the hidden layer.
Widths = tuple[int, ...]

_SHALLOW_NAMES = ("conv_1", "conv_2", "hidden")
_NAMES = ("conv_1", "conv_2", "conv_2_deeper", "hidden")

FULL = (16, 32, 32, 64)
_HALF = (8, 16, 16, 32)
_THREE_QUARTERS = (12, 24, 24, 48)
_HALF_SHALLOW = (8, 16, 32)
_FULL_SHALLOW = (16, 32, 64)


@dataclass(frozen=True)
class Plan:
    """An arm's stages, each on all examples.

    Args:
      costs: of the stages, over the cost of from nothing.
      widths: of the stages' networks.
      rates: of the stages, from and to, over the task's. Defaults to one rate that falls linearly
        through all of them.
      is_steered: whether `QANCallback` gives the rates. Defaults to False.
    """

    costs: tuple[float, ...]
    widths: tuple[Widths, ...]
    rates: tuple[tuple[float, float], ...] = ()
    is_steered: bool = False


_WIDTH = (_HALF, FULL)
PLANS = {
    "from nothing": Plan((1.0,), (FULL,)),
    "from nothing, half as long": Plan((0.5,), (FULL,)),
    "rally": Plan((0.33, 0.17), _WIDTH),
    "random padding": Plan((0.33, 0.17), _WIDTH),
    "depth before width": Plan((0.08, 0.25, 0.17), (_HALF_SHALLOW, _HALF, FULL)),
    "width before depth": Plan((0.08, 0.25, 0.17), (_HALF_SHALLOW, _FULL_SHALLOW, FULL)),
    "middle network alone": Plan((0.5,), (_HALF,)),
}
#: What else was tried, on seeds apart.
ALTERNATIVES = {
    "longer last stage": Plan((0.2, 0.3), _WIDTH),
    "shorter last stage": Plan((0.45, 0.05), _WIDTH),
    "the rate rises again": Plan((0.33, 0.17), _WIDTH, ((1.0, 0.05), (0.5, 0.02))),
    "smaller growth": Plan((0.33, 0.17), (_THREE_QUARTERS, FULL)),
    "two smaller growths": Plan((0.15, 0.2, 0.15), (_HALF, _THREE_QUARTERS, FULL)),
    "rate by QAN": Plan((0.33, 0.17), _WIDTH, is_steered=True),
}


def build(shape: tuple[int, ...], num_classes: int, widths: Widths, seed: int) -> keras.Model:
    """The network with these widths, not compiled; the third convolution has weights of its own."""
    shallow = network(shape, num_classes, [*widths[:2], widths[-1]], seed)
    if len(widths) == len(_SHALLOW_NAMES):
        return shallow
    model = net2net.deepen(shallow, "conv_2")
    deeper = model.get_layer("conv_2_deeper")
    fresh = SeededLayers(seed + 1_000).glorot()
    deeper.kernel.assign(fresh(deeper.kernel.shape))
    return model


def growth(before: Widths | None, widths: Widths) -> tuple[dict[str, int], Sequence[str]]:
    """Widths by name, and the layers that are followed by a new one, of a stage after another.

    A layer that is new begins with the width of the one it follows.
    """
    wanted = _named(widths)
    if before is None:
        return wanted, ()
    present = _named(before)
    wider = {name: width for name, width in wanted.items() if present.get(name, width) != width}
    return wider, ["conv_2"] if len(widths) > len(before) else ()


def _named(widths: Widths) -> dict[str, int]:
    names = _NAMES if len(widths) == len(_NAMES) else _SHALLOW_NAMES
    return dict(zip(names, widths, strict=True))
