"""Keras's backend: which one runs, what needs TensorFlow, and functions compiled for either."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Pythons that the package is tested on.
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)


class Keras3Callback:
    """A mixin for callbacks that says so where Keras 2 is given one of them."""

    def _implements_train_batch_hooks(self) -> bool:
        # Keras 2 asks this before it shows its model; Keras 3 never does.
        raise TypeError(
            f"{type(self).__name__} got a model of Keras 2; expected one of Keras 3. If "
            "TF_USE_LEGACY_KERAS is set, tf.keras is Keras 2: build the model with `import keras` "
            "instead."
        )


def backend_name() -> str:
    """Return the name of Keras's backend: "tensorflow", "jax", "torch" or another."""
    import keras

    return str(keras.backend.backend())


def require_python() -> None:
    """Raise RuntimeError where Python is too old or too new."""
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        raise RuntimeError(
            f"keras_qan needs Python 3.10 to 3.13, and this is {sys.version.split()[0]}. Use for "
            "example `python3.12 -m venv .venv`."
        )


def require_backend() -> None:
    """Raise ImportError where Keras does not load because its backend is not installed."""
    try:
        importlib.import_module("keras")
    except ImportError as error:
        raise ImportError(
            f"Keras does not load: {error}. Install a backend: `pip install "
            "'keras-qan[tensorflow]'`, or JAX or PyTorch with KERAS_BACKEND=jax or torch set in "
            "the environment."
        ) from error


def require_tensorflow(feature: str) -> None:
    """Raise RuntimeError where a feature finds another backend, or no TensorFlow.

    Args:
      feature: what needs it, as the user knows it, for example "keras_qan.selection".
    """
    name = backend_name()
    if name != "tensorflow":
        raise RuntimeError(
            f"{feature} needs Keras on TensorFlow, and the backend is {name!r}. Set "
            "KERAS_BACKEND=tensorflow before Keras is imported; QANCallback, CurveStopping and "
            "net2net work on any backend."
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise RuntimeError(
            f"{feature} needs TensorFlow, which is not installed. Install it with "
            "`pip install 'keras-qan[tensorflow]'`."
        )


#: Compiled functions that are kept: a search compiles one for each set of shapes that it meets.
MOST_COMPILED = 256


@contextlib.contextmanager
def needs_extra(feature: str, extra: str) -> Iterator[None]:
    """Within the block, an import that fails names the extra that brings the package.

    Args:
      feature: what needs it, as the user knows it, for example "keras_qan.data.load".
      extra: a name of pyproject.toml's, for example "data".

    Raises:
      ImportError: a package is missing, or does not load.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{feature} needs {error.name or 'a package'}, which is not installed or does not load "
            f"({error}). Install it with `pip install 'keras-qan[{extra}]'`."
        ) from error


@functools.lru_cache(maxsize=MOST_COMPILED)
def _compiled(function: Callable[..., Any], name: str, shapes: Any) -> Callable[..., Any]:
    del shapes
    if name == "tensorflow":
        import tensorflow as tf

        # TensorFlow counts tracings by the code of a function, and warns of many. A `partial` has
        # no code, and is counted by itself.
        return tf.function(functools.partial(function), autograph=False)
    if name == "jax":
        import jax

        return jax.jit(function)
    return function


def compile_function(function: _Function) -> _Function:
    """Compile a function of tensors for Keras's backend at its first call.

    It is traced once for each shape in a process, whatever models come and go. On PyTorch it runs
    as it is.
    """

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        shapes = tuple(tuple(argument.shape) for argument in arguments)
        with without_gradients():
            return _compiled(function, backend_name(), shapes)(*arguments)

    return call  # type: ignore[return-value]


@contextlib.contextmanager
def without_gradients() -> Iterator[None]:
    """Record no gradients within the block; PyTorch alone records any outside of a tape."""
    if backend_name() != "torch":
        yield
        return
    import torch

    with torch.no_grad():
        yield
