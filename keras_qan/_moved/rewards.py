"""Former name of `keras_qan.qan.rewards`."""

from keras_qan._moved import lead_to

__getattr__ = lead_to(__name__, "keras_qan.qan.rewards", "Equation9", "LogLossDrop", "Reward")
