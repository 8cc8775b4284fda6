"""The arithmetic of growth: old arrays and maps in, new arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from net2net.rules.base import Weight, WeightAxis

Array = NDArray[Any]
NewUnits = Literal["net2net", "zero_out", "random"]
"""New units are copies, or fresh with zero outgoing weights, or fresh altogether."""


def grow_weight(old: Array, axes: Mapping[int, WeightAxis]) -> Array:
    """Return a weight's new value, of the old one's type.

    W'[i, j] = W[g(i), g(j)] · s_i, where i runs over the channels that the layer sums and j over
    those it makes; times the axes' own factors.

    Args:
        old: The value, of any shape.
        axes: The map on each axis that has one.

    Example:
        >>> import numpy as np
        >>> from net2net.channel_map import ChannelMap
        >>> one = ChannelMap(np.array([0, 0]), np.array([0.25, 0.75]), np.array([False, True]), 1)
        >>> grow_weight(np.array([[4.0]]), {0: WeightAxis(one, divided=True)}).tolist()
        [[1.0], [3.0]]
    """
    factors = {k: one.map.share * one.scale for k, one in axes.items() if one.divided}
    return _gather(old, axes, factors)


def grow_slot(old: Array, axes: Mapping[int, WeightAxis], power: int) -> Array:
    """Return the new value of an optimizer slot that scales with a power of the gradient.

    A copy's incoming gradient is its share of the old one; an outgoing gradient is the old one:
    the reverse of the weights.

    Args:
        old: The slot's value.
        axes: The map on each axis of the slot's weight.
        power: 1 for first moments, 2 for second moments, 0 for what has no gradient's scale.
    """
    # In the slot's own precision, unlike the weights: a slot need not add up to anything.
    factors = {
        axis: (_slot_factor(one) ** power).astype(old.dtype)
        for axis, one in axes.items()
        if power and (not one.divided or one.scale != 1)
    }
    return _gather(old, axes, factors)


def _slot_factor(one: WeightAxis) -> Array:
    return np.full(one.map.new_size, 1 / one.scale) if one.divided else one.map.share


def _gather(old: Array, axes: Mapping[int, WeightAxis], factors: Mapping[int, Array]) -> Array:
    result = old
    for axis, one in axes.items():
        result = np.take(result, one.map.source, axis=axis)
        if axis in factors:
            # The product is rounded once, from float64, without a float64 copy of the weight.
            factor = _along_axis(factors[axis], axis, result.ndim)
            np.multiply(result, factor, out=result, casting="same_kind")
    return result


def reinitialize_new_units(
    value: Array, one: Weight, new: NewUnits, generator: np.random.Generator
) -> Array:
    """Return a grown weight with freshly drawn values where units are new.

    Args:
        value: The grown weight.
        one: Its maps and its initializer.
        new: "zero_out" draws incoming weights only and leaves the zeros of the outgoing shares;
            "random" draws the outgoing ones too.
        generator: Source of the seed.
    """
    mask = np.zeros(value.shape, bool)
    for axis, mapped in one.axes.items():
        if not mapped.divided or new == "random":
            mask |= _along_axis(mapped.map.fresh, axis, value.ndim)
    result = np.where(mask, _draw(one.initializer, value, generator), value)
    if new == "zero_out":
        for axis, mapped in one.axes.items():
            if mapped.divided:
                result *= _along_axis(mapped.map.share > 0, axis, value.ndim)
    return np.asarray(result, dtype=value.dtype)


def add_noise(
    value: Array, axes: Mapping[int, WeightAxis], noise: float, generator: np.random.Generator
) -> Array:
    """Return a grown weight with noise on the outgoing weights of new units.

    Noise on incoming weights would leave the copied batch statistics behind them wrong.

    Args:
        value: The grown weight.
        axes: Its maps.
        noise: Standard deviation, in units of the weight's own.
        generator: Source of the noise.
    """
    for axis, mapped in axes.items():
        if mapped.divided:
            drawn = generator.normal(0.0, noise * float(np.std(value)), size=value.shape)
            value = value + drawn * _along_axis(mapped.map.fresh, axis, value.ndim)
    return value


def _along_axis(values: Array, axis: int, rank: int) -> Array:
    """Return a vector as an array that broadcasts along one axis."""
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def _draw(initializer: Any, value: Array, generator: np.random.Generator) -> Array:
    if initializer is None:
        return value
    # A function draws as it likes.
    config = initializer.get_config() if hasattr(initializer, "get_config") else {}
    if "seed" in config:
        config["seed"] = int(generator.integers(2**31))
        initializer = type(initializer).from_config(config)
    drawn = initializer(value.shape, dtype=str(value.dtype))
    return np.asarray(keras.ops.convert_to_numpy(drawn))
