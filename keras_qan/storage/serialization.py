"""Objects as JSON, and made again from it: data, never code."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

import keras

_Class = TypeVar("_Class", bound=type)
_classes: dict[str, type] = {}

#: Former names of classes, in files of earlier versions → present ones.
_FORMER_NAMES = {
    "Always": "ConstantAgent",
    "Constant": "ConstantStrength",
    "Leaning": "ThompsonDQN",
    "LearningRate": "CurrentLearningRate",
    "Linear": "LinearFade",
    "Random": "RandomAgent",
}


def configurable(cls: _Class) -> _Class:
    """Register a class whose constructor's arguments are attributes of the same names.

    The class gains `get_config` and `from_config`, and is known to `keras.saving` under the package
    `keras_qan`.

    Raises:
      ValueError: another class of that name is registered already.
    """
    other = _classes.get(cls.__name__, cls)
    # A notebook's cell that is run again defines the same class anew.
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"The class {cls.__module__}.{cls.__qualname__} cannot be registered: "
            f"{other.__module__} has a {cls.__name__} already. Give it another name, as a run's "
            "directory knows classes by their names."
        )
    _classes[cls.__name__] = cls
    if not hasattr(cls, "get_config"):
        cls.get_config = lambda self: {  # type: ignore[attr-defined]
            name: getattr(self, name) for name in _arguments(type(self))
        }
    return keras_serializable(cls)


def keras_serializable(cls: _Class) -> _Class:
    """Register a class that has a `get_config` with `keras.saving`, under the package `keras_qan`.

    The class gains `from_config`, which gives the constructor what `get_config` wrote.
    """
    if not hasattr(cls, "from_config"):
        cls.from_config = classmethod(_from_keras_config)  # type: ignore[attr-defined]
    keras.saving.register_keras_serializable(package="keras_qan")(cls)
    return cls


def _from_keras_config(cls: type, config: dict[str, Any]) -> Any:
    """Make an object for `keras.saving`, which wrote the objects within it."""
    return cls(**{name: keras.saving.deserialize_keras_object(v) for name, v in config.items()})


def _arguments(cls: type) -> list[str]:
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return []
    return list(inspect.signature(cls).parameters)


def is_configurable(value: object) -> bool:
    """Return whether `to_config` takes the value."""
    return type(value) is _classes.get(type(value).__name__)


def to_config(value: Any) -> Any:
    """Return a registered object, or plain data that may hold some, as plain JSON data.

    Raises:
      TypeError: the value is neither registered nor plain data.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [to_config(item) for item in value]
    if not is_configurable(value):
        raise TypeError(
            f"{value!r} cannot be written to a run's directory: its class is not registered. "
            "Decorate the class with keras_qan.storage.serialization.configurable, and give it "
            "attributes of the same names as its constructor's arguments."
        )
    arguments = {name: to_config(getattr(value, name)) for name in _arguments(type(value))}
    return {"class": type(value).__name__, **arguments}


def from_config(config: Any) -> Any:
    """Return the object that `to_config` wrote; only registered classes can come of it.

    Raises:
      ValueError: the configuration names an unknown class, or arguments that it does not take.
    """
    if isinstance(config, list):
        return tuple(from_config(item) for item in config)
    if not isinstance(config, dict):
        return config
    arguments = dict(config)
    name = arguments.pop("class", None)
    if isinstance(name, str) and name not in _classes:
        name = _FORMER_NAMES.get(name, name)
    if not isinstance(name, str) or name not in _classes:
        raise ValueError(
            f"A configuration names the class {name!r}; expected one of {sorted(_classes)}. "
            "If it is your own, import its module before loading."
        )
    try:
        return _classes[name](**{key: from_config(value) for key, value in arguments.items()})
    except TypeError as error:
        raise ValueError(
            f"The configuration of {name} does not fit its constructor: {error}. It was written by "
            "another version, or changed by hand."
        ) from error
