"""Plain series from the records of a run, for its figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from keras_qan.plots.records import Record

Array = npt.NDArray[np.float64]

# Resamplings for an interval; the ends of a 95 % one then rest on 50 of them each.
_NUM_RESAMPLES = 2000

# Training episodes shown in place of the evaluation while there is none.
_NUM_RECENT = 10

#: More initial rates than this are not shown one by one.
MOST_RATES = 6

# More columns than this could not be told apart in a figure.
_MAX_INTERVALS = 120


@dataclass(frozen=True, eq=False)
class Band:
    """A mean over an arm's runs with a 95 % bootstrap interval.

    Args:
        arm: name of the arm.
        x: places on the horizontal axis, float64 [N].
        mean: float64 [N].
        low: lower end of the interval, float64 [N]; the mean itself for a single run.
        high: upper end, float64 [N].
        num_runs: the number of runs.
        phase: "evaluate" or "train". Defaults to "evaluate".
    """

    arm: str
    x: Array
    mean: Array
    low: Array
    high: Array
    num_runs: int
    phase: str = "evaluate"


@dataclass(frozen=True, eq=False)
class RateTrace:
    """The learning rate of one run.

    Args:
        arm: name of the arm.
        seed: seed of the run.
        step: optimizer steps at which decisions were taken, float64 [N].
        learning_rate: rate from that step on, float64 [N].
        action: name of each action, N of them.
        phase: "evaluate" or "train". Defaults to "evaluate".
    """

    arm: str
    seed: int
    step: Array
    learning_rate: Array
    action: tuple[str, ...]
    phase: str = "evaluate"


@dataclass(frozen=True, eq=False)
class SlopeTrace:
    """The slope ratio of one run.

    Args:
        arm: name of the arm.
        seed: seed of the run.
        step: optimizer steps at which decisions were taken, float64 [N].
        ratio: the slope ratio before each, float64 [N].
        error: its standard error, float64 [N].
        phase: "evaluate" or "train". Defaults to "evaluate".
    """

    arm: str
    seed: int
    step: Array
    ratio: Array
    error: Array
    phase: str = "evaluate"


@dataclass(frozen=True, eq=False)
class ActionShares:
    """Share of each action in the course of the episodes.

    Args:
        actions: names, in the order of their numbers; A of them.
        edges: numbers of the decisions at which intervals begin and the last one ends, float64
            [N + 1]; an interval is one decision, or several in a long episode.
        share: float64 [N, A]; rows are intervals and sum to 1, or to 0 where nothing was logged.
        num_episodes: the number of episodes counted.
    """

    actions: tuple[str, ...]
    edges: Array
    share: Array
    num_episodes: int


class GroupShares(Protocol):
    """Share of each group of examples in the batches of a training; see `selector.shares()`.

    Attributes:
        groups: names of the groups of examples, G of them.
        edges: numbers of the batches at which intervals begin and the last one ends, float64
            [N + 1].
        share: float64 [N, G]; rows are intervals and sum to 1, or to 0 where nothing is known.
    """

    @property
    def groups(self) -> tuple[str, ...]: ...  # noqa: D102 - above

    @property
    def edges(self) -> Array: ...  # noqa: D102 - above

    @property
    def share(self) -> Array: ...  # noqa: D102 - above


@dataclass(frozen=True, eq=False)
class RunShares:
    """`GroupShares` of a run, the mean over its episodes, between its decisions.

    Args:
        groups: names of the groups, G of them.
        edges: steps at which intervals begin and the last one ends, float64 [N + 1].
        share: float64 [N, G]: in the batches before each decision.
    """

    groups: tuple[str, ...]
    edges: Array
    share: Array


@dataclass(frozen=True, eq=False)
class ActionRaster:
    """The action taken at each decision of each episode.

    Args:
        actions: names, in the order of their numbers.
        first_episode: number of the first row's episode; the others follow one by one.
        taken: number of the action, int64 [E, N]; -1 where there was no decision.
    """

    actions: tuple[str, ...]
    first_episode: int
    taken: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Figures of the agent's training, one value an episode; NaN where there is none.

    Args:
        arm: name of the arm.
        episode: number of the episode, float64 [E].
        returned: undiscounted sum of rewards, float64 [E].
        score: final validation loss, float64 [E].
        epsilon: mean share of random decisions, float64 [E].
        diverged: whether the loss stopped being finite, bool [E].
    """

    arm: str
    episode: Array
    returned: Array
    score: Array
    epsilon: Array
    diverged: npt.NDArray[np.bool_]


