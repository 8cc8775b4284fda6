"""Reading of data sets by TensorFlow Datasets, which only this module imports."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_qan.data.errors import DatasetDamagedError
from keras_qan.data.images import Images
from keras_qan.utils.backend import needs_extra

with needs_extra("keras_qan.data.load", "data"):
    import tensorflow as tf
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils import tqdm_utils

#: Suggested first when a name is misspelt: the data sets that the project is tested with.
FAMILIAR = ("digits", "mnist", "cifar10")

_READ_CONFIG = tfds.ReadConfig(
    try_autocache=False,  # read once, into an array
    override_buffer_size=256 * 1024,  # TensorFlow's own; another one makes it log a line
)

__all__ = [
    "FAMILIAR",
    "image_shape_and_classes",
    "prepared_folder",
    "quiet",
    "read_images",
    "tfds",
]


def prepared_folder(data_dir: str | os.PathLike[str] | None) -> str:
    """Return the folder of prepared data sets: data_dir, TFDS_DATA_DIR or TFDS's default.

    The variable is read at each call; TFDS itself reads it only when it is imported.
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return os.path.expanduser(os.fspath(chosen))


def image_shape_and_classes(builder: Any) -> tuple[tuple[int, int, int], int]:
    """Return the shape (height, width, channels) of a builder's images, and its classes.

    Raises:
        ValueError: if it is not an image classification set with images of one size.
    """
    keys = builder.info.supervised_keys
    features = builder.info.features
    image = features[keys[0]] if keys and len(keys) == 2 else None
    label = features[keys[1]] if keys and len(keys) == 2 else None
    suits = (
        isinstance(image, tfds.features.Image)
        and isinstance(label, tfds.features.ClassLabel)
        and image.np_dtype == np.uint8
        and len(image.shape) == 3
        and None not in image.shape
    )
    if not suits:
        raise ValueError(
            f"Received the data set {builder.name!r} with the features {features}; expected "
            "8-bit images of one size, each with one class. Choose an image classification set "
            f"such as {', '.join(FAMILIAR)}, or pass your own arrays to `Examples`."
        )
    assert image is not None
    assert label is not None
    height, width, channels = image.shape
    return (int(height), int(width), int(channels)), int(label.num_classes)


def read_images(builder: Any, split: str) -> Images:
    """Read one split into memory, in the order of the disk.

    Args:
        builder: from `builders.prepared_builder`.
        split: "train" or "test".

    Raises:
        ValueError: if there is no such split, or it has no classes.
        DatasetDamagedError: if the files do not hold what the data set says.
    """
    available = sorted(builder.info.splits)
    if split not in available:
        raise ValueError(
            f"Received the data set {builder.name!r}, which has the splits {available}; expected "
            '"train" and "test". Choose another data set, or pass your own arrays to `Examples`.'
        )
    shape, num_classes = image_shape_and_classes(builder)
    expected = builder.info.splits[split].num_examples
    pixels = np.empty((expected, *shape), np.uint8)
    labels = np.empty(expected, np.int64)
    found = 0
    try:
        with quiet():
            blocks = builder.as_dataset(
                split=split,
                batch_size=1000,
                shuffle_files=False,
                as_supervised=True,
                read_config=_READ_CONFIG,
            )
            for block_pixels, block_labels in blocks.as_numpy_iterator():
                end = found + len(block_labels)
                pixels[found:end], labels[found:end] = block_pixels, block_labels
                found = end
    except (tf.errors.OpError, OSError, ValueError) as error:
        raise DatasetDamagedError(_damaged(builder, split, str(error)[:200])) from error
    if found != expected:
        raise DatasetDamagedError(_damaged(builder, split, f"{found} of {expected} examples"))
    if expected and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"Received the split {split!r} of {builder.name!r} with labels from {labels.min()} to "
            f"{labels.max()}; expected 0 to {num_classes - 1}. Choose a data set whose examples "
            "all have a class."
        )
    return Images(pixels, labels)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence TFDS's progress bars and log lines within a `with` block."""
    logger = logging.getLogger("absl")
    level = logger.level
    # TFDS can switch its bars, but has no public way to read the switch.
    bars = bool(getattr(tqdm_utils, "_active", True))
    logger.setLevel(logging.ERROR)
    tfds.display_progress_bar(False)
    try:
        yield
    finally:
        logger.setLevel(level)
        tfds.display_progress_bar(bars)


def _damaged(builder: Any, split: str, found: str) -> str:
    return (
        f"Received the split {split!r} of {builder.name!r} from {builder.data_path} with {found}; "
        "expected the complete files. Delete that folder and prepare the data set again."
    )
