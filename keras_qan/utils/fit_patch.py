"""Methods of a model that a callback replaces for the time of a `fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras


class _TrainFunction(NamedTuple):
    """A compiled training function with a patch in it.

    Args:
      before: the training function that it takes the place of.
      own: the function.
      key: what it was compiled for.
    """

    before: Any
    own: Any
    key: Any


class FitPatch:
    """Replaced methods of a model, and its training function compiled with them.

    They come off at `detach`, or where a `fit` was broken off before it, when Keras asks for the
    training function of the next `fit` or `train_on_batch`. The model's class, weights and
    configuration are left alone, and the compiled function is kept for the next `fit`. Patches of
    several callbacks may lie upon each other, and come off in any order.

    Args:
      model: a compiled model.

    Attributes:
      is_attached: whether a `fit` is going on with it.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.is_attached = False
        self._own: dict[str, Any] = {}
        self._kept: _TrainFunction | None = None
        self._on_detach: Callable[[], None] | None = None

    def attach(
        self,
        methods: dict[str, Callable[..., Any]],
        key: Any = None,
        on_detach: Callable[[], None] | None = None,
    ) -> None:
        """Replace methods, and the training function.

        Args:
          methods: the new ones by name, each a function of its own for this call.
          key: the kept function is used again where this is the same. Defaults to None.
          on_detach: called when they come off. Defaults to nothing.
        """
        model = self.model
        self.is_attached, self._on_detach = True, on_detach
        self._own = {name: vars(model).get(name) for name in methods}
        for name, method in methods.items():
            method.attachment = self  # type: ignore[attr-defined]
            setattr(model, name, method)
        before, kept = model.train_function, self._kept
        patches = _attached(model)
        vars(model).pop("make_train_function", None)
        if kept is None or kept.before is not before or kept.key is not key:
            model.make_train_function(force=True)
            model.train_function.attachment = self
            self._kept = _TrainFunction(before, model.train_function, key)
        else:
            model.train_function = kept.own
        _watch(model, [*patches, self])

    def detach(self) -> None:
        """Leave the model as it was; what lies below a patch of another callback waits for it."""
        if not self.is_attached:
            return
        self.is_attached = False
        model = self.model
        patches = [one for one in _attached(model) if one is not self]
        vars(model).pop("make_train_function", None)
        _watch(model, patches)
        for name in self._own:
            _unwrap(model, name)
        while _is_over(getattr(model.train_function, "attachment", None)):
            model.train_function = model.train_function.attachment._kept.before
        if self._on_detach is not None:
            self._on_detach()


def detach_leftovers(model: keras.Model) -> None:
    """Take off what a `fit` that was broken off has left on a model."""
    for patch in reversed(_attached(model)):
        patch.detach()


def _attached(model: keras.Model) -> list[FitPatch]:
    """Patches on a model, the innermost first."""
    return list(getattr(vars(model).get("make_train_function"), "patches", []))


def _watch(model: keras.Model, patches: list[FitPatch]) -> None:
    """Take patches off where Keras asks for a training function: another `fit` begins."""
    if not patches:
        return

    def make_train_function(force: bool = False) -> Any:
        detach_leftovers(model)
        return model.make_train_function(force)

    make_train_function.patches = patches  # type: ignore[attr-defined]
    model.make_train_function = make_train_function


def _unwrap(model: keras.Model, name: str) -> None:
    """Take off every outermost replacement of a method whose fit is over."""
    while _is_over(getattr(vars(model).get(name), "attachment", None)):
        before = vars(model)[name].attachment._own[name]
        if before is None:
            delattr(model, name)
        else:
            setattr(model, name, before)


def _is_over(attachment: FitPatch | None) -> bool:
    return attachment is not None and not attachment.is_attached


def loss_followed_by(
    model: keras.Model, then: Callable[[Any, Any, Any, Any, Any, bool], Any]
) -> Callable[..., Any]:
    """Return a `compute_loss` that goes on where the model's own ends.

    Args:
      model: a compiled model.
      then: called with the loss, x, y, y_pred, sample_weight and training; returns the loss.
    """
    original = model.compute_loss
    knows_training = model._compute_loss_has_training_arg

    def compute_loss(
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        if knows_training:
            loss = original(x, y, y_pred, sample_weight, training=training)
        else:
            loss = original(x, y, y_pred, sample_weight)
        return then(loss, x, y, y_pred, sample_weight, training)

    return compute_loss
