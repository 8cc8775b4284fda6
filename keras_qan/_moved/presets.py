"""Former name of `keras_qan.qan.presets`."""

from keras_qan._moved import lead_to

__getattr__ = lead_to(
    __name__,
    "keras_qan.qan.presets",
    "NAMES",
    "by_name",
    "default",
    "paper",
    "transfer",
    "with_selection",
)
