"""Table of an evaluation: means, paired differences, intervals, steps to a target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

#: The log loss that a diverged training counts as: it spoils a mean instead of hiding in it.
DIVERGED_LOG_LOSS = math.log(10.0)


def interval(values: Sequence[float], seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Return the bootstrap percentile interval of a mean (Efron & Tibshirani 1993).

    Args:
      values: one number a seed; non-finite ones are left out.
      seed: of the resampling. Defaults to 0.
      level: the share of resampled means within the interval. Defaults to 0.95.

    Returns:
      Lower and upper end; both not-a-number for fewer than two values.
    """
    finite = np.asarray([value for value in values if math.isfinite(value)])
    if len(finite) < 2:
        return math.nan, math.nan
    if np.ptp(finite) == 0.0:
        return float(finite[0]), float(finite[0])
    found = stats.bootstrap(
        (finite,),
        np.mean,
        n_resamples=4000,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def steps_to(target: float, steps: Sequence[float], losses: Sequence[float]) -> float:
    """Return the steps to the first validation loss at a target, linear between epochs.

    Args:
      target: the loss to reach.
      steps: steps done at the end of each epoch, ascending.
      losses: the validation loss there.

    Returns:
      The number of steps; infinity if the target was never reached.
    """
    before_step, before_loss = 0.0, math.inf
    for step, loss in zip(steps, losses, strict=True):
        if loss <= target:
            if not math.isfinite(before_loss):
                return float(step)
            share = (before_loss - target) / (before_loss - loss)
            return before_step + share * (step - before_step)
        before_step, before_loss = step, loss
    return math.inf


def compare(
    episodes: Sequence[dict[str, Any]], epochs: Sequence[dict[str, Any]], reference: str = "qan"
) -> list[dict[str, Any]]:
    """Summarise an evaluation, arm by arm and initial rate by initial rate.

    The target of an initial rate is the mean validation loss that the constant rate ends with, and
    differences are paired by seed.

    Args:
      episodes: the run's episode records.
      epochs: its epoch records.
      reference: the arm that the others are compared with. Defaults to "qan".

    Returns:
      One row for each initial rate and arm, best mean first: `initial_learning_rate`, `arm`,
      `seeds`, `log_val_loss` and its `interval`, `minus_reference` (the mean paired difference of
      log validation losses; above zero means that the reference is better) and its
      `minus_reference_interval`, `test_loss`, `test_accuracy`, `steps_to_target` (the median) and
      `diverged` (how many).
    """
    evaluated = [record for record in episodes if record.get("phase") == "evaluate"]
    rates = sorted({record["initial_learning_rate"] for record in evaluated})
    rows = []
    for rate in rates:
        of_rate = [r for r in evaluated if r["initial_learning_rate"] == rate]
        arms = list(dict.fromkeys(record["arm"] for record in of_rate))
        logs = {arm: _log_losses(of_rate, arm) for arm in arms}
        target = _target(of_rate)
        rows_of_rate = []
        for arm in arms:
            records = [record for record in of_rate if record["arm"] == arm]
            losses = list(logs[arm].values())
            shared = [s for s in logs[arm] if s in logs.get(reference, {})]
            differences = [logs[arm][seed] - logs[reference][seed] for seed in shared]
            found = [_steps_to_target(record, epochs, target) for record in records]
            rows_of_rate.append(
                {
                    "initial_learning_rate": rate,
                    "arm": arm,
                    "seeds": len(records),
                    "log_val_loss": _mean(losses),
                    "interval": interval(losses),
                    "minus_reference": _mean(differences) if arm != reference else 0.0,
                    "minus_reference_interval": interval(differences),
                    "test_loss": _mean([_number(r.get("test_loss")) for r in records]),
                    "test_accuracy": _mean([_number(r.get("test_accuracy")) for r in records]),
                    "steps_to_target": float(np.median(found)) if found else math.nan,
                    "diverged": sum(bool(record.get("diverged")) for record in records),
                }
            )
        rows += sorted(rows_of_rate, key=lambda row: row["log_val_loss"])
    return rows


def _log_losses(records: Sequence[dict[str, Any]], arm: str) -> dict[int, float]:
    found = {}
    for record in records:
        if record["arm"] == arm:
            loss = _number(record.get("val_loss"))
            usable = math.isfinite(loss) and loss > 0.0 and not record.get("diverged")
            found[record["seed"]] = (
                min(math.log(loss), DIVERGED_LOG_LOSS) if usable else DIVERGED_LOG_LOSS
            )
    return found


def _target(records: Sequence[dict[str, Any]]) -> float:
    losses = _log_losses(records, "constant")
    return math.exp(_mean(list(losses.values()))) if losses else math.nan


def _steps_to_target(
    record: dict[str, Any], epochs: Sequence[dict[str, Any]], target: float
) -> float:
    curve = [
        (epoch["step"], _number(epoch.get("val_loss")))
        for epoch in epochs
        if all(epoch.get(key) == record.get(key) for key in ("arm", "phase", "episode"))
    ]
    if not curve or not math.isfinite(target):
        return math.inf
    steps, losses = zip(*sorted(curve), strict=True)
    return steps_to(target, steps, [math.inf if math.isnan(loss) else loss for loss in losses])


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan
