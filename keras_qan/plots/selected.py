"""What the batches of a run were made of, from its records."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_qan.plots.records import Record
from keras_qan.plots.series import Array, number, preferred_phase


@dataclass(frozen=True, eq=False)
class RunShares:
    """The share of each group of examples in a run's batches, the mean over its episodes.

    Args:
        groups: names of the groups, G of them.
        edges: steps at which intervals begin and the last one ends, float64 [N + 1].
        share: float64 [N, G]: in the batches before each decision.
    """

    groups: tuple[str, ...]
    edges: Array
    share: Array


def shares_of_groups(decisions: Sequence[Record], arm: str) -> RunShares | None:
    """Returns what an arm's batches were made of; None where nobody chose them.

    Example:
        >>> record = {"arm": "qan", "phase": "evaluate", "step": 8, "shares": {"class 0": 1.0}}
        >>> shares_of_groups([record], "qan").edges
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
        if number(record, "step") > 0:
            by_step[number(record, "step")].append(record)
    if not by_step:
        return None
    groups = tuple(chosen[0]["shares"])
    steps = sorted(by_step)
    share = [
        [np.mean([number(record["shares"], group) for record in by_step[step]]) for group in groups]
        for step in steps
    ]
    return RunShares(groups, np.array([0.0, *steps]), np.nan_to_num(np.array(share)))
