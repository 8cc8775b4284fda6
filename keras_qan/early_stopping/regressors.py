"""Regressors, their selection by cross-validation, and their residuals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_qan.early_stopping.curves import Floats, Ints

#: The families of the paper, by the names that `CurvePredictor` takes.
FAMILIES = ("svr_linear", "svr_rbf", "forest", "least_squares")

#: Above this many curves, residuals are of 50 folds instead of leaving each curve out.
_MOST_LEFT_OUT_SINGLY = 200


class Regressor:
    """A scikit-learn regressor between standardised inputs and a standardised target.

    Args:
      make: makes an estimator for a number of examples and of inputs.
    """

    def __init__(self, make: Callable[[int, int], Any]) -> None:
        self._make = make

    def copy_unfitted(self) -> Regressor:
        """Make another regressor of the same settings."""
        return Regressor(self._make)

    def fit(self, inputs: Floats, target: Floats) -> Regressor:
        """Learn from inputs [N, inputs] and target [N]."""
        self._centre, self._scale = inputs.mean(axis=0), _nonzero(inputs.std(axis=0))
        self._target_centre = float(target.mean())
        self._target_scale = float(_nonzero(target.std()))
        self.estimator = self._make(*inputs.shape)
        self.estimator.fit(
            (inputs - self._centre) / self._scale,
            (target - self._target_centre) / self._target_scale,
        )
        return self

    def predict(self, inputs: Floats) -> Floats:
        """Predict the target, [N]."""
        found = self.estimator.predict((inputs - self._centre) / self._scale)
        return np.asarray(found, np.float64) * self._target_scale + self._target_centre

    def out_of_bag_predictions(self) -> Floats | None:
        """A forest's predictions by the trees that did not see the example, [N]; else None."""
        found = getattr(self.estimator, "oob_prediction_", None)
        if found is None:
            return None
        return np.asarray(found, np.float64) * self._target_scale + self._target_centre


def candidates(families: Sequence[str], seed: int) -> Iterator[tuple[str, Regressor]]:
    """Yield each family's regressors, one for each setting that is tried.

    The bound C of ν-SVR is on each example; what limits the function is C · N, so that is what is
    set. γ is set per input, as inputs grow with the length.
    """
    for family in families:
        if family == "svr_linear":
            for bound in (1.0, 5.0):
                yield family, Regressor(_linear(bound))
        elif family == "svr_rbf":
            for bound, width in ((100.0, 0.3), (1000.0, 0.1), (10000.0, 0.03)):
                yield family, Regressor(_rbf(bound, width))
        elif family == "forest":
            yield family, Regressor(_forest(seed))
        else:
            yield family, Regressor(_least_squares)


def select_regressor(
    inputs: Floats, target: Floats, families: Sequence[str], folds: int, seed: int
) -> tuple[str, Regressor]:
    """Choose the regressor with the least squared error in cross-validation, and fit it.

    Returns:
      Its family's name, and the regressor fitted on everything.
    """
    options = list(candidates(families, seed))
    if len(options) > 1:
        parts = _folds(len(target), min(folds, len(target)), seed)
        errors = [_squared_error(one, inputs, target, parts) for _, one in options]
        options = [options[int(np.argmin(errors))]]
    name, best = options[0]
    return name, best.fit(inputs, target)


def residuals(regressor: Regressor, inputs: Floats, target: Floats, seed: int) -> Floats:
    """Truth minus prediction of a fitted regressor on curves that it did not see.

    Each curve is left out in turn, above 200 curves one of fifty folds; forests use their
    out-of-bag predictions.

    Returns:
      float64 [N].
    """
    unseen = regressor.out_of_bag_predictions()
    if unseen is None:
        count = len(target)
        parts = _folds(count, count if count <= _MOST_LEFT_OUT_SINGLY else 50, seed)
        unseen = np.empty(count)
        for part in parts:
            rest = np.ones(count, bool)
            rest[part] = False
            other = regressor.copy_unfitted().fit(inputs[rest], target[rest])
            unseen[part] = other.predict(inputs[part])
    return target - unseen


def _squared_error(
    regressor: Regressor, inputs: Floats, target: Floats, parts: Sequence[Ints]
) -> float:
    total = 0.0
    for part in parts:
        rest = np.ones(len(target), bool)
        rest[part] = False
        regressor.fit(inputs[rest], target[rest])
        total += float(np.sum((regressor.predict(inputs[part]) - target[part]) ** 2))
    return total


def _folds(count: int, folds: int, seed: int) -> list[Ints]:
    order = np.random.default_rng(seed).permutation(count)
    return [np.asarray(part, np.int64) for part in np.array_split(order, folds)]


def _nonzero(deviation: Any) -> Any:
    return np.where(deviation > 1e-12, deviation, 1.0)


def _linear(bound: float) -> Callable[[int, int], Any]:
    def make(count: int, _: int) -> Any:
        from sklearn.svm import NuSVR

        return NuSVR(kernel="linear", C=bound / count)

    return make


def _rbf(bound: float, width: float) -> Callable[[int, int], Any]:
    def make(count: int, num_inputs: int) -> Any:
        from sklearn.svm import NuSVR

        return NuSVR(kernel="rbf", C=bound / count, gamma=width / num_inputs)

    return make


def _forest(seed: int) -> Callable[[int, int], Any]:
    def make(count: int, _: int) -> Any:
        from sklearn.ensemble import RandomForestRegressor

        del count
        return RandomForestRegressor(50, max_features=0.5, oob_score=True, random_state=seed)

    return make


def _least_squares(count: int, _: int) -> Any:
    from sklearn.linear_model import LinearRegression

    del count
    return LinearRegression()
