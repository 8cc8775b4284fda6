"""The table of a comparison: errors at half and at the whole time, and time to one arm's end."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.common.records import Row
from benchmarks.common.tables import format_header, format_mean, format_row

#: (share of the time, validation accuracy) wherever the best so far rose.
Trace = list[tuple[float, float]]


def report(rows: list[Row], base: str, means: tuple[str, ...] = ()) -> None:
    """Prints a line an arm; differences are paired by seed.

    Args:
      rows: with "arm", "seed" and "trace".
      base: the arm that the others are compared with.
      means: names of further numbers of a row, of which the mean is shown.
    """
    own = {row["seed"]: error_at(row["trace"], 1.0) for row in rows if row["arm"] == base}
    rows = [row for row in rows if row["seed"] in own]
    if not rows:
        return
    goal = float(np.mean(list(own.values())))
    gaps = (f"half − {base}'s end (95 %)", f"end − {base}'s end (95 %)")
    shown = ("arm", "error at half", "error at the end", *gaps, f"time to {base}'s end", *means)
    print(format_header(*shown))
    for arm in dict.fromkeys(row["arm"] for row in rows):
        found = [row for row in rows if row["arm"] == arm]
        errors = [[100 * error_at(row["trace"], share) for row in found] for share in (0.5, 1.0)]
        bases = [100 * own[row["seed"]] for row in found]
        cells = [f"{np.mean(each):.2f} %" for each in errors]
        cells += [format_mean(np.subtract(each, bases), "+.2f") for each in errors]
        reached = time_to(goal, [row["trace"] for row in found])
        cells += [f"{reached:.2f}" if reached <= 1.0 else "–"]
        cells += [f"{np.mean([row[name] for row in found]):.3g}" for name in means]
        print(format_row(arm, *cells))
    print()


def error_at(trace: Trace, share: float) -> float:
    """The least validation error at a share of the time; 1 before there is any."""
    return 1.0 - max((value for at, value in trace if at <= share), default=0.0)


def time_to(goal: float, traces: list[Trace]) -> float:
    """The share of the time at which the mean of the least errors reaches a goal."""
    for at in sorted(at for trace in traces for at, _ in trace):
        if np.mean([error_at(trace, at) for trace in traces]) <= goal + 1e-9:
            return at
    return math.inf


def rises(trace: Trace) -> Trace:
    """The entries of a trace at which the best so far rose."""
    found: Trace = []
    best = 0.0
    for at, value in trace:
        if value > best:
            best = value
            found.append((round(at, 4), round(value, 6)))
    return found
