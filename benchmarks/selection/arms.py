"""The arms: each selector by its own script."""

from __future__ import annotations

import tensorflow as tf

from keras_qan import selection

ARMS = (
    "uniform",
    "class_mix_balanced",
    "class_mix_cycle",
    "class_mix_random",
    "loss_rank",
    "loss_rank_unbiased",
    "loss_rank_easy",
    "prune",
)

#: Where an agent starts: no pressure, until it moves it.
LEVEL = "loss_rank_level"


def selector_for(
    arm: str, source: tf.data.Dataset, num_classes: int, batch_size: int, seed: int
) -> selection.Selector:
    """The selector of an arm.

    Raises:
      ValueError: there is no such arm.
    """
    if arm not in (*ARMS, LEVEL):
        raise ValueError(f"There is no arm {arm!r}; expected one of {', '.join(ARMS)}.")
    if arm == "uniform":
        return selection.Uniform(source, batch_size, seed=seed)
    if arm.startswith("class_mix"):
        script = {"cycle": selection.Cycle(), "random": selection.Draw()}.get(arm.split("_")[-1])
        return selection.ClassMix(source, num_classes, batch_size, script=script, seed=seed)
    if arm == "loss_rank_easy":
        return selection.LossRank(source, batch_size, pressure=0.01, anneal=False, seed=seed)
    if arm == LEVEL:
        return selection.LossRank(source, batch_size, pressure=1.0, anneal=False, seed=seed)
    if arm.startswith("loss_rank"):
        return selection.LossRank(source, batch_size, unbiased=arm.endswith("unbiased"), seed=seed)
    return selection.Prune(source, batch_size, seed=seed)
