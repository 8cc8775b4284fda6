"""Small networks by name, their initial weights a function of a seed.

`build("cnn", (28, 28, 1), 10, seed=3)` returns an uncompiled Keras model with logits for output;
`names()` lists the names. Importing this package does not load Keras.
"""

from keras_qan.models.build import UnknownModelError, build, names

__all__ = ["UnknownModelError", "build", "names"]
