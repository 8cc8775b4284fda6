"""Learning curves as one checked matrix, and named features as columns of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: A feature of an architecture or a training.
Feature = float | int | bool | str


class CurveError(ValueError):
    """Curves or features that cannot be learned from or predicted for."""


def plain_feature(value: Any) -> Any:
    """Return a feature of NumPy's or of a tensor library as plain Python; others as they are."""
    if isinstance(value, bool | int | float | str):
        return value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return value
    return array.item() if array.ndim == 0 and array.dtype.kind in "biuf" else value


class TooFewCurvesError(CurveError):
    """Fewer finished curves than needed.

    Args:
      present: the number of finished curves.
      needed: the number needed.
      why: the purpose, for the message.

    Attributes:
      missing: the number that is missing.
    """

    def __init__(self, present: int, needed: int, why: str) -> None:
        self.missing = needed - present
        super().__init__(
            f"Received {present} finished curves; {needed} are needed {why}. "
            f"{self.missing} are missing: finish more trainings first."
        )


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves side by side.

    Args:
      values: float64 [N, T], NaN behind the last observed value of a curve.
      lengths: the number of observed values of each curve, int64 [N], each at least 1.
    """

    values: Floats
    lengths: Ints

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def last(self) -> Floats:
        """The last observed value of each curve, [N]."""
        return self.values[np.arange(len(self)), self.lengths - 1]


def as_curves(curves: Any, *, at_least: int = 1) -> Curves:
    """Convert curves to one matrix.

    Args:
      curves: numbers [N, T], NaN where not observed, or a sequence of N curves of any lengths.
      at_least: the fewest values that a curve may have. Defaults to 1.

    Raises:
      CurveError: a curve has a NaN before or between its values, an infinite value, or fewer values
        than `at_least`; or the shape is not that of curves.
    """
    values = _matrix(curves)
    observed = ~np.isnan(values)
    lengths = observed.sum(axis=1)
    whole = observed == (np.arange(values.shape[1]) < lengths[:, None])
    _refuse(~whole.all(axis=1), "NaN in front of or between values", "NaN behind the last one only")
    _refuse(np.isinf(values).any(axis=1), "an infinite value", "finite values")
    wanted = f"at least {at_least} value{'s' if at_least > 1 else ''}"
    _refuse(lengths < at_least, f"fewer than {at_least} observed values", wanted)
    return Curves(values, lengths.astype(np.int64))


def as_features(features: Any, num_curves: int) -> Floats:
    """Convert features to a matrix float64 [N, F]; None gives F = 0.

    Raises:
      CurveError: there are not as many rows as curves, or a feature is not a finite number.
    """
    if features is None:
        return np.empty((num_curves, 0))
    try:
        matrix = np.asarray(features, np.float64)
    except (TypeError, ValueError) as error:
        raise CurveError(
            f"Received features that are no numbers ({error}); expected numbers [N, F]. Encode "
            "names as numbers, for example one column of 0 and 1 for each."
        ) from error
    if matrix.ndim == 1 and num_curves == len(matrix):
        matrix = matrix[:, None]
    if matrix.ndim != 2 or len(matrix) != num_curves:
        raise CurveError(
            f"Received features of shape {matrix.shape} for {num_curves} curves; expected "
            f"({num_curves}, F), a row for each curve."
        )
    bad = ~np.isfinite(matrix).all(axis=1)
    _refuse(bad, "a feature that is NaN or infinite", "finite numbers")
    return matrix


def _matrix(curves: Any) -> Floats:
    try:
        if isinstance(curves, np.ndarray) and curves.dtype != object:
            values = curves.astype(np.float64)
        else:
            values = _padded([np.asarray(curve, np.float64) for curve in curves])
    except (TypeError, ValueError) as error:
        raise CurveError(
            f"Received curves that are no numbers ({error}); expected numbers [N, T], or a "
            "sequence of curves. Put a single curve into a list: [curve]."
        ) from error
    if values.ndim != 2:
        raise CurveError(
            f"Received curves of shape {values.shape}; expected two dimensions, a row for each "
            "curve. Put a single curve into a list: [curve]."
        )
    return values


def _padded(rows: Sequence[Floats]) -> Floats:
    if any(row.ndim != 1 for row in rows):
        shapes = sorted({row.shape for row in rows})
        raise ValueError(f"each curve must have one dimension, and there are {shapes[:3]}")
    values = np.full((len(rows), max((len(row) for row in rows), default=0)), np.nan)
    for number, row in enumerate(rows):
        values[number, : len(row)] = row
    return values


def _refuse(bad: Any, found: str, wanted: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
        raise CurveError(
            f"Received {found} in row {', '.join(map(str, rows[:5]))}{more}; expected {wanted}. "
            "Leave such rows out, or mend them."
        )


class FeatureTable:
    """Encoding of named features as numbers.

    Numbers stay as they are, a name becomes a column of 0 and 1 for each of its values, and what is
    missing in a row becomes the mean of the others. Names that no row had are left out.

    Args:
      rows: the features of the finished trainings.
      names: of the features to take. Defaults to all.

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
        """Return float64 [rows, columns].

        Raises:
          ValueError: a feature that was a number in the finished trainings is not one here.
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
    value = plain_feature(value)
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    raise ValueError(
        f"Received the feature {name}={value!r}; expected a finite number, or a name in every "
        "training. Leave it out, or describe it by numbers."
    )
