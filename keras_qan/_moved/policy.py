"""Former name of `keras_qan.qan.policy`."""

from keras_qan._moved import lead_to

__getattr__ = lead_to(__name__, "keras_qan.qan.policy", "Policy", "shipped")
