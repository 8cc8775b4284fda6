"""A data set in training, validation and test examples."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike

import numpy as np
import numpy.typing as npt

from keras_qan.data.errors import TooFewExamplesError
from keras_qan.data.examples import Examples
from keras_qan.data.images import Images
from keras_qan.data.stratify import stratified_order
from keras_qan.utils.validation import check, check_integer, check_number

# A sixth of MNIST's training split is held out: 50,000 images stay, the usual number.
_VALIDATION_FRACTION = 1 / 6

# Images that are converted to float64 at a time for their statistics.
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data set.

    Args:
        train: for gradients.
        validation: for rewards and choices; held out of the training split.
        test: to be reported once, at the very end.
        name: name of the data set.
        num_classes: number of classes.
        input_shape: (height, width, channels) of one input.
    """

    train: Examples
    validation: Examples
    test: Examples
    name: str
    num_classes: int
    input_shape: tuple[int, ...]


def load(
    name: str,
    *,
    train_fraction: float = 1.0,
    validation_fraction: float = _VALIDATION_FRACTION,
    seed: int = 0,
    data_dir: str | PathLike[str] | None = None,
) -> Splits:
    """Load a data set in three parts, never from a network.

    Validation examples are drawn from the training split first, stratified by class; then a
    stratified `train_fraction` of the remainder is kept. For one seed a smaller fraction is a
    subset of a larger one, and validation and test are the same for all of them. Pixels are
    scaled to [0, 1] and standardised with the mean and standard deviation of each channel over
    the training examples before `train_fraction`, so that an image does not depend on it.

    Args:
        name: `digits` (needs nothing), `mnist`, `cifar10`, or another image classification set of
            TensorFlow Datasets that is prepared on this disk.
        train_fraction: share of the training examples to keep, in (0, 1]. Defaults to 1.
        validation_fraction: share of the training split to hold out, in (0, 1). Defaults to 1/6.
        seed: seed of the choice of validation and training examples, at least 0. Defaults to 0.
        data_dir: folder of prepared data sets. Defaults to the environment variable
            TFDS_DATA_DIR, or else `~/tensorflow_datasets`.

    Returns:
        The splits; inputs float32 [N, height, width, channels], classes int64 [N].

    Raises:
        UnknownDatasetError: if there is no such data set; near names are suggested.
        DatasetNotPreparedError: if it is known but not on this disk.
        DatasetDamagedError: if its files are cut short.
        TooFewExamplesError: if the fractions leave a class without an example.
        ValueError: if a fraction or the seed is out of range, or if it holds other than images.

    Example:
        >>> splits = load("digits", train_fraction=0.5)
        >>> len(splits.train), len(splits.validation), len(splits.test)
        (601, 240, 355)
    """
    hint = "Pass for example 0.5."
    check_number("train_fraction", train_fraction, above=0, maximum=1, hint=hint)
    check_number("validation_fraction", validation_fraction, above=0, below=1, hint=hint)
    is_name = isinstance(name, str) and bool(name)
    check(is_name, "name", name, "the name of a data set", "Try 'digits' or 'mnist'.")
    check_integer("seed", seed, 0)

    input_shape, num_classes, read = _open(name, data_dir)
    images = read("train")
    everyone = np.arange(images.labels.size)
    held_out, rest = _divide(everyone, images.labels, validation_fraction, seed, stream=0)
    kept, _ = _divide(rest, images.labels, train_fraction, seed, stream=1)
    _require_every_class("train", images.labels, kept, f"train_fraction={train_fraction}")
    _require_every_class(
        "validation", images.labels, held_out, f"validation_fraction={validation_fraction}"
    )
    mean, deviation = _channel_statistics(images.pixels, rest)
    train = _standardised(images, kept, mean, deviation)
    validation = _standardised(images, held_out, mean, deviation)
    images = read("test")
    test = _standardised(images, np.arange(len(images.labels)), mean, deviation)
    return Splits(train, validation, test, name, num_classes, input_shape)


def _open(
    name: str, data_dir: str | PathLike[str] | None
) -> tuple[tuple[int, ...], int, Callable[[str], Images]]:
    """Return the shape of the inputs, the number of classes, and a reader of a split."""
    if name == "digits":
        from keras_qan.data import digits

        return digits.SHAPE, digits.NUM_CLASSES, digits.read_digits
    from keras_qan.data import tfds
    from keras_qan.data.builders import prepared_builder

    builder = prepared_builder(name, data_dir)
    shape, num_classes = tfds.image_shape_and_classes(builder)
    return shape, num_classes, functools.partial(tfds.read_images, builder)


def _divide(
    members: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    fraction: float,
    seed: int,
    stream: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Divide members into a stratified fraction and the others, both in their given order."""
    order = stratified_order(labels[members], seed=seed, stream=stream)
    size = int(np.floor(members.size * fraction + 0.5))
    return members[np.sort(order[:size])], members[np.sort(order[size:])]


def _channel_statistics(
    pixels: npt.NDArray[np.uint8], members: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and standard deviation of each channel on the scale of [0, 1], float32 [C]."""
    total = np.zeros(pixels.shape[-1])
    squares = np.zeros(pixels.shape[-1])
    for first in range(0, members.size, _BLOCK):
        block = pixels[members[first : first + _BLOCK]] / 255.0
        total += block.sum(axis=(0, 1, 2))
        squares += np.square(block).sum(axis=(0, 1, 2))
    count = members.size * pixels.shape[1] * pixels.shape[2]
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))
    # A channel that is the same everywhere stays zero instead of becoming not-a-number.
    deviation = np.where(deviation > 0.0, deviation, 1.0)
    return mean.astype(np.float32), deviation.astype(np.float32)


def _standardised(
    images: Images,
    members: npt.NDArray[np.int64],
    mean: npt.NDArray[np.float32],
    deviation: npt.NDArray[np.float32],
) -> Examples:
    x = images.pixels[members].astype(np.float32)
    # In place: a second copy of CIFAR-10 in float32 would take another 600 MB.
    x /= np.float32(255.0)
    x -= mean
    x /= deviation
    return Examples(x, images.labels[members])


def _require_every_class(
    split: str,
    labels: npt.NDArray[np.int64],
    chosen: npt.NDArray[np.int64],
    argument: str,
) -> None:
    missing = sorted(set(np.unique(labels).tolist()) - set(np.unique(labels[chosen]).tolist()))
    if missing:
        raise TooFewExamplesError(
            f"Received {argument}, which leaves the {split} split {chosen.size} examples and none "
            f"of class {', '.join(map(str, missing[:5]))}; expected at least one example of each "
            "class. Choose a larger fraction."
        )
