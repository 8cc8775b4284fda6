"""Many tasks at once: in this process, in processes of this machine, or on Ray."""

from keras_qan.parallel.call import Call, Executor, TaskError, WorkerDiedError
from keras_qan.parallel.factory import EXECUTORS, make_executor, set_threads
from keras_qan.parallel.local import LocalExecutor

__all__ = [
    "EXECUTORS",
    "Call",
    "Executor",
    "LocalExecutor",
    "TaskError",
    "WorkerDiedError",
    "make_executor",
    "set_threads",
]
