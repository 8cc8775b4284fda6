"""Baselines that a learned policy is compared with, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from keras_qan.actions import (
    Action,
    Cosine,
    Follow,
    Hold,
    OneCycle,
    Schedule,
    StepDecay,
    WarmRestarts,
)
from keras_qan.agents import ConstantAgent, RandomAgent
from keras_qan.observations import TrainingState
from keras_qan.qan.callback import QANCallback

_SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "step_decay": StepDecay,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "warm_restarts": WarmRestarts,
}

#: All arms of a comparison. `qan` is the learned policy, greedy; `random` takes actions of the same
#: set at random, as often; the others depend on the time alone.
NAMES = ("qan", "random", "constant", *_SCHEDULES)


def check_names(arms: Sequence[str]) -> None:
    """Raise ValueError for an unknown arm, for none at all, and for one named twice."""
    if not arms or len(set(arms)) != len(arms):
        raise ValueError(
            f"arms is {list(arms)}; expected different names, at least one, from "
            f"{', '.join(NAMES)}."
        )
    for name in arms:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"There is no arm {name!r}. {hint}Arms: {', '.join(NAMES)}.")


def make_baseline(name: str, learner: QANCallback, seed: int) -> QANCallback:
    """Return the callback of an arm other than `qan`.

    Schedules and the constant rate act at every step and see no weights; `random` has the
    learner's own actions, decisions and bounds.

    Args:
      name: one of `NAMES` but `qan`.
      learner: the callback it is compared with.
      seed: seed of the random arm.
    """
    settings = learner.settings
    if name == "random":
        return QANCallback(
            actions=settings.actions,
            observations=[TrainingState()],
            reward=settings.reward,
            agent=RandomAgent(seed),
            decide_every=settings.decide_every,
            rate_bounds=settings.rate_bounds,
            dense_start=settings.dense_start,
            schedule=settings.schedule,
            raises_by_slope=settings.raises_by_slope,
        )
    is_constant = name == "constant"
    actions: list[Action] = [Hold()] if is_constant else [Follow(_SCHEDULES[name]())]
    return QANCallback(
        actions=actions,
        observations=[TrainingState()],
        reward=settings.reward,
        agent=ConstantAgent(0),
        decide_every=None if is_constant else 1,
        rate_bounds=(1e-12, 1e6),
    )
