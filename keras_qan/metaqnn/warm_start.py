"""Warm starts: initial weights for a model from its nearest trained relative, by net2net."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import net2net
from keras_qan.metaqnn.build import build
from keras_qan.metaqnn.records import ModelRecord
from keras_qan.metaqnn.space import Architecture, Layer, parse_architecture
from keras_qan.metaqnn.state_space import StateSpace
from keras_qan.storage import checkpoint

LayerWeights = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ArchitectureDistance:
    """Growth of a trained architecture into a new one.

    Args:
      pairs: (layer of the relative, layer of the new one), counted from 0, that correspond, the
        second as wide or wider.
      inserted: (layer of the relative, layer of the new one) where the latter is an identity block
        behind the former.
      covered: the number of layers of the new one that get weights, from its first on.
      share: `covered` over all its layers.
      steps: the number of layers that are widened or inserted.
    """

    pairs: tuple[tuple[int, int], ...]
    inserted: tuple[tuple[int, int], ...]
    covered: int
    share: float
    steps: int


def distance(old: Architecture, new: Architecture, deepens: bool = True) -> ArchitectureDistance:
    """Find how much of a new architecture, from the input on, an old one grows into.

    A layer grows into one of the same kind, window and stride that is as wide or wider; and behind
    a convolution or fully connected layer another of the same window and width may be inserted.
    The match is greedy: layers are matched before they are inserted.

    Args:
      old: the trained architecture.
      new: the new architecture.
      deepens: whether identity blocks may be inserted. Defaults to True.
    """
    pairs: list[tuple[int, int]] = []
    inserted: list[tuple[int, int]] = []
    place, steps = 0, 0
    for number, layer in enumerate(new):
        if place < len(old) and _can_grow(old, place, new, number):
            pairs.append((place, number))
            steps += old[place].width < layer.width
            place += 1
        elif deepens and _is_identity(new, number) and _can_insert(place - 1, pairs, inserted):
            inserted.append((place - 1, number))
            steps += 1
        else:
            break
    covered = len(pairs) + len(inserted)
    return ArchitectureDistance(tuple(pairs), tuple(inserted), covered, covered / len(new), steps)


def find_nearest(
    new: Architecture,
    trained: Iterable[tuple[int, Architecture]],
    least_share: float = 0.5,
    deepens: bool = True,
) -> tuple[int, ArchitectureDistance] | None:
    """Find the trained architecture that covers most of a new one, in the fewest steps.

    Args:
      new: the new architecture.
      trained: numbers and architectures.
      least_share: the part of the new one that must be covered. Defaults to 0.5.
      deepens: whether identity blocks may be inserted: not where they would be normalised.
        Defaults to True.

    Returns:
      Its number and its distance; None if no relative is near enough.
    """
    found = [(number, distance(old, new, deepens)) for number, old in trained]
    near = [one for one in found if one[1].share >= least_share]
    if not near:
        return None
    return min(near, key=lambda one: (-one[1].share, one[1].steps, one[0]))


def inherit_weights(
    state_space: StateSpace,
    old: Architecture,
    weights: LayerWeights,
    new: Architecture,
    match: ArchitectureDistance,
    seed: int,
) -> LayerWeights:
    """Grow the relative with net2net and return the weights of the new model.

    Args:
      state_space: of both.
      old: the relative.
      weights: of the relative, by path of the variable.
      new: the new architecture.
      match: of the two.
      seed: of the choice of units that are copied.

    Returns:
      Weights of the new model's first layers by path. Where everything is covered, the new model
      computes the same function as the relative.
    """
    model = build(state_space, old)
    for variable in model.variables:
        variable.assign(weights[variable.path])
    widths = {
        name: new[after].width
        for before, after in match.pairs
        for name in _keras_names(old[before], before)
        if old[before].width < new[after].width
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        grown = net2net.grow(model, widths, seed=seed)
        for before, _ in match.inserted:
            grown = net2net.deepen(grown, f"layer_{before + 1}", seed=seed)
    names = {f"layer_{before + 1}": f"layer_{after + 1}" for before, after in match.pairs}
    names |= {
        f"layer_{before + 1}_deeper": f"layer_{after + 1}" for before, after in match.inserted
    }
    if match.covered == len(new):
        names["logits"] = "logits"
    return _rename_weights(grown, names)


def _can_grow(old: Architecture, place: int, new: Architecture, number: int) -> bool:
    one, other = old[place], new[number]
    if (one.kind, one.size, one.stride) != (other.kind, other.size, other.stride):
        return False
    if one.kind == "R" and _has_shortcut(old, place) != _has_shortcut(new, number):
        return False
    return one.width <= other.width


def _has_shortcut(layers: Architecture, place: int) -> bool:
    """Return True if a residual block changes the width: its shortcut has a convolution."""
    before = [layer.width for layer in layers[:place] if layer.kind in ("C", "R")]
    return not before or before[-1] != layers[place].width


def _is_identity(new: Architecture, number: int) -> bool:
    """Return True if a layer can be the identity behind the one before it."""
    return new[number].kind in ("C", "FC") and new[number] == new[number - 1]


def _can_insert(
    place: int, pairs: Iterable[tuple[int, int]], inserted: Iterable[tuple[int, int]]
) -> bool:
    """Return True if a block may be inserted behind a layer: one, behind a matched layer."""
    return any(before == place for before, _ in pairs) and all(
        before != place for before, _ in inserted
    )


def _keras_names(layer: Layer, place: int) -> list[str]:
    if layer.kind in ("C", "FC"):
        return [f"layer_{place + 1}"]
    if layer.kind == "R":
        return [f"layer_{place + 1}_first", f"layer_{place + 1}_second"]
    return []


def _rename_weights(model: Any, names: dict[str, str]) -> LayerWeights:
    """Return the variables of the named layers and their parts, under the new names."""
    found = {}
    for layer in model.layers:
        own = layer.name
        for old, new in names.items():
            rest = own[len(old) :]
            if own == old or (own.startswith(f"{old}_") and not rest.startswith("_deeper")):
                for variable in layer.variables:
                    found[f"{new}{rest}/{variable.name}"] = np.asarray(variable)
    return found


@dataclass(frozen=True, eq=False)
class InheritedWeights:
    """Initial weights of a new model.

    Args:
      relative: number of the model that they grew from.
      share: the part of the new model that they cover.
      weights: by path of the new model's variables.
    """

    relative: int
    share: float
    weights: LayerWeights


class WarmStarter:
    """Trained weights of a search, one checkpoint a model, to start new models from.

    Args:
      folder: made with the first checkpoint.
      state_space: of the models.
    """

    def __init__(self, folder: Path, state_space: StateSpace) -> None:
        self._folder, self._state_space = folder, state_space

    def save(self, number: int, text: str, weights: LayerWeights) -> None:
        """Write a model's weights."""
        self._folder.mkdir(exist_ok=True)
        checkpoint.write(self._path(number), weights, {"architecture": text})

    def inherit(self, text: str, rows: Iterable[ModelRecord], seed: int) -> InheritedWeights | None:
        """Grow the nearest relative; None if none is near enough.

        Args:
          text: the new architecture.
          rows: the search's rows.
          seed: of the choice of units that are copied.
        """
        new = parse_architecture(text)
        trained = {
            row.number: parse_architecture(row.architecture)
            for row in rows
            if row.status in ("trained", "stopped", "out_of_time")
            and self._path(row.number).exists()
        }
        # A normalised block is not the identity.
        deepens = not self._state_space.space.batch_norm
        near = find_nearest(new, trained.items(), deepens=deepens)
        if near is None:
            return None
        number, match = near
        weights, _ = checkpoint.read(self._path(number))
        grown = inherit_weights(self._state_space, trained[number], weights, new, match, seed)
        return InheritedWeights(number, match.share, grown)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.ckpt"
