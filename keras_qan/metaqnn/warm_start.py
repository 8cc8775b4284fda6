"""Initial weights for a new model from its nearest trained relative, by net2net.

Trained weights of a search, and what a new model takes over from them.
"""

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
from keras_qan.metaqnn.records import Model
from keras_qan.metaqnn.space import Architecture, Layer, architecture
from keras_qan.metaqnn.state_space import StateSpace
from keras_qan.storage import checkpoint

LayerWeights = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ArchitectureDistance:
    """How a new architecture grows out of a trained one.

    Args:
      pairs: (layer of the relative, layer of the new one), counted from 0, that stand for each
        other, the second as wide or wider.
      inserted: (layer of the relative, layer of the new one) where the latter is an identity block
        behind the former.
      covered: how many layers of the new one get their weights, from its first on.
      share: which part of it that is.
      steps: how many layers are widened or inserted.
    """

    pairs: tuple[tuple[int, int], ...]
    inserted: tuple[tuple[int, int], ...]
    covered: int
    share: float
    steps: int


def distance(old: Architecture, new: Architecture, deepens: bool = True) -> ArchitectureDistance:
    """Finds how much of a new architecture, from the input on, an old one grows into.

    A layer grows into one of the same kind, window and stride that is as wide or wider; and behind
    a convolution or fully connected layer another of the same window and width may be inserted. The
    end is reached only if all the rest is. Found greedily: layers are matched before they are
    inserted.
    """
    pairs: list[tuple[int, int]] = []
    inserted: list[tuple[int, int]] = []
    place, steps = 0, 0
    for number, layer in enumerate(new):
        if place < len(old) and _grows(old, place, new, number):
            pairs.append((place, number))
            steps += old[place].width < layer.width
            place += 1
        elif deepens and _is_identity(new, number) and _is_free(place - 1, pairs, inserted):
            inserted.append((place - 1, number))
            steps += 1
        else:
            break
    covered = len(pairs) + len(inserted)
    return ArchitectureDistance(tuple(pairs), tuple(inserted), covered, covered / len(new), steps)


def nearest(
    new: Architecture,
    trained: Iterable[tuple[int, Architecture]],
    least_share: float = 0.5,
    deepens: bool = True,
) -> tuple[int, ArchitectureDistance] | None:
    """The trained architecture that most of a new one grows out of, in the fewest steps.

    Args:
      new: the new architecture.
      trained: numbers and architectures.
      least_share: which part of the new one has to be covered.
      deepens: whether identity blocks may be inserted: not where they would be normalised.

    Returns:
      Its number and how it grows; None if no relative is near enough.
    """
    found = [(number, distance(old, new, deepens)) for number, old in trained]
    near = [one for one in found if one[1].share >= least_share]
    if not near:
        return None
    return min(near, key=lambda one: (-one[1].share, one[1].steps, one[0]))


def inherited(
    grammar: StateSpace,
    old: Architecture,
    weights: LayerWeights,
    new: Architecture,
    kin: ArchitectureDistance,
    seed: int,
) -> LayerWeights:
    """Grows the relative with net2net and returns what the new model takes over.

    Args:
      grammar: of both.
      old: the relative.
      weights: of the relative, by path of the variable.
      new: the new architecture.
      kin: how it grows out of the relative.
      seed: of which units are copied.

    Returns:
      Weights of the new model's first layers by path. Where everything is covered, the new model
      computes what the relative does.
    """
    model = build(grammar, old)
    for variable in model.variables:
        variable.assign(weights[variable.path])
    widths = {
        name: new[after].width
        for before, after in kin.pairs
        for name in _keras_names(old[before], before)
        if old[before].width < new[after].width
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        grown = net2net.grow(model, widths, seed=seed)
        for before, _ in kin.inserted:
            grown = net2net.deepen(grown, f"layer_{before + 1}", seed=seed)
    names = {f"layer_{before + 1}": f"layer_{after + 1}" for before, after in kin.pairs}
    names |= {f"layer_{before + 1}_deeper": f"layer_{after + 1}" for before, after in kin.inserted}
    if kin.covered == len(new):
        names["logits"] = "logits"
    return _renamed(grown, names)


def _grows(old: Architecture, place: int, new: Architecture, number: int) -> bool:
    one, other = old[place], new[number]
    if (one.kind, one.size, one.stride) != (other.kind, other.size, other.stride):
        return False
    if one.kind == "R" and _has_shortcut(old, place) != _has_shortcut(new, number):
        return False
    return one.width <= other.width


def _has_shortcut(layers: Architecture, place: int) -> bool:
    """Whether a residual block changes the width, and so has a convolution beside it."""
    before = [layer.width for layer in layers[:place] if layer.kind in ("C", "R")]
    return not before or before[-1] != layers[place].width


def _is_identity(new: Architecture, number: int) -> bool:
    """Whether a layer can be the identity behind the one before it."""
    return new[number].kind in ("C", "FC") and new[number] == new[number - 1]


def _is_free(
    place: int, pairs: Iterable[tuple[int, int]], inserted: Iterable[tuple[int, int]]
) -> bool:
    """Whether a block may be put behind that layer of the relative: one, behind a matched layer."""
    return any(before == place for before, _ in pairs) and all(
        before != place for before, _ in inserted
    )


def _keras_names(layer: Layer, place: int) -> list[str]:
    if layer.kind in ("C", "FC"):
        return [f"layer_{place + 1}"]
    if layer.kind == "R":
        return [f"layer_{place + 1}_first", f"layer_{place + 1}_second"]
    return []


def _renamed(model: Any, names: dict[str, str]) -> LayerWeights:
    """The variables of the named layers and of what belongs to them, under their new names."""
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
    """What a new model starts with.

    Args:
      relative: number of the model that it grew from.
      share: which part of the new one that covers.
      weights: by path of the variable.
    """

    relative: int
    share: float
    weights: LayerWeights


class WarmStarter:
    """Keeps trained weights, a checkpoint a model.

    Args:
      folder: made when the first is kept.
      grammar: of the models.
    """

    def __init__(self, folder: Path, grammar: StateSpace) -> None:
        self._folder, self._grammar = folder, grammar

    def keep(self, number: int, text: str, weights: LayerWeights) -> None:
        """Writes a model's weights."""
        self._folder.mkdir(exist_ok=True)
        checkpoint.write(self._path(number), weights, {"architecture": text})

    def inheritance(self, text: str, rows: Iterable[Model], seed: int) -> InheritedWeights | None:
        """Grows the nearest relative; None if none is near enough.

        Args:
          text: the new architecture.
          rows: the search's rows.
          seed: of which units are copied.
        """
        new = architecture(text)
        trained = {
            row.number: architecture(row.architecture)
            for row in rows
            if row.status in ("trained", "stopped", "out_of_time")
            and self._path(row.number).exists()
        }
        # A block that is normalised computes something else.
        deepens = not self._grammar.space.batch_norm
        near = nearest(new, trained.items(), deepens=deepens)
        if near is None:
            return None
        number, kin = near
        weights, _ = checkpoint.read(self._path(number))
        grown = inherited(self._grammar, trained[number], weights, new, kin, seed)
        return InheritedWeights(number, kin.share, grown)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.ckpt"
