"""From a flag or TF_CONFIG to a `tf.distribute` strategy to open a scope with."""

from keras_qan.distribute.cluster import Cluster
from keras_qan.distribute.collectives import (
    WorkerGroup,
    current_worker_group,
    directory_here,
    worker_group_of,
)
from keras_qan.distribute.strategies import NAMES, from_name

__all__ = [
    "NAMES",
    "Cluster",
    "WorkerGroup",
    "current_worker_group",
    "directory_here",
    "from_name",
    "worker_group_of",
]
