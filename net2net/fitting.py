"""Growth in the middle of a training: `fit_and_grow`.

A model cannot change under a running `fit`, so that this is several fits, one after another, that
share one history, one set of callbacks and one count of epochs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

_STATE, _WEIGHTS = "state.json", "model.weights.h5"
_COUNTS = ("best", "best_epoch", "cooldown_counter", "stopped_epoch", "wait")
"""What EarlyStopping, ReduceLROnPlateau and ModelCheckpoint remember of a training."""


@dataclass(frozen=True)
class Growth:
    """When a model grows during `fit_and_grow`, and how.

    Args:
        grow: Returns the grown model from the present one, for example
            `lambda model: net2net.widen(model, "hidden", 64)`.
        at_epoch: It grows before this epoch, counted from 0. Defaults to None.
        monitor: It grows once this value of the logs has not fallen for `patience` epochs.
            Defaults to None. One of both is needed.
        patience: Epochs without a fall. Defaults to 3.
        min_delta: What counts as a fall. Defaults to 0.

    Raises:
        ValueError: an argument is out of range.
    """

    grow: Callable[[Any], Any]
    at_epoch: int | None = None
    monitor: str | None = None
    patience: int = 3
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if (self.at_epoch is None) == (self.monitor is None):
            raise ValueError(
                f"Growth needs at_epoch or monitor, one of both; received "
                f"at_epoch={self.at_epoch!r}, monitor={self.monitor!r}."
            )
        if self.at_epoch is not None and self.at_epoch < 1:
            raise ValueError(
                f"Expected at_epoch to be 1 or more, received {self.at_epoch}. Grow the model "
                "yourself before the first epoch."
            )
        if self.patience < 1:
            raise ValueError(f"Expected patience to be 1 or more, received {self.patience}.")


@dataclass(frozen=True)
class GrownFit:
    """Result of `fit_and_grow`.

    Args:
        model: The model after the last growth; the given one if it never grew.
        history: The history of all epochs, as `fit` returns it.
        grown_at: The epoch before which each growth was, in their order; None for one that was
            not reached.
    """

    model: Any
    history: Any
    grown_at: tuple[int | None, ...]


def fit_and_grow(
    model: Any,
    *data: Any,
    growths: Sequence[Growth],
    epochs: int,
    callbacks: Any = None,
    backup_dir: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> GrownFit:
    """Train a model that grows on the way, as `fit` does.

    Optimizer slots, step count and rate go on by the rules of `widen` and `deepen`. Keras's own
    callbacks see one training; others see one that ends and begins anew at each growth. The best
    weights that an EarlyStopping keeps are those since the last growth.

    Args:
        model: A compiled model.
        data: What `fit` takes: x and y, or a dataset.
        growths: The growths, one after another: the next is waited for once the last is done.
        epochs: The last epoch, as in `fit`.
        callbacks: Callbacks, as in `fit`. Defaults to None.
        backup_dir: Directory that keeps the training after each epoch, from which the same call
            goes on after a kill; removed at the end. Use no `BackupAndRestore` beside it. Defaults
            to None.
        settings: All else that `fit` takes, but for `initial_epoch`.

    Returns:
        The model that is trained, with the history of all epochs.

    Raises:
        TypeError: If a growth returns no compiled model.
        ValueError: If the arguments do not fit together.

    Example:
        >>> import keras, numpy as np, net2net
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"),
        ...                           keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> x = np.ones((8, 3), "float32")
        >>> wider = net2net.Growth(lambda m: net2net.widen(m, "a", 8), at_epoch=2)
        >>> done = net2net.fit_and_grow(model, x, x[:, :1], growths=[wider], epochs=3, verbose=0)
        >>> done.model.get_layer("a").units, done.history.epoch, done.grown_at
        (8, [0, 1, 2], (2,))
    """
    callbacks = keras.tree.flatten([] if callbacks is None else callbacks)
    _require(model, callbacks, settings)
    history = _History()
    kept = _Kept([*callbacks, history])
    backup = None if backup_dir is None else _Backup(Path(backup_dir))
    grown_at: list[int] = []
    progress: tuple[float, int] | None = None
    if backup is not None:
        model, grown_at, progress = backup.restore(model, growths, history, kept)
    epoch = len(history.epoch)
    while epoch < epochs:
        waiting = growths[len(grown_at)] if len(grown_at) < len(growths) else None
        if waiting is not None and waiting.at_epoch is not None and waiting.at_epoch <= epoch:
            model = _grown(model, waiting)
            grown_at.append(epoch)
            kept.grown()
            continue
        until = epochs
        if waiting is not None and waiting.at_epoch is not None:
            until = min(epochs, waiting.at_epoch)
        watch = _Watch(waiting, progress, settings.get("validation_freq", 1) == 1)
        progress = None
        keeping = [] if backup is None else [backup.callback(kept, history, grown_at, watch)]
        if not watch.reached:
            model.fit(
                *data,
                initial_epoch=epoch,
                epochs=until,
                callbacks=[kept, watch, *keeping],
                **settings,
            )
        epoch = len(history.epoch)
        if watch.reached and epoch < epochs:
            model = _grown(model, growths[len(grown_at)])
            grown_at.append(epoch)
            kept.grown()
        elif model.stop_training:
            break
    kept.finish()
    if backup is not None:
        backup.remove()
    missed = [None] * (len(growths) - len(grown_at))
    return GrownFit(model, history, (*grown_at, *missed))


def _require(model: Any, callbacks: Sequence[Any], settings: dict[str, Any]) -> None:
    if not getattr(model, "compiled", False):
        raise ValueError(f"Model '{model.name}' is not compiled. Compile it before it is trained.")
    if "initial_epoch" in settings:
        raise ValueError("fit_and_grow counts the epochs itself. Leave initial_epoch out.")
    if any(isinstance(one, keras.callbacks.BackupAndRestore) for one in callbacks):
        raise ValueError(
            "BackupAndRestore would load a grown model's weights into the model that has not "
            "grown yet. Use backup_dir= instead."
        )


def _grown(model: Any, growth: Growth) -> Any:
    new = growth.grow(model)
    if not isinstance(new, keras.Model) or not new.compiled:
        raise TypeError(
            f"A growth returned {new!r} instead of a compiled model. Return what `net2net.widen`, "
            "`deepen` or `grow` gives."
        )
    return new


class _History(keras.callbacks.History):
    """The history of all fits together."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Keep what is there."""


