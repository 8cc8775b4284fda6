"""Former name of `keras_qan.experiments.baselines`."""

from keras_qan._moved import lead_to

__getattr__ = lead_to(
    __name__, "keras_qan.experiments.baselines", "NAMES", "check_names", scripted="make_baseline"
)