def read_number(record: Record, key: str) -> float:
    """Return a number of a record; NaN where it is absent, null or no number.

    Example:
        >>> read_number({"loss": None}, "loss")
        nan
    """
    value = record.get(key)
    return float(value) if isinstance(value, int | float) else float("nan")


def preferred_phase(records: Sequence[Record]) -> tuple[str, list[Record]]:
    """Return the evaluation's records, or those of the last training episodes without one.

    Returns:
        "evaluate" or "train", and the records.
    """
    evaluated = [record for record in records if record.get("phase") == "evaluate"]
    if evaluated:
        return "evaluate", evaluated
    last = max((_run_key(record)[0] for record in records), default=0)
    return "train", [record for record in records if _run_key(record)[0] > last - _NUM_RECENT]


def accuracy_by_epoch(epochs: Sequence[Record]) -> list[Band]:
    """Return the validation accuracy after each epoch, one band an arm.

    Args:
        epochs: records of `epochs.jsonl`.

    Returns:
        Bands over the evaluation's runs (the last training episodes where there are none), x
        counted from 1, values from 0 to 1; no band for an arm without accuracies.
    """
    phase, chosen = preferred_phase(epochs)
    runs: dict[str, dict[tuple[int, int], dict[int, float]]] = {}
    for record in chosen:
        accuracy = read_number(record, "val_accuracy")
        if np.isfinite(accuracy):
            epoch = int(read_number(record, "epoch")) + 1
            curves = runs.setdefault(str(record.get("arm")), {})
            curves.setdefault(_run_key(record), {})[epoch] = accuracy
    return [_band(arm, list(runs[arm].values()), phase) for arm in sorted(runs)]


def accuracy_by_rate(
    epochs: Sequence[Record], episodes: Sequence[Record]
) -> dict[float | None, list[Band]]:
    """Return the bands of `accuracy_by_epoch` for each initial rate of the evaluation.

    An arm with a single initial rate, where others have several, is there at each of them. Where
    there are more than `MOST_RATES` rates, or they are unknown, the one key is None.

    Args:
        epochs: records of `epochs.jsonl`.
        episodes: records of `episodes.jsonl`, which know the initial rates.
    """
    begun: dict[tuple[str, int, int], float] = {}
    for record in episodes:
        rate = read_number(record, "initial_learning_rate")
        if record.get("phase") == "evaluate" and np.isfinite(rate):
            begun[_fit_key(record)] = rate
    rates_of: dict[str, set[float]] = defaultdict(set)
    for (arm, *_), rate in begun.items():
        rates_of[arm].add(rate)
    most = max(rates_of.values(), key=len, default=set())
    if not 1 < len(most) <= MOST_RATES:
        bands = accuracy_by_epoch(epochs)
        return {None: bands} if bands else {}
    found: dict[float | None, list[Band]] = {}
    for rate in sorted(most):
        own = [
            record
            for record in epochs
            if (key := _fit_key(record)) in begun
            and record.get("phase") == "evaluate"
            and (begun[key] == rate or len(rates_of[key[0]]) == 1)
        ]
        if bands := accuracy_by_epoch(own):
            found[rate] = bands
    return found


def learning_rates(decisions: Sequence[Record]) -> list[RateTrace]:
    """Return the learning rate of each evaluation run, by arm and then by episode.

    Without an evaluation, of the last training episodes, the newest first.

    Args:
        decisions: records of `decisions.jsonl`.
    """
    traces = []
    phase, chosen = preferred_phase(decisions)
    for (arm, _, seed), records in _by_run(chosen):
        steps = np.array([read_number(record, "step") for record in records])
        rates = np.array([read_number(record, "learning_rate") for record in records])
        known = np.isfinite(steps) & np.isfinite(rates)
        if known.any():
            names = [str(record.get("action")) for record in records]
            actions = tuple(name for name, keep in zip(names, known, strict=True) if keep)
            traces.append(RateTrace(arm, seed, steps[known], rates[known], actions, phase))
    return traces if phase == "evaluate" else traces[::-1]


