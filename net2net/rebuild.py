"""Build the grown model beside the old one: same kind, same names, new sizes."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import keras

from net2net.arguments import complete_config, settings_that_differ
from net2net.composites import composite_like
from net2net.errors import UnsupportedLayerError, summary
from net2net.graph import Graph, input_layer_of, is_model
from net2net.model_state import carry_attributes, new_of_class
from net2net.propagate import WideningPlan
from net2net.rules.base import Rule
from net2net.rules.registry import rule_for

_SAVED_MODEL_LAYER = getattr(keras.layers, "TFSMLayer", None)


@dataclass
class RebuiltModel:
    """A new model, whose values are not set yet.

    Args:
        model: The new model.
        layers: Pairs of an old layer and the new one in its place, without nested models; those
            that are attributes of a model beside its graph are there too.
        variables: Pairs of an old variable and the new one, of models' own weights.
        optimizers: Models with the attributes that hold optimizers beside `compile`'s: the new
            model, the attribute's name. The old optimizers are still there.
    """

    model: Any
    layers: list[tuple[Any, Any]]
    variables: list[tuple[Any, Any]]
    optimizers: list[tuple[Any, str]]


def rebuild(
    model: Any, plan: WideningPlan, insertions: Mapping[int, Sequence[Any]] | None = None
) -> RebuiltModel:
    """Return a new model of the planned sizes.

    Args:
        model: The old model.
        plan: The maps it grows by.
        insertions: Layers to put after others, by the old layer's identity. Defaults to none.

    Raises:
        UnsupportedLayerError: If a layer or a model cannot be made again.
    """
    _refuse_shared_parts(plan.graph)
    builder = _Builder(plan, insertions or {})
    with preserve_global_seed():
        new = builder.build_model(model)
        builder.made[id(model)] = new
        beside: list[tuple[Any, Any]] = []
        optimizers: list[tuple[Any, str]] = []
        for old, made in builder.models:
            found = carry_attributes(old, made, builder.made, beside, copy_of_layer)
            optimizers += [(made, name) for name in found]
    # A frozen model freezes all in it, so the outer ones come first.
    for old, made in [*builder.models, *builder.layers]:
        if old.trainable != made.trainable:
            made.trainable = old.trainable
        if not is_model(old):
            carry_settings_inside(old, made)
    variables = [pair for pair in beside if isinstance(pair[0], keras.Variable)]
    layers = [pair for pair in beside if not isinstance(pair[0], keras.Variable)]
    return RebuiltModel(new, [*builder.layers, *layers], variables, optimizers)


def _refuse_shared_parts(graph: Graph) -> None:
    """Refuse a layer inside two others, which would become two layers.

    Raises:
        UnsupportedLayerError: If there is one that has weights.
    """
    wholes = sorted((one for one, _ in graph.composites.values()), key=lambda one: len(one.path))
    units = {id(one.layer): one.layer for one in wholes if not graph.composite_around(one.layer)}
    outer = [one for one in wholes if id(one.layer) in units]
    for call in graph.calls:
        if not any(call.path.startswith(f"{one.path}/") for one in outer):
            units[id(call.layer)] = call.layer
    owners: dict[int, Any] = {}
    for layer in units.values():
        if not isinstance(layer, keras.layers.Layer):
            continue
        for part in layer._flatten_layers():
            owner = owners.setdefault(id(part), layer)
            if owner is not layer and part.weights:
                raise UnsupportedLayerError(
                    layer.name,
                    f"its layer '{part.name}' is that of '{owner.name}' too, and made again from "
                    "their configs, each would have its own",
                    "Let one layer be called twice instead, such as "
                    "`keras.layers.ReversibleEmbedding`.",
                )


@contextmanager
def preserve_global_seed() -> Iterator[None]:
    """Restore Python's global generator, from which Keras seeds new layers."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@dataclass
