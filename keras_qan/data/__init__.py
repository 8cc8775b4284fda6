"""Examples to train on, from TensorFlow Datasets.

`load` gives the three splits of a data set as NumPy arrays, and `Examples.batches` makes a
`tf.data.Dataset` of one of them. Importing this package loads neither TensorFlow Datasets nor
scikit-learn; `load` does.
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
