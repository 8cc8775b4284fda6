"""`tf.distribute` strategies by name, and collective operations of several workers."""

from keras_qan.distribute.cluster import Cluster
from keras_qan.distribute.collectives import (
    WorkerGroup,
    WorkerLostError,
    current_worker_group,
    lost_worker_is_said,
    worker_directory,
    worker_group_of,
)
from keras_qan.distribute.strategies import NAMES, from_name

__all__ = [
    "NAMES",
    "Cluster",
    "WorkerGroup",
    "WorkerLostError",
    "current_worker_group",
    "from_name",
    "lost_worker_is_said",
    "worker_directory",
    "worker_group_of",
]
