"""Many tasks at once: in this process, in processes of this machine, or on Ray."""

from keras_qan.engine.calls import Call, TaskError, WorkerDiedError
from keras_qan.engine.choice import ENGINES, engine_by_name, set_threads
from keras_qan.engine.local import Local
from keras_qan.engine.protocol import Engine

__all__ = [
    "ENGINES",
    "Call",
    "Engine",
    "Local",
    "TaskError",
    "WorkerDiedError",
    "engine_by_name",
    "set_threads",
]
