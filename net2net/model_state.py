"""State of a model beside its graph: its class, attributes, own weights, and what `compile` set."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from inspect import getfullargspec
from types import FunctionType, MethodType
from typing import Any

import keras

from net2net.arguments import object_like
from net2net.errors import UnsupportedLayerError
from net2net.graph import plain_functional

# What Keras sets on a model that has been trained, evaluated or saved.
_SET_BY_KERAS = (
    "history",
    "stop_evaluating",
    "stop_predicting",
    "_eval_epoch_iterator",
    "_jax_state",
)


def new_of_class(old: Any, make: Callable[[Any], None]) -> Any:
    """Return a new model of an old one's class, without a call of its class's own constructor.

    The constructor may take anything, and what it has set is carried over by `carry_attributes`.

    Args:
        old: The old model.
        make: Calls the constructor of Keras's own class on the new model.
    """
    kind: Any = type(old)
    new = kind.__new__(kind)
    make(new)
    if not _takes_inputs_and_outputs(kind):

        def get_config() -> dict[str, Any]:
            raise NotImplementedError(
                f"Model '{new.name}' has grown, and the arguments of {kind.__name__}'s own "
                "constructor describe it no longer. Save its weights with `save_weights`, or the "
                "whole of it as `keras.Model(model.input, model.output).save(path)`."
            )

        new.__dict__["get_config"] = get_config
    return new


def carry_attributes(
    old: Any,
    new: Any,
    made: dict[int, Any],
    pairs: list[tuple[Any, Any]],
    copy_layer: Callable[[Any], Any],
) -> list[str]:
    """Set what a model's class or user has set on it on the new model too.

    Args:
        old: The old model.
        new: The new model.
        made: The new layer in the place of each old one, by identity; layers outside the graph
            are added.
        pairs: Old and new layers and variables beside the graph; what is made here is added.
        copy_layer: Returns a new layer, not built, with an old one's settings.

    Returns:
        The attributes that hold an optimizer, alone or among others, to be replaced by
        `replace_optimizers` once all variables are known.

    Raises:
        UnsupportedLayerError: If an attribute cannot be carried over.
    """
    known = _attributes_of_keras(old)
    optimizers: list[str] = []
    for name, value in list(vars(old).items()):
        if name in known or name.startswith(("_self_", "_tf_", "_obj_reference")):
            continue
        copier = _Copier(old, new, name, made, pairs, copy_layer)
        set_attribute(new, name, copier.copy(value))
        if copier.has_optimizers:
            optimizers.append(name)
    return optimizers


def replace_optimizers(value: Any, made: Callable[[Any], Any]) -> Any:
    """Return an attribute's value with other optimizers.

    Args:
        value: The value: an optimizer, or a dict, list or tuple with some in it.
        made: Returns the new optimizer in the place of an old one.
    """
    if isinstance(value, keras.optimizers.Optimizer):
        return made(value)
    if isinstance(value, dict):
        return {key: replace_optimizers(one, made) for key, one in value.items()}
    if isinstance(value, list):
        return [replace_optimizers(one, made) for one in value]
    if type(value) is tuple:
        return tuple(replace_optimizers(one, made) for one in value)
    return value


def metric_like(metric: Any) -> Any:
    """Return a new metric with an old one's settings; anything else is returned as it is."""
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    if type(metric) is keras.metrics.MeanMetricWrapper:
        function, settings = metric._fn, metric._fn_kwargs
        return type(metric)(function, name=metric.name, dtype=metric.dtype, **settings)
    try:
        return object_like(metric, metric.get_config())
    except (TypeError, ValueError, NotImplementedError) as error:
        warnings.warn(
            f"Metric '{metric.name}' of class {type(metric).__name__} cannot be made again from "
            f"its config ({error}), so both models share it. Do not train or evaluate them "
            "by turns within an epoch, or complete its `get_config`.",
            UserWarning,
            stacklevel=4,
        )
        return metric


