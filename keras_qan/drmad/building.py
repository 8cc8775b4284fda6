"""A tuner's arguments: the model and its devices, and checks of what cannot be tuned."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_qan.drmad.hyperparameters import Hyperparameter
from keras_qan.drmad.inner_loop import OPTIMIZERS, DivergedError, InnerLoop, Training
from keras_qan.utils.seeds import takes_seed

_log = logging.getLogger(__name__)

#: Methods and settings of optimizers that the differentiated training would leave out.
_STEPS = ("train_step", "test_step")
_LEFT_OUT = (
    "clipnorm", "clipvalue", "global_clipnorm", "weight_decay", "use_ema",
    "gradient_accumulation_steps", "loss_scale_factor",
)  # fmt: skip


def call_build_model(
    build_model: Callable[..., keras.Model], seed: int, strategy: Any, example: Any
) -> keras.Model:
    """Build a model under the strategy, with the seed where the function takes one.

    A Sequential without an Input is built by calling it on an example.

    Raises:
      ValueError: it is no function.
    """
    if not callable(build_model) or isinstance(build_model, keras.Model):
        raise ValueError(
            f"Received build_model={build_model!r}; expected a function that returns a model, as "
            "every outer step trains from the same start. Give `lambda: ...` or a function."
        )
    scope: Any = strategy.scope() if strategy else contextlib.nullcontext()
    with scope:
        model = build_model(seed) if takes_seed(build_model) else build_model()
        if isinstance(model, keras.Sequential) and not model.built:
            model(example)
        return model


def require_model(model: Any) -> keras.Model:
    """Return the model if it can be trained.

    Raises:
      ValueError: it is no Keras model, is not built, or has no trainable weights.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"build_model returned {type(model).__name__}; expected a keras.Model. Return the "
            "model, functional or sequential."
        )
    if not model.built or not model.trainable_variables:
        state = "no trainable weights" if model.built else "no weights yet"
        raise ValueError(
            f"build_model returned a model with {state}; expected one that is built. Begin a "
            "Sequential with keras.Input(shape), and leave a layer trainable."
        )
    return model


def require_kept(model: keras.Model, training: Training) -> None:
    """Check that nothing the model was compiled or built with would be left out in silence.

    The log says where an optimizer of another kind leaves the rate to the default.

    Raises:
      ValueError: the model has constraints, steps of its own, or an optimizer with settings that
        the differentiated training does not have; the message names them.
    """
    optimizer = getattr(model, "optimizer", None)
    found = [f"a {name} of its own" for name in _STEPS if _overrides(model, name)]
    if training.loss is None and _overrides(model, "compute_loss"):
        found.append("a compute_loss of its own")
    found += [
        f"the constraint {type(v.constraint).__name__} of {v.path}"
        for v in model.trainable_variables
        if getattr(v, "constraint", None) is not None
    ]
    settings = [(name, getattr(optimizer, name, None)) for name in _LEFT_OUT]
    found += [f"{name}={value}" for name, value in settings if value]
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        found.append("a LossScaleOptimizer")
    if getattr(optimizer, "nesterov", False) and getattr(optimizer, "momentum", 0.0):
        found.append("nesterov=True")
    if getattr(optimizer, "amsgrad", False) and training.optimizer == "adam":
        found.append("amsgrad=True")
    schedule = getattr(optimizer, "_learning_rate", None)
    if (
        isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule)
        and training.learning_rate is None
    ):
        found.append(f"the schedule {type(schedule).__name__} (or give Training(learning_rate=))")
    if found:
        raise ValueError(
            f"build_model returned a model with {', '.join(found)}; expected none of these, as the "
            "training that is differentiated is SGD with momentum, or plain Adam, at the gradient "
            "of the compiled loss, and would leave them out. Build and compile the model without; "
            "drmad.L2 tunes a decay of weights, drmad.LearningRate(schedule_points=) a schedule."
        )
    kind, rate = OPTIMIZERS[training.optimizer]
    other = optimizer is not None and not isinstance(optimizer, kind)
    if other and training.learning_rate is None:
        _log.info(
            "The model is compiled with %s; its inner training is %s, at the default rate of %g "
            "unless Training(learning_rate=...) or drmad.LearningRate gives another",
            type(optimizer).__name__,
            {"sgd": "SGD with momentum", "adam": "Adam"}[training.optimizer],
            rate,
        )


def _overrides(model: keras.Model, name: str) -> bool:
    """Return whether a model has a method of its own in the place of Keras's."""
    return name in vars(model) or getattr(type(model), name) is not getattr(keras.Model, name)


def current_strategy(strategy: Any) -> Any:
    """Return the strategy given, or the one in scope, or None."""
    if strategy is None and tf.distribute.has_strategy():
        return tf.distribute.get_strategy()
    return strategy


def devices(strategy: Any) -> tuple[str, ...]:
    """Devices that share a batch; one without a name where there is no strategy."""
    if strategy is None:
        return ("",)
    known = (tf.distribute.MirroredStrategy, tf.distribute.OneDeviceStrategy)
    if not isinstance(strategy, known):
        raise ValueError(
            f"Received strategy={type(strategy).__name__}; expected a MirroredStrategy, or none. "
            "The reverse pass shares each batch among the devices of one machine alone."
        )
    return tuple(strategy.extended.worker_devices)


def check_hyperparameters(hyperparameters: Sequence[Hyperparameter]) -> list[Hyperparameter]:
    """Return the hyperparameters as a list.

    Raises:
      ValueError: there are none, one is not a hyperparameter, or one comes twice.
    """
    if isinstance(hyperparameters, Hyperparameter):
        hyperparameters = [hyperparameters]
    given: Any = hyperparameters
    found = list(given) if isinstance(given, Iterable) else [given]
    strangers = [h for h in found if not isinstance(h, Hyperparameter)]
    if not found or strangers:
        raise ValueError(
            f"Received hyperparameters={strangers or found!r}; expected at least one of L2, L1, "
            "LearningRate, Momentum, LabelSmoothing, LossWeights, InitialScale. Give for example "
            "hyperparameters=[drmad.L2(per='unit')]."
        )
    for kind in {type(h) for h in found if h.once}:
        if sum(type(h) is kind for h in found) > 1:
            raise ValueError(
                f"Received {kind.__name__} more than once; expected it once. Leave one out."
            )
    return found


def require_replayable(inner: InnerLoop, unconstrained: list[np.ndarray]) -> None:
    """Raise ValueError if the same step twice differs, as with a random layer without a seed."""
    values = inner.values(unconstrained)
    try:
        ends = [inner.advance(values, inner.start(values), 1) for _ in range(2)]
    except DivergedError:
        return
    same = all(
        np.allclose(a, b, rtol=1e-4, atol=1e-6)
        for a, b in zip(ends[0].weights, ends[1].weights, strict=True)
    )
    if not same:
        raise ValueError(
            "The model gave two different gradients for the same weights and batch; expected the "
            "same, as the reverse pass replays the training. Draw random numbers from a "
            "keras.random.SeedGenerator of the layer's own, as keras.layers.Dropout does."
        )


def require_dependence(names: Sequence[str], gradients: Sequence[np.ndarray]) -> None:
    """Raise ValueError for hyperparameters whose hypergradient is exactly zero."""
    still = [name for name, gradient in zip(names, gradients, strict=True) if not gradient.any()]
    if still:
        raise ValueError(
            f"The validation loss does not depend on {', '.join(still)}: the hypergradient is "
            "exactly zero; expected every hyperparameter to matter. Leave it out, or see whether "
            "the weights that it acts on are used and trained."
        )
