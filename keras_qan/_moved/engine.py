"""Former name of `keras_qan.parallel`."""

from keras_qan._moved import lead_to

__getattr__ = lead_to(
    __name__,
    "keras_qan.parallel",
    "Call",
    "TaskError",
    "WorkerDiedError",
    "set_threads",
    ENGINES="EXECUTORS",
    Engine="Executor",
    Local="LocalExecutor",
    engine_by_name="make_executor",
)