def slope_ratios(decisions: Sequence[Record]) -> list[SlopeTrace]:
    """Return the slope ratio of each run that measured it, of evaluation runs where there are any.

    Args:
        decisions: records of `decisions.jsonl`.
    """
    traces = []
    phase, chosen = preferred_phase(decisions)
    for (arm, _, seed), records in _by_run(chosen):
        names = ("step", "slope_ratio", "slope_error")
        rows = np.array([[read_number(record, name) for name in names] for record in records])
        known = np.isfinite(rows).all(axis=1)
        if known.any():
            step, ratio, error = rows[known].T
            traces.append(SlopeTrace(arm, seed, step, ratio, error, phase))
    return traces


def excerpt(trace: RateTrace, num_decisions: int = 40) -> RateTrace:
    """Return the middle of a trace, or all of it where it is no longer than that.

    Example:
        >>> steps = np.arange(100.0)
        >>> excerpt(RateTrace("qan", 0, steps, steps, ("Hold()",) * 100), 4).step.tolist()
        [48.0, 49.0, 50.0, 51.0]
    """
    first = max(0, (len(trace.step) - num_decisions) // 2)
    part = slice(first, first + num_decisions)
    return replace(
        trace,
        step=trace.step[part],
        learning_rate=trace.learning_rate[part],
        action=trace.action[part],
    )


def action_shares(decisions: Sequence[Record], arm: str) -> ActionShares | None:
    """Return the shares of actions in an arm's greedy evaluation; None where there is none."""
    chosen = [
        record
        for record in decisions
        if record.get("arm") == arm
        and record.get("phase") == "evaluate"
        and record.get("greedy", True)
        and _has_action(record)
    ]
    if not chosen:
        return None
    actions = action_names(decisions, arm)
    length = 1 + max(record["decision"] for record in chosen)
    width = -(-length // _MAX_INTERVALS)
    counts = np.zeros((-(-length // width), len(actions)))
    for record in chosen:
        counts[record["decision"] // width, record["action_index"]] += 1
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    edges = np.minimum(np.arange(len(counts) + 1) * width, length).astype(np.float64)
    return ActionShares(actions, edges, share, len({_run_key(record) for record in chosen}))


def action_raster(decisions: Sequence[Record], arm: str) -> ActionRaster | None:
    """Return the actions of an arm's training episodes; None where there are none."""
    chosen = [
        record
        for record in decisions
        if record.get("arm") == arm and record.get("phase") == "train" and _has_action(record)
    ]
    if not chosen:
        return None
    numbers = [_run_key(record)[0] for record in chosen]
    first = min(numbers)
    length = 1 + max(record["decision"] for record in chosen)
    taken = np.full((1 + max(numbers) - first, length), -1, np.int64)
    for number_of_episode, record in zip(numbers, chosen, strict=True):
        taken[number_of_episode - first, record["decision"]] = record["action_index"]
    return ActionRaster(action_names(decisions, arm), first, taken)


def selection_shares(decisions: Sequence[Record], arm: str) -> RunShares | None:
    """Return the shares of groups in an arm's batches; None where batches were not selected.

    Example:
        >>> record = {"arm": "qan", "phase": "evaluate", "step": 8, "shares": {"class 0": 1.0}}
        >>> selection_shares([record], "qan").edges
        array([0., 8.])
    """
    own = [
        record
        for record in decisions
        if record.get("arm") == arm and isinstance(record.get("shares"), dict)
    ]
    if not own:
        return None
    _, chosen = preferred_phase(own)
    by_step: dict[float, list[Record]] = defaultdict(list)
    for record in chosen:
        # Before the first decision there is no batch.
        if read_number(record, "step") > 0:
            by_step[read_number(record, "step")].append(record)
    if not by_step:
        return None
    groups = tuple(chosen[0]["shares"])
    steps = sorted(by_step)
    share = [
        [np.mean([read_number(one["shares"], group) for one in by_step[step]]) for group in groups]
        for step in steps
    ]
    return RunShares(groups, np.array([0.0, *steps]), np.nan_to_num(np.array(share)))


def action_names(decisions: Iterable[Record], arm: str) -> tuple[str, ...]:
    """Return the names of an arm's actions in the order of their numbers, over all its records.

    Example:
        >>> record = {"arm": "qan", "decision": 0, "action": "Hold()", "action_index": 1}
        >>> action_names([record], "qan")
        ('action 0', 'Hold()')
    """
    names: dict[int, str] = {}
    for record in decisions:
        if record.get("arm") == arm and _has_action(record):
            names.setdefault(record["action_index"], str(record.get("action")))
    # The name of an action that was never taken is unknown.
    return tuple(names.get(index, f"action {index}") for index in range(1 + max(names, default=-1)))


def find_learner(episodes: Iterable[Record]) -> str:
    """Return the arm that is trained: `qan`, unless only others have training episodes."""
    trained = {str(record.get("arm")) for record in episodes if record.get("phase") == "train"}
    return "qan" if "qan" in trained or not trained else min(trained)


def learning_curve(
    episodes: Sequence[Record], decisions: Sequence[Record], arm: str
) -> LearningCurve | None:
    """Return the figures of an arm's training; None without a finished training episode."""
    epsilons: dict[int, list[float]] = defaultdict(list)
    for record in decisions:
        if record.get("arm") == arm and record.get("phase") == "train":
            epsilons[_run_key(record)[0]].append(read_number(record, "epsilon"))
    trained = {
        _run_key(record)[0]: record
        for record in episodes
        if record.get("arm") == arm and record.get("phase") == "train"
    }
    if not trained:
        return None
    ordered = [trained[episode] for episode in sorted(trained)]
    return LearningCurve(
        arm,
        np.array(sorted(trained), np.float64),
        np.array([read_number(record, "return") for record in ordered]),
        np.array([read_number(record, "val_loss") for record in ordered]),
        np.array([_mean(np.array(epsilons.get(episode, []))) for episode in sorted(trained)]),
        np.array([bool(record.get("diverged")) for record in ordered]),
    )


def running_mean(values: Array, width: int) -> Array:
    """Return the mean of the last `width` values that are not NaN, at each place.

    Args:
        values: float64 [N].
        width: at least 1; fewer values are taken at the beginning.

    Example:
        >>> running_mean(np.array([1.0, 3.0, np.nan, 5.0]), 2).tolist()
        [1.0, 2.0, 3.0, 5.0]
    """
    return np.array([_mean(values[max(0, i + 1 - width) : i + 1]) for i in range(values.size)])


def bootstrap_interval(runs: Array, *, seed: int = 0) -> tuple[Array, Array]:
    """Return a 95 % percentile interval of the mean over runs, whole runs resampled.

    Args:
        runs: float64 [R, N]; NaN where a run has no value.
        seed: of the resampling. Defaults to 0.

    Returns:
        Lower and upper ends, float64 [N] each.
    """
    chosen = np.random.default_rng(seed).integers(0, len(runs), (_NUM_RESAMPLES, len(runs)))
    weights = np.zeros((_NUM_RESAMPLES, len(runs)))
    np.add.at(weights, (np.arange(_NUM_RESAMPLES)[:, np.newaxis], chosen), 1.0)
    means = _weighted_means(runs, weights)
    low, high = np.nanpercentile(means, [2.5, 97.5], axis=0)
    return low, high


def _weighted_means(runs: Array, weights: Array) -> Array:
    present = np.isfinite(runs)
    totals = weights @ np.where(present, runs, 0.0)
    counts = weights @ present
    return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)


def _band(arm: str, curves: list[dict[int, float]], phase: str) -> Band:
    xs = sorted({x for curve in curves for x in curve})
    runs = np.array([[curve.get(x, float("nan")) for x in xs] for curve in curves])
    mean = _weighted_means(runs, np.ones((1, len(runs))))[0]
    low, high = (mean, mean) if len(runs) == 1 else bootstrap_interval(runs)
    return Band(arm, np.array(xs, np.float64), mean, low, high, len(runs), phase)


def _by_run(records: Iterable[Record]) -> list[tuple[tuple[str, int, int], list[Record]]]:
    runs: dict[tuple[str, int, int], list[Record]] = defaultdict(list)
    for record in records:
        runs[_fit_key(record)].append(record)
    return [(key, sorted(runs[key], key=lambda r: read_number(r, "step"))) for key in sorted(runs)]


def _run_key(record: Record) -> tuple[int, int]:
    return int(record.get("episode") or 0), int(record.get("seed") or 0)


def _fit_key(record: Record) -> tuple[str, int, int]:
    return (str(record.get("arm")), *_run_key(record))


def _has_action(record: Record) -> bool:
    return all(
        isinstance(record.get(key), int) and record[key] >= 0
        for key in ("action_index", "decision")
    )


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