class _Watch(keras.callbacks.Callback):
    """Ends a fit where its growth's value has not fallen for long enough."""

    def __init__(
        self, growth: Growth | None, progress: tuple[float, int] | None, validates_always: bool
    ) -> None:
        super().__init__()
        self.growth, self.validates_always = growth, validates_always
        self.best, self.since = progress or (np.inf, 0)
        watches = growth is not None and growth.monitor is not None
        self.reached = bool(watches and growth is not None and self.since >= growth.patience)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        growth = self.growth
        if growth is None or growth.monitor is None:
            return
        value = (logs or {}).get(growth.monitor)
        validated = any(name.startswith("val_") for name in logs or {})
        if value is None and not (
            growth.monitor.startswith("val_") and not validated and not self.validates_always
        ):
            raise ValueError(
                f"Growth watches '{growth.monitor}', which is not among the logs "
                f"({', '.join(logs or {})}). Name one of those."
            )
        if value is None:  # an epoch without validation says nothing
            return
        if float(value) < self.best - growth.min_delta:
            self.best, self.since = float(value), 0
            return
        self.since += 1
        if self.since >= growth.patience and not self.model.stop_training:
            self.reached = True
            self.model.stop_training = True


class _Kept(keras.callbacks.Callback):
    """Hands on to callbacks, to which several fits are one training."""

    def __init__(self, callbacks: list[Any]) -> None:
        super().__init__()
        self.callbacks = callbacks
        self.begun = False
        self.counts_before: list[tuple[str, dict[str, Any]]] = []
        self.logs: dict[str, Any] | None = None
        for name in dir(keras.callbacks.Callback):
            if name.startswith("on_") and name not in ("on_train_begin", "on_train_end"):
                setattr(self, name, self._handed_on(name))

    def _handed_on(self, name: str) -> Callable[..., None]:
        def hand_on(*values: Any, **named: Any) -> None:
            for one in self.callbacks:
                getattr(one, name)(*values, **named)

        return hand_on

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        for one in self.callbacks:
            one.set_params(params)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        for one in self.callbacks:
            one.set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        for one in self.callbacks:
            if not self.begun or not _is_of_keras(one):
                one.on_train_begin(logs)
        if not self.begun:
            self._set_counts()
        self.begun = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.logs = logs
        for one in self.callbacks:
            if not _is_of_keras(one):
                one.on_train_end(logs)

    def counts(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what Keras's callbacks remember, with the name of each one's class."""
        return [
            (
                type(one).__name__,
                {name: _plain(vars(one)[name]) for name in _COUNTS if name in vars(one)},
            )
            for one in self.callbacks
            if _is_of_keras(one)
        ]

    def _set_counts(self) -> None:
        """Let Keras's callbacks, of each class in their order, go on where they were."""
        left = list(self.counts_before)
        for one in self.callbacks:
            found = [entry for entry in left if entry[0] == type(one).__name__]
            if found and _is_of_keras(one):
                left.remove(found[0])
                for name, value in found[0][1].items():
                    setattr(one, name, value)

    def grown(self) -> None:
        """Forget weights of the model as it was."""
        for one in self.callbacks:
            if isinstance(one, keras.callbacks.EarlyStopping):
                one.best_weights = None

    def finish(self) -> None:
        """Tell Keras's callbacks that the training is over."""
        for one in self.callbacks:
            if self.begun and _is_of_keras(one):
                one.on_train_end(self.logs)


def _is_of_keras(callback: Any) -> bool:
    return type(callback).__module__.startswith("keras.")


class _Backup:
    """Keeps a training in a directory after each epoch."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def restore(
        self, model: Any, growths: Sequence[Growth], history: Any, kept: _Kept
    ) -> tuple[Any, list[int], tuple[float, int] | None]:
        """Return the model as it was kept, grown again, and how far its growths are.

        These are the epochs before which it grew; and, where the next growth watches a value, the
        best one and the number of epochs since.
        """
        path = self.directory / _STATE
        if not path.exists():
            return model, [], None
        state = json.loads(path.read_text(encoding="utf-8"))
        if len(state["grown_at"]) > len(growths):
            raise ValueError(
                f"{path} is of a training that grew {len(state['grown_at'])} times, and "
                f"{len(growths)} growths were given. Give the same, or another backup_dir."
            )
        for growth in growths[: len(state["grown_at"])]:
            model = _grown(model, growth)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        model.load_weights(self.directory / state["weights"])
        # No file of weights has the states of random layers.
        for seed, value in zip(_seeds_of(model), state.get("seeds", []), strict=False):
            seed.assign(np.array(value, dtype=str(seed.dtype)))
        kept.counts_before = [tuple(entry) for entry in state.get("callbacks", [])]
        history.epoch, history.history = state["epoch"], state["history"]
        progress = tuple(state["progress"]) if "progress" in state else None
        return model, list(state["grown_at"]), progress

    def callback(self, kept: _Kept, history: Any, grown_at: list[int], watch: _Watch) -> Any:
        """Return the callback that keeps the training at each epoch's end."""

        def keep(epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG001
            self.directory.mkdir(parents=True, exist_ok=True)
            weights = f"{epoch}.{_WEIGHTS}"
            keeper.model.save_weights(self.directory / weights)
            state = {
                "weights": weights,
                "epoch": list(history.epoch),
                "history": {
                    name: [_plain(value) for value in values]
                    for name, values in history.history.items()
                },
                "grown_at": grown_at,
                "progress": [float(watch.best), watch.since],
                "callbacks": kept.counts(),
                "seeds": [_array(one).tolist() for one in _seeds_of(keeper.model)],
            }
            new = self.directory / f"{_STATE}.new"
            new.write_text(json.dumps(state), encoding="utf-8")
            new.replace(self.directory / _STATE)  # until here the last epoch's holds
            for old in self.directory.glob(f"*.{_WEIGHTS}"):
                if old.name != weights:
                    old.unlink()

        keeper = keras.callbacks.LambdaCallback(on_epoch_end=keep)
        return keeper

    def remove(self) -> None:
        """Remove what was kept."""
        for path in [self.directory / _STATE, *self.directory.glob(f"*.{_WEIGHTS}")]:
            path.unlink(missing_ok=True)


def _seeds_of(model: Any) -> list[Any]:
    """Return the states of a model's random layers."""
    return [one.state for layer in model._flatten_layers() for one in layer._seed_generators]


def _array(value: Any) -> Any:
    return np.asarray(keras.ops.convert_to_numpy(value))


def _plain(value: Any) -> Any:
    """Return a value of the logs as JSON has it: a metric may be a vector, a callback's a text."""
    if value is None or isinstance(value, str):
        return value
    return value if isinstance(value, int) else _array(value).astype("float64").tolist()
