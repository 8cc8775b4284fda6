"""Fresh models at the price of one: compiled once, and given fresh weights after."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


class ModelFactory:
    """Gives a fresh model for each episode.

    The user's `build_model` is called for every model. Where the new one is the same as the last
    but for its weights, its weights and its optimizer's initial state are copied into the last one,
    whose training step is compiled already; the training cannot tell, and an episode on a small
    model takes a fraction of the time.

    Args:
      build_model: seed → compiled model.
      example: batches, the first of which builds the loss of a model that is new. `fit` would draw
        a batch of its own data for that, and so start the first model at another place in the data
        than the models after it.
    """

    def __init__(self, build_model: Callable[[int], keras.Model], example: tf.data.Dataset) -> None:
        self._build_model = build_model
        self._example = example.take(1)
        self._kept: keras.Model | None = None
        self._kept_form: str | None = None

    def build(self, seed: int) -> keras.Model:
        """Return a model whose initial weights follow from the seed.

        Raises:
          TypeError: `build_model` did not return a compiled Keras model.
        """
        model = self._build_model(seed)
        if not isinstance(model, keras.Model) or getattr(model, "optimizer", None) is None:
            raise TypeError(
                f"build_model({seed}) returned {model!r}; expected a compiled keras.Model: call "
                "model.compile(...) before returning it."
            )
        form = _describe(model)
        if form is None or form != self._kept_form or self._kept is None:
            self._kept, self._kept_form = model, form
            model.evaluate(self._example, verbose=0)
            return model
        for each in (model, self._kept):
            with each.distribute_strategy.scope():
                each.optimizer.build(each.trainable_variables)
        for pair in (
            zip(self._kept.variables, model.variables, strict=True),
            zip(self._kept.optimizer.variables, model.optimizer.variables, strict=True),
        ):
            for kept, new in pair:
                kept.assign(new)
        self._kept.stop_training = False
        return self._kept


def _describe(model: keras.Model) -> str | None:
    """Return a model but for its weights, seeds and automatic names; None where that is unknown."""
    if not model.built:
        return None
    try:
        description = [model.get_config(), model.get_compile_config()]
        text = json.dumps(_without_start(description), sort_keys=True, default=_refuse)
    except (NotImplementedError, TypeError, ValueError):
        return None
    # Keras numbers unnamed layers through the whole process: conv2d here is conv2d_1 there.
    parts = [model, model.optimizer, *model._flatten_layers(include_self=False)]
    for number, part in enumerate(parts):
        if _is_automatic(part):
            text = text.replace(json.dumps(part.name), f'"part {number}"')
    shapes = [f"{tuple(v.shape)}{v.dtype}{v.trainable}" for v in model.variables]
    return f"{type(model)} {text} {shapes} {model.run_eagerly} {model.steps_per_execution}"


def _is_automatic(part: Any) -> bool:
    """Return whether Keras made the name from the class's; a user's own may say something else."""
    base = re.sub(r"_\d+$", "", part.name)
    return base.replace("_", "").lower() == type(part).__name__.lower()


def _without_start(config: Any) -> Any:
    """Return a configuration without the entries that only say where the weights start."""
    if isinstance(config, dict):
        return {
            key: _without_start(value)
            for key, value in config.items()
            if key != "seed" and not key.endswith("_initializer")
        }
    return [_without_start(v) for v in config] if isinstance(config, list | tuple) else config


def _refuse(value: object) -> Any:
    raise TypeError(f"{value!r} is not plain data")
