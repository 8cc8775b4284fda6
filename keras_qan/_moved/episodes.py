"""Former name of `keras_qan.experiments.runner`."""

from keras_qan._moved import lead_to

__getattr__ = lead_to(
    __name__,
    "keras_qan.experiments.runner",
    "Evaluation",
    "FIRST_UNSEEN_SEED",
    "Stopped",
    "Task",
    "run_episodes",
    Report="RunReport",
)
