"""Examples to train on: the only room that knows TensorFlow Datasets.

`load` gives the three splits of a data set as NumPy arrays, and `Examples.batches` walks one of
them as a `tf.data.Dataset`. Importing this room loads neither TensorFlow Datasets nor
scikit-learn; `load` does, through the one module `door`.
"""

from keras_qan.data.errors import (
    DatasetDamagedError,
    DatasetNotPreparedError,
    TooFewExamplesError,
    UnknownDatasetError,
)
from keras_qan.data.examples import Examples
from keras_qan.data.splits import Splits, load

__all__ = [
    "DatasetDamagedError",
    "DatasetNotPreparedError",
    "Examples",
    "Splits",
    "TooFewExamplesError",
    "UnknownDatasetError",
    "load",
]