class _Copier:
    """Copies one attribute's value: what belongs to the model anew, all else as it is."""

    def __init__(
        self,
        old: Any,
        new: Any,
        name: str,
        made: dict[int, Any],
        pairs: list[tuple[Any, Any]],
        copy_layer: Callable[[Any], Any],
    ) -> None:
        self.old, self.new, self.name = old, new, name
        self.made, self.pairs, self.copy_layer = made, pairs, copy_layer
        self.has_optimizers = False

    def copy(self, value: Any) -> Any:
        """Return the value that the new model has in the old one's place."""
        if id(value) in self.made:
            return self.made[id(value)]
        if isinstance(value, keras.Variable):
            return self._keep(value, self._variable(value))
        if isinstance(value, keras.random.SeedGenerator):
            new = type(value).from_config(value.get_config())
            self.pairs.append((value.state, new.state))
            return self._keep(value, new)
        if isinstance(value, keras.optimizers.Optimizer):
            self.has_optimizers = True
            return value
        if isinstance(value, keras.metrics.Metric):
            return self._keep(value, metric_like(value))
        if isinstance(value, keras.layers.Layer):
            return self._keep(value, self._layer(value))
        if isinstance(value, dict):
            return {key: self.copy(one) for key, one in value.items()}
        if type(value) is tuple:
            return tuple(self.copy(one) for one in value)
        if isinstance(value, list):
            return [self.copy(one) for one in value]
        if isinstance(value, keras.KerasTensor):
            return self._tensor(value)
        if isinstance(value, MethodType):
            owner = self._place_of(value.__self__)
            return value if owner is None else getattr(owner, value.__name__)
        if isinstance(value, partial):
            taken = [self.copy(one) for one in value.args]
            named = {key: self.copy(one) for key, one in value.keywords.items()}
            return partial(self.copy(value.func), *taken, **named)
        if any(self._place_of(one) is not None for one in _held_by(value)):
            warnings.warn(
                f"The attribute '{self.name}' of model '{self.old.name}' holds a "
                f"{type(value).__name__} that refers to the model before growth, or to a layer of "
                "it. Set the attribute again on the grown model.",
                UserWarning,
                stacklevel=7,
            )
        return value

    def _place_of(self, value: Any) -> Any:
        """Return what the grown model has in the place of itself, of a layer, of a method's own."""
        value = value.__self__ if isinstance(value, MethodType) else value
        return self.new if value is self.old else self.made.get(id(value))

    def _keep(self, old: Any, new: Any) -> Any:
        self.made[id(old)] = new
        return new

    def _tensor(self, value: Any) -> Any:
        """Return the new graph's tensor in the place of one that the model keeps."""
        operation, node, index = value._keras_history
        made = self.made.get(id(operation))
        if made is not None and len(made._inbound_nodes) == len(operation._inbound_nodes):
            return made._inbound_nodes[node].output_tensors[index]
        for place, one in enumerate(self.old.inputs):
            if one is value:
                return self.new.inputs[place]
        raise self._refusal("a tensor of its graph that cannot be found again")

    def _variable(self, old: Any) -> Any:
        new = self.new.add_weight(
            shape=tuple(old.shape),
            initializer="zeros",
            dtype=old.dtype,
            trainable=old.trainable,
            name=old.name,
        )
        self.pairs.append((old, new))
        return new

    def _layer(self, old: Any) -> Any:
        try:
            if isinstance(old, keras.Model):
                # A model over layers of this one, such as an encoder, is one over the new ones.
                new = keras.models.clone_model(old, clone_function=self._made_or_new)
            else:
                new = self.copy_layer(old)
                if old.built and not new.built:
                    new.build_from_config(old.get_build_config() or {})
        except (TypeError, ValueError, NotImplementedError) as error:
            raise self._refusal(f"{type(old).__name__} '{old.name}', which cannot be made again "
                                f"from its config ({error})") from error  # fmt: skip
        new.trainable = old.trainable
        self.pairs.append((old, new))
        return new

    def _made_or_new(self, old: Any) -> Any:
        return self.made.get(id(old)) or self.copy_layer(old)

    def _refusal(self, what: str) -> UnsupportedLayerError:
        return UnsupportedLayerError(
            self.old.name,
            f"its attribute '{self.name}' holds {what}",
            "Set the attribute after the model has grown.",
        )


def _held_by(value: Any) -> list[Any]:
    """Return what a function has from around it, or what an object of a user's class holds."""
    if isinstance(value, FunctionType):
        cells = [cell for cell in value.__closure__ or () if not _is_empty(cell)]
        return [cell.cell_contents for cell in cells]
    if type(value).__module__.startswith("keras.") or isinstance(value, keras.callbacks.Callback):
        return []  # a callback is told of its model by each `fit`
    return list(getattr(value, "__dict__", {}).values())


def _is_empty(cell: Any) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:
        return True


def _takes_inputs_and_outputs(kind: Any) -> bool:
    if issubclass(kind, keras.Sequential):
        return kind.__init__ is keras.Sequential.__init__
    taken = getfullargspec(kind.__init__)
    return taken.args[1:] == ["inputs", "outputs", "name"] or bool(taken.varargs and taken.varkw)


def _attributes_of_keras(model: Any) -> set[str]:
    """Return the names of the attributes that Keras itself sets on a model of this kind."""
    plain = keras.Sequential() if isinstance(model, keras.Sequential) else plain_functional()
    plain.compile("sgd")
    return {*vars(plain), *_SET_BY_KERAS, "get_config"}


def set_attribute(model: Any, name: str, value: Any) -> None:
    """Set an attribute of a model, also after Keras has closed it for layers and variables."""
    tracker: Any = getattr(model, "_tracker", None)
    locked = bool(tracker is not None and tracker.locked)
    if locked:
        tracker.unlock()
    try:
        setattr(model, name, value)
    finally:
        if locked:
            tracker.lock()
