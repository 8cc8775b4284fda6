"""Features by name, as columns of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_qan.early_stopping.curves import Floats

#: What a feature may be.
Feature = float | int | bool | str


class FeatureTable:
    """Encodes named features as numbers.

    Numbers stay as they are, a name becomes a column of 0 and 1 for each of its values, and what is
    missing in a row becomes the mean of the others. Names that no row had are left out.

    Args:
      rows: the features of the finished trainings.
      names: which of them to take; None for all.

    Raises:
      ValueError: a feature is neither a finite number nor a name.

    Example:
      >>> table = FeatureTable([{"depth": 3, "kind": "a"}, {"depth": 5, "kind": "b"}])
      >>> table.columns
      (('depth', None), ('kind', 'a'), ('kind', 'b'))
      >>> table.encode([{"depth": 4, "kind": "b", "other": 1.0}, {"kind": "c"}]).tolist()
      [[4.0, 0.0, 1.0], [4.0, 0.0, 0.0]]
    """

    def __init__(
        self, rows: Sequence[Mapping[str, Feature]], names: Iterable[str] | None = None
    ) -> None:
        columns: list[tuple[str, str | None]] = []
        self._means: dict[str, float] = {}
        known = {name for row in rows for name in row}
        for name in sorted(known if names is None else known.intersection(names)):
            present = [row[name] for row in rows if name in row]
            if any(isinstance(value, str) for value in present):
                columns += [(name, value) for value in sorted({str(one) for one in present})]
            else:
                columns.append((name, None))
                self._means[name] = float(np.mean([_number(name, value) for value in present]))
        self.columns = tuple(columns)

    def encode(self, rows: Sequence[Mapping[str, Feature]]) -> Floats:
        """Returns float64 [rows, columns].

        Raises:
          ValueError: a feature that was a number in the finished trainings is none here.
        """
        found = np.empty((len(rows), len(self.columns)))
        for number, row in enumerate(rows):
            for place, (name, value) in enumerate(self.columns):
                if value is not None:
                    found[number, place] = float(name in row and str(row[name]) == value)
                else:
                    found[number, place] = _number(name, row.get(name, self._means.get(name)))
        return found


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool | int | float | np.number) and math.isfinite(value):
        return float(value)
    raise ValueError(
        f"Received the feature {name}={value!r}; expected a finite number, or a name in every "
        "training. Leave it out, or describe it by numbers."
    )
