"""Former name of `keras_qan.storage.checkpoint`."""

from keras_qan._moved import lead_to

__getattr__ = lead_to(
    __name__,
    "keras_qan.storage.checkpoint",
    "CheckpointError",
    "read",
    "read_newest",
    "series",
    "write",
    "write_next",
)
