"""Matching of a student's weights and layers with its teacher's."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_qan.observations import watched_kernels


@dataclass(frozen=True)
class WeightCopies:
    """All weights of a network, in Keras's order.

    Args:
      paths: of the variables.
      arrays: their values.
    """

    paths: tuple[str, ...]
    arrays: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, model: keras.Model) -> WeightCopies:
        """Copy a model's weights."""
        arrays = [keras.ops.convert_to_numpy(variable).copy() for variable in model.weights]
        return cls(tuple(variable.path for variable in model.weights), tuple(arrays))

    def kernels(self) -> list[int]:
        """Places of the kernels."""
        return [
            place
            for place, (path, array) in enumerate(zip(self.paths, self.arrays, strict=True))
            if is_kernel(path, array)
        ]


def is_kernel(path: str, array: Any) -> bool:
    """Tell a kernel from biases and normalisation."""
    return path.rpartition("/")[2].endswith("kernel") and len(array.shape) >= 2


def chosen_kernels(model: keras.Model, layers: Sequence[str] | None) -> list[Any]:
    """Kernels to pull: those of the named layers, or all that are trained.

    Raises:
      ValueError: there is no such layer, or no kernel at all.
    """
    if layers is not None:
        return watched_kernels(model, layers)
    first = watched_kernels(model, None)
    found = [v for v in model.trainable_variables if is_kernel(v.path, v)]
    return found or first


def matching_kernels(
    model: keras.Model, chosen: Sequence[Any], teacher: WeightCopies, layers: Sequence[str] | None
) -> list[np.ndarray]:
    """Teacher's value of each chosen kernel.

    Where all weights of both have the same shapes, or both have as many kernels, they are matched
    by place, as Keras numbers unnamed layers through a whole process; otherwise by the names of
    layer and weight.

    Args:
      model: the student.
      chosen: some of its kernels, or other matrices where it has none.
      teacher: all weights of the teacher.
      layers: names that the kernels were chosen by, for the message.

    Returns:
      Arrays of the kernels' shapes.

    Raises:
      ValueError: the teacher has another architecture; the message lists what does not match.
    """
    weights = list(model.weights)
    own = [place for place, one in enumerate(weights) if is_kernel(one.path, one)]
    theirs = teacher.kernels()
    shapes = [tuple(array.shape) for array in teacher.arrays]
    if [tuple(variable.shape) for variable in weights] == shapes:
        places = {place: place for place in range(len(weights))}
    else:
        places = dict(zip(own, theirs, strict=True)) if len(own) == len(theirs) else {}
    by_name = {_short(path): place for place, path in enumerate(teacher.paths)}
    faults, found = [], []
    for variable in chosen:
        number = next(n for n, one in enumerate(weights) if one is variable)
        place = places.get(number, by_name.get(_short(variable.path)))
        if place is None:
            faults.append(f"{_short(variable.path)} {tuple(variable.shape)}: the teacher has none")
            continue
        array = teacher.arrays[place]
        if tuple(array.shape) != tuple(variable.shape):
            faults.append(
                f"{_short(variable.path)} {tuple(variable.shape)}: the teacher's "
                f"{_short(teacher.paths[place])} is {tuple(array.shape)}"
            )
        elif not np.all(np.isfinite(array)):
            faults.append(f"{_short(variable.path)}: the teacher's is not finite")
        else:
            found.append(array)
    if faults:
        shown = "; ".join(faults[:6]) + ("; ..." if len(faults) > 6 else "")
        raise ValueError(
            f"The teacher does not fit model {model.name!r}: of {len(chosen)} weights "
            f"{len(faults)} do not match ({shown}). Expected a teacher with the same shapes: "
            + (
                "name other layers."
                if layers is not None
                else "train one of the same architecture, or name the layers that both share: "
                "MetaMomentum(teacher, layers=[...])."
            )
        )
    return found


def _short(path: str) -> str:
    return "/".join(path.split("/")[-2:])


def leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Layers of a model and of the models nested in it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield layer


def watched_layers(model: keras.Model, layers: Sequence[str] | None) -> list[keras.layers.Layer]:
    """Layers whose outputs are compared: the named ones, or all with a kernel.

    Raises:
      ValueError: there is no such layer.
    """
    there = list(leaves(model))
    if layers is None:
        return [
            layer for layer in there if any(is_kernel(v.path, v) for v in layer.trainable_variables)
        ]
    by_name = {layer.name: layer for layer in there}
    for name in layers:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=3)
            hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
            raise ValueError(
                f"Layer {name!r} is to be watched, but model {model.name!r} has none of that name. "
                f"{hint}Its layers: {', '.join(by_name)}."
            )
    return [by_name[name] for name in layers]


def matching_layers(
    model: keras.Model, chosen: Sequence[keras.layers.Layer], teacher: keras.Model
) -> list[keras.layers.Layer]:
    """Teacher's layer for each chosen one: by place where both have as many, else by name.

    Raises:
      ValueError: the teacher lacks some; the message lists them.
    """
    own, theirs = list(leaves(model)), list(leaves(teacher))
    names = {layer.name: layer for layer in theirs}
    found, missing = [], []
    for layer in chosen:
        number = next(n for n, one in enumerate(own) if one is layer)
        other = theirs[number] if len(own) == len(theirs) else names.get(layer.name)
        if other is None or type(other) is not type(layer):
            missing.append(layer.name)
        else:
            found.append(other)
    if missing:
        raise ValueError(
            f"The teacher {teacher.name!r} has no layers for {', '.join(missing)} of model "
            f"{model.name!r}; its own are {', '.join(names)}. Expected the same layers, or the "
            "same names: name the layers that both share, MetaMomentum(teacher, layers=[...])."
        )
    return found
