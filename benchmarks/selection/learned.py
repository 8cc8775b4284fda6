"""Arms with an agent: what it steers, how it learns, and the same actions by chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from arms import selector_for

from keras_qan import QANCallback, TrainingState, presets, selection
from keras_qan.agents import Random

#: Arm → the selector that it steers, whether it steers the rate, whether it learns.
LEARNED = {
    **{f"qan_{kind}": (kind, False, True) for kind in ("class_mix", "loss_rank", "prune")},
    **{f"random_{kind}": (kind, False, False) for kind in ("class_mix", "loss_rank", "prune")},
    "qan_rate": ("uniform", True, True),
    "qan_joint_class_mix": ("class_mix", True, True),
    "qan_joint_prune": ("prune", True, True),
}

#: Episodes that an agent learns in have seeds from here on, and the data of the first of them.
FIRST_LEARNING_SEED = 10_000

#: Steps between decisions.
DECIDE_EVERY = 4

Fit = Callable[[selection.Selector, QANCallback, int], Any]


def selector_of(
    arm: str, source: tf.data.Dataset, num_classes: int, batch_size: int, seed: int
) -> selection.Selector:
    """The selector that an arm steers."""
    kind = LEARNED[arm][0]
    name = "class_mix_balanced" if kind == "class_mix" else kind
    return selector_for(name, source, num_classes, batch_size, seed)


def settings_of(arm: str, selector: selection.Selector) -> dict[str, Any]:
    """What its callback is made of."""
    _, rate_actions, _ = LEARNED[arm]
    found = presets.default() | {"decide_every": DECIDE_EVERY}
    if not selector.actions():
        return found
    return presets.with_selection(found, selector, rate_actions)


def learn(
    arm: str, directory: Path, episodes: int, selector: Callable[[], selection.Selector], fit: Fit
) -> None:
    """Lets an arm's agent learn, or go on learning, up to so many episodes."""
    if not LEARNED[arm][2]:
        return
    steered = selector()
    callback = QANCallback(directory, **settings_of(arm, steered))
    for episode in range(callback.episodes, episodes):
        steered.restart(FIRST_LEARNING_SEED + episode)
        fit(steered, callback, FIRST_LEARNING_SEED + episode)


def callback_of(arm: str, directory: Path, selector: selection.Selector, seed: int) -> QANCallback:
    """What plays an arm: the learned policy, greedy and frozen, or chance."""
    if LEARNED[arm][2]:
        bound = selector if selector.actions() else None
        return QANCallback.load(directory, explore=False, selector=bound)
    settings = settings_of(arm, selector)
    settings |= {"agent": Random(seed), "observations": [TrainingState()]}
    callback = QANCallback(**settings)
    callback.explore = False
    return callback
