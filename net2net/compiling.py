"""Compile the grown model as the old one was: same loss, metrics and kind of optimizer."""

from __future__ import annotations

from typing import Any

import keras


def compile_like(old: Any, new: Any, learning_rate: float | None) -> None:
    """Compile a model like another, with an optimizer and metrics of its own.

    Args:
        old: The compiled model.
        new: The model to compile.
        learning_rate: The rate to go on with; None for the old one's present rate or schedule.
    """
    # The live arguments, not their serialised form: a loss may be any function.
    arguments = dict(old._compile_config.config)
    arguments["optimizer"] = optimizer_like(old.optimizer, learning_rate)
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = keras.tree.map_structure(_metric_like, arguments.get(name))
    new.compile(**arguments)


def optimizer_like(old: Any, learning_rate: float | None) -> Any:
    """Return a new optimizer with another's settings.

    Args:
        old: The optimizer.
        learning_rate: The rate to go on with; None to keep the rate or schedule.

    Returns:
        The new optimizer, not built.

    Raises:
        ValueError: Where a rate is given for an optimizer that has several.
    """
    config = old.get_config()
    inner = getattr(old, "inner_optimizer", None)
    if inner is not None:
        return type(old)(**{**config, "inner_optimizer": optimizer_like(inner, learning_rate)})
    if hasattr(old, "_inner_optimizers"):
        if learning_rate is not None:
            raise ValueError(
                f"learning_rate={learning_rate} was given, but {type(old).__name__} has a rate for "
                "each of its optimizers. Set `model.optimizer.optimizers[k].learning_rate` "
                "afterwards."
            )
        return type(old).from_config(config)
    present = getattr(old, "_learning_rate", None)
    if learning_rate is not None:
        config["learning_rate"] = float(learning_rate)
    elif callable(present) and not hasattr(present, "assign"):
        config["learning_rate"] = present  # a schedule is without state, and may be the user's own
    return type(old).from_config(config)


def _metric_like(metric: Any) -> Any:
    if isinstance(metric, keras.metrics.Metric):
        return type(metric).from_config(metric.get_config())
    return metric
