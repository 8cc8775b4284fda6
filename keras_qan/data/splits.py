"""A data set in three parts."""

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_qan.data.errors import TooFewExamplesError
from keras_qan.data.examples import Examples
from keras_qan.data.stratify import stratified_order

if TYPE_CHECKING:
    from keras_qan.data.tfds import Images

# A sixth of MNIST's training split is held out: 50,000 images stay, the usual number.
_VALIDATION_FRACTION = 1 / 6

# How many images are turned into float64 at a time when their statistics are summed.
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data set.

    Args:
        train: what gradients are taken on.
        validation: what rewards and choices are made on; held out of the training split.
        test: what is reported once, at the very end.
        name: name of the data set.
        num_classes: how many classes there are.
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
    """Loads a data set in three parts, never from a network.

    Validation examples are drawn from the training split first, stratified by class; then a
    stratified `train_fraction` of the remainder is kept. For one seed a smaller fraction is a
    subset of a larger one, and validation and test are the same for all of them. Pixels are
    scaled to [0, 1] and then standardised with the mean and standard deviation of each channel
    over the training examples before `train_fraction`, so that an image is the same numbers
    whatever the fraction.

    Args:
        name: `digits` (needs nothing), `mnist`, `cifar10`, or another image classification set of
            TensorFlow Datasets that is prepared on this disk.
        train_fraction: how much of the training examples to keep, in (0, 1].
        validation_fraction: how much of the training split to hold out, in (0, 1).
        seed: what the choice of validation and training examples is drawn from, at least 0.
        data_dir: folder of prepared data sets; None for the environment variable TFDS_DATA_DIR,
            or else `~/tensorflow_datasets`.

    Returns:
        The splits; inputs float32 [N, height, width, channels], classes int64 [N].

    Raises:
        UnknownDatasetError: if there is no such data set; near names are suggested.
        DatasetNotPreparedError: if it is known but not on this disk; says how to get it.
        DatasetDamagedError: if its files are cut short.
        TooFewExamplesError: if the fractions leave a class without an example.
        ValueError: if a fraction or the seed is out of range, or if it holds other than images.

    Example:
        >>> splits = load("digits", train_fraction=0.5)
        >>> len(splits.train), len(splits.validation), len(splits.test)
        (601, 240, 355)
    """
    _require_fraction("train_fraction", train_fraction, one_allowed=True)
    _require_fraction("validation_fraction", validation_fraction, one_allowed=False)
    if not isinstance(name, str) or not name:
        raise ValueError(
            f"Received name={name!r}; expected the name of a data set. Try 'digits' or 'mnist'."
        )
    if seed < 0:
        raise ValueError(f"Received seed={seed}; expected at least 0. Choose another seed.")

    from keras_qan.data import tfds

    builder = tfds.prepared_builder(name, data_dir)
    input_shape, num_classes = tfds.image_shape_and_classes(builder)
    images = tfds.read_images(builder, "train")
    rest, held_out = _hold_out(images.labels, validation_fraction, seed)
    kept, _ = _divide(rest, images.labels, train_fraction, seed, stream=1)
    _require_every_class("train", images.labels, kept, f"train_fraction={train_fraction}")
    _require_every_class(
        "validation", images.labels, held_out, f"validation_fraction={validation_fraction}"
    )
    mean, deviation = _channel_statistics(images.pixels, rest)
    train = _standardised(images, kept, mean, deviation)
    validation = _standardised(images, held_out, mean, deviation)
    images = tfds.read_images(builder, "test")
    test = _standardised(images, np.arange(len(images.labels)), mean, deviation)
    return Splits(train, validation, test, name, num_classes, input_shape)


def _hold_out(
    labels: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    held_out, rest = _divide(np.arange(labels.size), labels, fraction, seed, stream=0)
    return rest, held_out


def _divide(
    members: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    fraction: float,
    seed: int,
    stream: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A stratified fraction of the members and the others, both in the order they came in."""
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
    images: "Images",
    members: npt.NDArray[np.int64],
    mean: npt.NDArray[np.float32],
    deviation: npt.NDArray[np.float32],
) -> Examples:
    x = images.pixels[members].astype(np.float32)
    # In place: a second copy of CIFAR-10 in float32 would be another 600 MB.
    x /= np.float32(255.0)
    x -= mean
    x /= deviation
    return Examples(x, images.labels[members])


def _require_fraction(argument: str, value: float, *, one_allowed: bool) -> None:
    # Written so that not-a-number fails as well.
    if not (0.0 < value < 1.0 or (one_allowed and value == 1.0)):
        raise ValueError(
            f"Received {argument}={value}; expected a number in "
            f"{'(0, 1]' if one_allowed else '(0, 1)'}. Pass for example {argument}=0.5."
        )


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