class _Builder:
    plan: WideningPlan
    insertions: Mapping[int, Sequence[Any]]
    made: dict[int, Any] = field(default_factory=dict)
    origin: dict[int, Any] = field(default_factory=dict)
    models: list[tuple[Any, Any]] = field(default_factory=list)
    layers: list[tuple[Any, Any]] = field(default_factory=list)

    def build_model(self, old: Any) -> Any:
        place = len(self.models)
        shapes = [self.plan.shape(tensor) for tensor in self.plan.graph.entries[id(old)]]
        if isinstance(old, keras.Sequential):
            new = self._sequential(old, shapes[0])
        else:
            new = self._functional(old, shapes)
        if new.dtype_policy != old.dtype_policy:  # it decides on a loss scale at `compile`
            new.dtype_policy = old.dtype_policy
        self.models.insert(place, (old, new))
        return new

    def build_layer(self, old: Any) -> Any:
        """Return the new layer in an old one's place, made at most once."""
        if id(old) not in self.made:
            new = self.build_model(old) if is_model(old) else self._build_layer(old)
            self.made[id(old)] = new
            self.origin[id(new)] = old
            if isinstance(old, keras.layers.Layer) and not is_model(old):
                self.layers.append((old, new))
        return self.made[id(old)]

    def _sequential(self, old: Any, shape: tuple[int | None, ...]) -> Any:
        first = old._layers[0]
        layers = [_input_like(first, shape)]
        for one in old.layers:
            new = self.build_layer(one)
            layers += [new, *self._insertions_after(new)]
        if type(old) is keras.Sequential:
            try:
                return keras.Sequential(layers, name=old.name)
            except Exception as error:  # a layer's own code may raise anything
                raise _uncallable(old.name, error) from error
        return new_of_class(old, lambda new: keras.Sequential.__init__(new, layers, name=old.name))

    def _functional(self, old: Any, shapes: list[tuple[int | None, ...]]) -> Any:
        flat = [
            _input_like(input_layer_of(tensor), shape).output
            for tensor, shape in zip(old.inputs, shapes, strict=True)
        ]
        inputs = keras.tree.pack_sequence_as(old._inputs_struct, flat)
        # The clone is of an uncompiled view: cloning a compiled model would compile it by names.
        view = keras.Model(old._inputs_struct, old._outputs_struct, name=old.name)
        new = keras.models.clone_model(
            view, input_tensors=inputs, clone_function=self.build_layer, call_function=self._call
        )
        if type(old) is type(view):
            return new
        inputs, outputs = new._inputs_struct, new._outputs_struct
        return new_of_class(
            old, lambda one: type(new).__init__(one, inputs, outputs, name=old.name)
        )

    def _call(self, new: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(self._variable_like, (args, kwargs))
        try:
            outputs = new(*args, **kwargs)
        except UnsupportedLayerError:
            raise
        except Exception as error:  # a layer's own code may raise anything
            raise _uncallable(self.origin[id(new)].name, error) from error
        for one in self._insertions_after(new):
            outputs = one(outputs)
        return outputs

    def _variable_like(self, value: Any) -> Any:
        """Return the new layer's variable for an old one's that a call takes as an argument."""
        if not isinstance(value, keras.Variable):
            return value
        for old in self.plan.graph.layers_with(value):
            new = self.build_layer(old)
            place = next(k for k, one in enumerate(old.variables) if one is value)
            if not new.built:
                raise UnsupportedLayerError(
                    old.name,
                    f"its '{value.name}' is an argument of a call that stands before it",
                    "Use it after the layer is called.",
                )
            return new.variables[place]
        return value

    def _insertions_after(self, new: Any) -> Sequence[Any]:
        return self.insertions.get(id(self.origin[id(new)]), ())

    def _build_layer(self, old: Any) -> Any:
        if id(old) in self.plan.graph.composites:
            return self._build_composite(old)
        calls = self.plan.graph.calls_of(old)
        rule = rule_for(old) or Rule()
        grown = self.plan.grown_layer(old)
        path = calls[0].path if calls else old.name
        return copy_of_layer(old, path, rule, lambda config: rule.configure(config, grown))

    def _build_composite(self, old: Any) -> Any:
        one, entering = self.plan.graph.composites[id(old)]
        weights = {id(each.variable): each for each in self.plan.weights(old)}
        sizes: dict[int, set[int]] = {}
        shapes = []
        for variable in old.variables:
            shape = list(variable.shape)
            known = weights.get(id(variable))
            for axis, mapped in (known.axes if known else {}).items():
                sizes.setdefault(mapped.map.old_size, set()).add(mapped.map.new_size)
                shape[axis] = mapped.map.new_size
            shapes.append(tuple(shape))
        for part in one.parts:
            for mapping in self.plan.grown_layer(part).maps.values():
                sizes.setdefault(mapping.old_size, set()).add(mapping.new_size)
        if not sizes:
            return copy_of_layer(old, one.path)
        inputs = [self.plan.shape(tensor) for tensor in entering]

        def make(changes: dict[str, Any]) -> Any:
            return copy_of_layer(old, one.path, None, lambda config: {**config, **changes})

        return composite_like(one, inputs, shapes, sizes, make)


def copy_of_layer(
    old: Any,
    path: str | None = None,
    rule: Rule | None = None,
    configure: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Any:
    """Return a new layer or operation with an old one's settings, not built.

    Args:
        old: The layer.
        path: Its path. Defaults to None, its name.
        rule: Its rule. Defaults to None: it has none.
        configure: Returns the new config from the old one. Defaults to None: the old one.

    Raises:
        UnsupportedLayerError: If it cannot be made again from its config.
    """
    path = path or old.name
    configure = configure or (lambda config: config)
    config = {key: _without_build_config(value) for key, value in _config_of(old, path).items()}
    if not isinstance(old, keras.layers.Layer):  # an operation of `keras.ops`
        return type(old).from_config(configure(config))
    objects = {key: getattr(old, key) for key in config if _is_object(config[key], old, key)}
    initializers = {key: one for key, one in objects.items() if key.endswith("_initializer")}
    # Values are set later, so nothing is drawn now: that costs time and global randomness.
    # Those of a recurrent layer are its cell's, which a function that draws can be handed to.
    of_cell = {
        key: getattr(old.cell, key)
        for key in config
        if key.endswith("_initializer") and isinstance(getattr(old, key, None), FunctionType)
        if key not in initializers and hasattr(getattr(old, "cell", None), key)
    }
    config = config | objects | dict.fromkeys([*initializers, *of_cell], "zeros")

    def make(settings: dict[str, Any]) -> Any:
        return (rule or Rule()).rebuild(old, dict(settings))

    try:
        if type(old) is keras.layers.Lambda:
            new = _lambda_like(old)
        elif type(old) is _SAVED_MODEL_LAYER:
            new = type(old).from_config(config, safe_mode=False)  # its file has been run already
        else:
            config, left = complete_config(old, config, make)
            new = make(configure(config))
            for key, value in left.items():
                setattr(new, key, value)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise _unmakeable(path, error) from error
    new.name = old.name  # a config that Keras writes down by itself leaves it out
    carry_vocabulary(old, new)
    for key, one in initializers.items():
        setattr(new, key, one)
    for key, one in of_cell.items():
        setattr(new.cell, key, one)
    return new


def carry_settings_inside(old: Any, new: Any) -> None:
    """Set what can be set on a layer, and on each one in it, without its config telling so."""
    for before, after in zip(old._flatten_layers(), new._flatten_layers(), strict=False):
        if before.trainable != after.trainable:
            after.trainable = before.trainable
        if getattr(before, "_remat_mode", None) is not None:
            after._remat_mode = before._remat_mode  # `keras.RematScope`: less memory, more time
        for name in settings_that_differ(before, after):
            setattr(after, name, getattr(before, name))


def carry_settings_of_variable(old: Any, new: Any) -> None:
    """Set what can be set on a variable by itself, without its layer knowing."""
    for name in ("trainable", "regularizer", "constraint"):
        if getattr(new, name, None) != getattr(old, name, None):
            setattr(new, name, getattr(old, name))


def carry_vocabulary(old: Any, new: Any) -> None:
    """Set what a layer keeps in files of its own, such as an adapted vocabulary."""
    for before, after in zip(old._flatten_layers(), new._flatten_layers(), strict=False):
        if not hasattr(before, "save_assets"):
            continue
        _carry_own_variables(before, after)
        with tempfile.TemporaryDirectory() as folder:
            before.save_assets(folder)
            if os.listdir(folder):
                after.load_assets(folder)


def carry_derived_state(old: Any, new: Any) -> None:
    """Set what a layer without a rule computes from its variables, as loading a file does."""
    for before, after in zip(old._flatten_layers(), new._flatten_layers(), strict=False):
        own = type(before).load_own_variables is not keras.layers.Layer.load_own_variables
        if own and rule_for(before) is None and not hasattr(before, "save_assets"):
            _carry_own_variables(before, after)
        if isinstance(before, keras.layers.Normalization):
            # What it computes with, which values set by `set_weights` have not reached.
            for name in ("mean", "variance"):
                if hasattr(before, name):
                    setattr(after, name, getattr(before, name))


def _carry_own_variables(old: Any, new: Any) -> None:
    store: dict[str, Any] = {}
    old.save_own_variables(store)
    new.load_own_variables(store)


def _config_of(layer: Any, path: str) -> dict[str, Any]:
    try:
        return dict(layer.get_config())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise _unmakeable(path, error) from error


def _unmakeable(path: str, error: Exception) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        path,
        f"it cannot be made again from its config ({summary(error)})",
        "Complete its `get_config`, and register its class with "
        "`keras.saving.register_keras_serializable`.",
    )


def _lambda_like(old: Any) -> Any:
    # Its config holds byte code, which Keras will not run; the function itself is known.
    return keras.layers.Lambda(
        old.function,
        output_shape=old._output_shape,
        mask=old.mask,
        arguments=old.arguments,
        dtype=old.dtype_policy,
        name=old.name,
    )


def _uncallable(name: str, error: Exception) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        name,
        f"made again from its config, it cannot be called ({summary(error)})",
        "Let its config tell all, and its `build` make all that its `call` needs.",
    )


def _without_build_config(value: Any) -> Any:
    """Return a config entry without the shape for which a wrapped layer is built at once."""
    if isinstance(value, dict) and "build_config" in value:
        return {key: one for key, one in value.items() if key != "build_config"}
    return value


def _is_object(value: Any, layer: Any, key: str) -> bool:
    """Return whether a config entry serialises an attribute that can be passed itself."""
    if not hasattr(layer, key):
        return False
    live = getattr(layer, key)
    if key.endswith("_initializer"):
        # A recurrent layer shows its cell's initialisers as properties, which cannot be set back.
        settable = not isinstance(getattr(type(layer), key, None), property)
        return settable and callable(live)  # a function has no config that Keras could read
    if key.endswith(("activation", "_regularizer", "_constraint")):
        return callable(live) and value is not None
    return False


def _input_like(old: Any, shape: tuple[int | None, ...]) -> Any:
    # Inside a nested model the batch size may be known where around it, it is not.
    size = (old.batch_shape[0], *shape[1:])
    return keras.layers.InputLayer(**{**old.get_config(), "batch_shape": size})
