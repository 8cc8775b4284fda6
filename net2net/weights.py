"""The arithmetic of growth: old arrays and maps in, new arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from net2net.planning import NewUnits
from net2net.rules.base import CarriedWeight, Weight

Array = NDArray[Any]


def grow_weight(old: Array, axes: Mapping[int, CarriedWeight]) -> Array:
    """Return a weight's new value.

    W'[i, j] = W[g(i), g(j)] · s_i, where i runs over the channels that the layer sums and j over
    those it makes.

    Args:
        old: The value, of any shape.
        axes: The map on each axis that has one.

    Returns:
        The new value, of the old one's type.

    Example:
        >>> import numpy as np
        >>> from net2net.channel_map import ChannelMap
        >>> from net2net.rules.base import Carried
        >>> one = ChannelMap(np.array([0, 0]), np.array([0.25, 0.75]), np.array([False, True]), 1)
        >>> grown_weight(np.array([[4.0]]), {0: Carried(one, shares=True)}).tolist()
        [[1.0], [3.0]]
    """
    return _gathered(old, axes, lambda one: one.map.share if one.shares else None)


def grow_slot(old: Array, axes: Mapping[int, CarriedWeight], power: int) -> Array:
    """Return an optimizer slot's new value, for a slot that is of the gradient's given power.

    A copy's incoming gradient is its share of the old one; an outgoing gradient is the old one:
    the reverse of the weights.

    Args:
        old: The slot's value.
        axes: The map on each axis of the slot's weight.
        power: 1 for first moments, 2 for second moments, 0 for what has no gradient's scale.

    Returns:
        The new value.
    """

    def factor(one: CarriedWeight) -> Array | None:
        # In the slot's own precision, unlike the weights: a slot need not add up to anything.
        return (one.map.share**power).astype(old.dtype) if power and not one.shares else None

    return _gathered(old, axes, factor)


def _gathered(old: Array, axes: Mapping[int, CarriedWeight], factor: Any) -> Array:
    result = old
    for axis, one in axes.items():
        result = np.take(result, one.map.source, axis=axis)
        share = factor(one)
        if share is not None:
            shape = [1] * result.ndim
            shape[axis] = -1
            # The product is rounded once, from float64, without a float64 copy of the weight.
            np.multiply(result, share.reshape(shape), out=result, casting="same_kind")
    return result


def initial_weight(
    value: Array, one: Weight, new: NewUnits, generator: np.random.Generator
) -> Array:
    """Return a grown weight with freshly drawn values where units are new.

    Args:
        value: The grown weight.
        one: Its maps and its initialiser.
        new: "zero_out" draws incoming weights only, "random" the outgoing ones too.
        generator: Source of the seed.

    Returns:
        The weight; on axes that are summed, "zero_out" leaves the zeros of the shares.
    """
    drawn = _initial(one.initializer, value, generator)
    mask = np.zeros(value.shape, bool)
    for axis, carried in one.axes.items():
        if not carried.shares or new == "random":
            mask |= _along(carried.map.fresh, axis, value.ndim)
    result = np.where(mask, drawn, value)
    if new == "zero_out":
        for axis, carried in one.axes.items():
            if carried.shares:
                result *= _along(carried.map.share > 0, axis, value.ndim)
    return np.asarray(result, dtype=value.dtype)


def add_noise(
    value: Array, axes: Mapping[int, CarriedWeight], noise: float, generator: np.random.Generator
) -> Array:
    """Return a grown weight with noise on the outgoing weights of new units.

    Noise on incoming weights would leave the copied batch statistics behind it wrong.

    Args:
        value: The grown weight.
        axes: Its maps.
        noise: Standard deviation, in units of the weight's own.
        generator: Source of the noise.

    Returns:
        The weight with noise.
    """
    for axis, carried in axes.items():
        if carried.shares:
            drawn = generator.normal(0.0, noise * float(np.std(value)), size=value.shape)
            value = value + drawn * _along(carried.map.fresh, axis, value.ndim)
    return value


def _along(values: Array, axis: int, rank: int) -> Array:
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def _initial(initializer: Any, value: Array, generator: np.random.Generator) -> Array:
    if initializer is None:
        return value
    config = initializer.get_config()
    if "seed" in config:
        config["seed"] = int(generator.integers(2**31))
        initializer = type(initializer).from_config(config)
    drawn = initializer(value.shape, dtype=str(value.dtype))
    return np.asarray(keras.ops.convert_to_numpy(drawn))
