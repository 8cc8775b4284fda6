"""Former name of `keras_qan.models.plain`."""

from keras_qan._moved import lead_to

__getattr__ = lead_to(__name__, "keras_qan.models.plain", "layer_names", "network")
