"""Versions of Python and the backend of Keras that the package works with."""

from __future__ import annotations

import sys


def require_tensorflow() -> None:
    """Raise RuntimeError where Keras runs on another backend, or Python is too old or too new."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 11):
        raise RuntimeError(
            f"keras_qan needs Python 3.10 or 3.11, and this is {sys.version.split()[0]}: TF-Agents "
            "pins packages that other versions cannot install."
        )
    import keras

    name = keras.backend.backend()
    if name != "tensorflow":
        raise RuntimeError(
            f"keras_qan steers models on Keras's TensorFlow backend, and the backend is {name!r}. "
            "Set KERAS_BACKEND=tensorflow before Keras is imported; net2net works on any backend."
        )
