"""Former name of `keras_qan.experiments.task`."""

from keras_qan._moved import lead_to

__getattr__ = lead_to(__name__, "keras_qan.experiments.task", "Task")
