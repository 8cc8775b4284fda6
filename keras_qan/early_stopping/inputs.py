"""What a regressor sees of a curve that was observed for a while."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from keras_qan.early_stopping.curves import Floats, Ints

#: A positive feature that spans more than this factor is taken by its logarithm.
_WIDE = 10.0


class Inputs:
    """Turns the first τ values of curves, and features, into the inputs of a regressor.

    x = (y₁ … y_τ, their first differences, their second differences, features): section 3.1 of
    arXiv:1705.10823. Features that are positive and span more than a factor of ten (numbers of
    weights, learning rates) enter by their logarithm, which the paper does not say; the planned
    length enters where the finished curves differ in it.

    Args:
      features: of the finished curves, [N, F].
      lengths: of the finished curves, [N].
    """

    def __init__(self, features: Floats, lengths: Ints) -> None:
        self._logarithmic = _spans_wide(features)
        self._sees_length = bool(np.ptp(lengths)) if len(lengths) else False

    def of(self, values: Floats, tau: int, features: Floats, lengths: Ints) -> Floats:
        """Returns the inputs.

        Args:
          values: curves, [N, at least τ].
          tau: τ, how many values are looked at.
          features: [N, F].
          lengths: planned lengths, [N].

        Returns:
          float64 [N, inputs].
        """
        seen = values[:, :tau]
        parts = [seen, np.diff(seen, 1), np.diff(seen, 2) if tau > 2 else seen[:, :0]]
        positive = np.maximum(features, np.finfo(np.float64).tiny)
        parts.append(np.where(self._logarithmic, np.log(positive), features))
        if self._sees_length:
            parts.append(lengths[:, None].astype(np.float64))
        return np.hstack(parts)


def _spans_wide(features: Floats) -> npt.NDArray[np.bool_]:
    if not features.size:
        return np.zeros(features.shape[1], bool)
    low, high = features.min(axis=0), features.max(axis=0)
    return (low > 0.0) & (high > _WIDE * low)
