"""Former name of `keras_qan.storage.serialization`."""

from keras_qan._moved import lead_to

__getattr__ = lead_to(
    __name__,
    "keras_qan.storage.serialization",
    "configurable",
    "from_config",
    "is_configurable",
    "to_config",
)
