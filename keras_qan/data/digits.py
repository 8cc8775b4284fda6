"""`digits`: 1,797 real handwritten digits that scikit-learn carries."""

import hashlib

import numpy as np
import numpy.typing as npt

from keras_qan.data.images import Images

#: (height, width, channels) of an image, and the number of classes.
SHAPE, NUM_CLASSES = (8, 8, 1), 10

# Of so many examples of a class, one is a test example.
_TEST_EVERY = 5


def read_digits(split: str) -> Images:
    """Return the 8×8 digits of the UCI Machine Learning Repository.

    Pixels are the counts of ink 0 to 16 of the original, stretched to 0 to 255 and rounded;
    `round(pixel * 16 / 255)` gives the count back. The split is fixed: within each class, in the
    order of the source, every fifth example (the 5th, 10th, ...) is in `test` and the others are in
    `train`, which makes it stratified and spreads it over writers.

    Args:
        split: "train" or "test".

    Example:
        >>> read_digits("test").pixels.shape
        (355, 8, 8, 1)
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    pixels = np.rint(source.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = source.target.astype(np.int64)
    members = np.flatnonzero(held_for_test(labels) == (split == "test"))
    # The order of TensorFlow Datasets, through which they were read once: runs of then repeat.
    order = sorted(
        members.tolist(), key=lambda index: hashlib.md5(f"{split}{index}".encode()).digest()
    )
    return Images(pixels[order], labels[order])


def held_for_test(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return a mask of the examples in `test`: every fifth of each class.

    Args:
        labels: class of each example in the order of the source, int64 [N].

    Returns:
        bool [N].

    Example:
        >>> held_for_test(np.zeros(11, np.int64)).nonzero()[0].tolist()
        [4, 9]
    """
    chosen = np.zeros(labels.size, np.bool_)
    for label in np.unique(labels):
        chosen[np.flatnonzero(labels == label)[_TEST_EVERY - 1 :: _TEST_EVERY]] = True
    return chosen
