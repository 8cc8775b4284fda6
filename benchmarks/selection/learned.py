"""Arms with an agent: what it steers, how it learns, and the same actions by chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from arms import LEVEL, selector_for

from keras_qan import CurrentLearningRate, LogLossDrop, QANCallback, TrainingState, selection
from keras_qan.agents import RandomAgent
from keras_qan.qan import presets
from keras_qan.storage.serialization import from_config, to_config


class Steered(NamedTuple):
    """An arm that steers.

    Attributes:
      kind: the selector's.
      rate: whether it steers the learning rate as well.
      learns: whether it learns, or acts by chance.
      raw: whether it has the original's actions, one for each class.
      least: whether every class keeps half of an even share of each batch.
      over_all: whether it is rewarded by the loss over all data, not by that of the batches.
      decide_every: steps between decisions; None for a twentieth of the training.
    """

    kind: str
    rate: bool = False
    learns: bool = True
    raw: bool = False
    least: bool = True
    over_all: bool = True
    decide_every: int | None = None


_KINDS = ("class_mix", "loss_rank", "prune")
_ORIGINAL = Steered("class_mix", raw=True, least=False, over_all=False, decide_every=4)

#: Arm → what it steers and how.
LEARNED = {
    **{f"qan_{kind}": Steered(kind) for kind in _KINDS},
    **{f"random_{kind}": Steered(kind, learns=False) for kind in _KINDS},
    "qan_rate": Steered("uniform", rate=True),
    "qan_joint_class_mix": Steered("class_mix", rate=True),
    "qan_joint_prune": Steered("prune", rate=True),
    "qan_joint_loss_rank": Steered("loss_rank", rate=True),
    # One thing changed at a time, from the original's actions and reward.
    "qan_pushes": _ORIGINAL,
    "random_pushes": _ORIGINAL._replace(learns=False),
    "qan_pushes_all": _ORIGINAL._replace(over_all=True),
    "qan_pushes_least": _ORIGINAL._replace(least=True),
    "random_pushes_least": _ORIGINAL._replace(least=True, learns=False),
    "qan_moves": Steered("class_mix", least=False, over_all=False),
    "qan_moves_all": Steered("class_mix", least=False),
    "random_moves": Steered("class_mix", least=False, learns=False),
    "qan_moves_least": Steered("class_mix", over_all=False),
}

#: Episodes that an agent learns in have seeds from here on, for `arm#1` from twice this on, ….
FIRST_LEARNING_SEED = 10_000


def learnings_of(arm: str, count: int) -> list[str]:
    """An arm with an agent, once for each of so many seeds: `arm`, `arm#1`, …; others once."""
    return [arm, *(f"{arm}#{number}" for number in range(1, count))] if arm in LEARNED else [arm]


def without_learning(arm: str) -> tuple[str, int]:
    """The arm's name, and the seed of its agent."""
    name, _, number = arm.partition("#")
    return name, int(number or 0)


def selector_of(
    arm: str, source: tf.data.Dataset, num_classes: int, batch_size: int, seed: int
) -> selection.Selector:
    """The selector that an arm steers."""
    steered = LEARNED[without_learning(arm)[0]]
    if steered.kind != "class_mix":
        kind = LEVEL if steered.kind == "loss_rank" else steered.kind
        return selector_for(kind, source, num_classes, batch_size, seed)
    least = batch_size // (2 * num_classes) if steered.least else 0
    return selection.ClassMix(source, num_classes, batch_size, least=least, seed=seed)


def settings_of(
    arm: str,
    selector: selection.Selector,
    margin: float = presets.SELECTION_MARGIN,
    seed: int = 0,
) -> dict[str, Any]:
    """Arguments of its callback; the margin is that by which an action has to beat holding."""
    steered = LEARNED[arm]
    found = presets.default(seed) | {"decide_every": steered.decide_every}
    found["observations"] = (CurrentLearningRate(), TrainingState())
    if selector.actions():
        found = presets.with_selection(found, selector, steered.rate, steered.raw)
        found["reward"] = LogLossDrop(over_all_data=steered.over_all)
        agent = to_config(found["agent"]) | {"margin": margin}
        found["agent"] = from_config(agent)
    return found


def learn(
    arm: str,
    directory: Path,
    episodes: int,
    selector: Callable[[], selection.Selector],
    train: Callable[[selection.Selector, QANCallback, range], None],
    margin: float = presets.SELECTION_MARGIN,
) -> None:
    """Lets an arm's agent learn, or go on learning, up to so many episodes."""
    arm, learning = without_learning(arm)
    if not LEARNED[arm].learns:
        return
    steered = selector()
    callback = QANCallback(directory, **settings_of(arm, steered, margin, learning))
    first = FIRST_LEARNING_SEED * (learning + 1)
    seeds = range(first + callback.episodes, first + episodes)
    if seeds:
        train(steered, callback, seeds)


def callback_of(arm: str, directory: Path, selector: selection.Selector) -> QANCallback:
    """The callback of an arm: the learned policy, greedy and frozen, or chance."""
    arm, learning = without_learning(arm)
    if LEARNED[arm].learns:
        bound = selector if selector.actions() else None
        return QANCallback.load(directory, explore=False, selector=bound)
    settings = settings_of(arm, selector)
    callback = QANCallback(
        **settings | {"agent": RandomAgent(learning), "observations": [TrainingState()]}
    )
    callback.explore = False
    return callback
