"""Trained weights of a search, and what a new model takes over from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from keras_qan import checkpoint
from keras_qan.metaqnn import relatives
from keras_qan.metaqnn.grammar import Grammar
from keras_qan.metaqnn.layers import architecture
from keras_qan.metaqnn.records import Model


@dataclass(frozen=True, eq=False)
class Inheritance:
    """What a new model starts with.

    Args:
      relative: number of the model that it grew from.
      share: which part of the new one that covers.
      weights: by path of the variable.
    """

    relative: int
    share: float
    weights: relatives.Weights


class Nursery:
    """Keeps trained weights, a checkpoint a model.

    Args:
      folder: made when the first is kept.
      grammar: of the models.
    """

    def __init__(self, folder: Path, grammar: Grammar) -> None:
        self._folder, self._grammar = folder, grammar

    def keep(self, number: int, text: str, weights: relatives.Weights) -> None:
        """Writes a model's weights."""
        self._folder.mkdir(exist_ok=True)
        checkpoint.write(self._path(number), weights, {"architecture": text})

    def inheritance(self, text: str, rows: Iterable[Model], seed: int) -> Inheritance | None:
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
        near = relatives.nearest(new, trained.items(), deepens=deepens)
        if near is None:
            return None
        number, kin = near
        weights, _ = checkpoint.read(self._path(number))
        grown = relatives.inherited(self._grammar, trained[number], weights, new, kin, seed)
        return Inheritance(number, kin.share, grown)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.ckpt"
