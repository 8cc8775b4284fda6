"""The tasks: plain, small, imbalanced, and with wrong labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_qan import data

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
      name: what it is called.
      data: the data set.
      train_fraction: how much of its training examples is used.
      change: what is done to the training examples, from (x, y, generator).
      model: the student.
      batch_size: B.
      learning_rate: of SGD with momentum 0.9.
      passes: over as many examples as there are.
      validation_batches: batches of 1,000 validation examples.
      augments: whether training images are mirrored and shifted by up to an eighth.
    """

    name: str
    data: str
    train_fraction: float
    change: Callable[[np.ndarray, np.ndarray, np.random.Generator], Pair]
    model: str = "cnn"
    batch_size: int = 128
    learning_rate: float = 0.05
    passes: float = 20.0
    validation_batches: int = 1
    augments: bool = False

    def training_examples(self, splits: data.Splits, seed: int) -> Pair:
        """The training examples as this task has them."""
        return self.change(splits.train.x, splits.train.y, np.random.default_rng(seed))


def unchanged(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Pair:
    """As they are."""
    del generator
    return x, y


def imbalanced(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Pair:
    """Class c keeps a share of 100^(-c/9): from all of class 0 to a hundredth of class 9."""
    kept = generator.random(len(y)) < 100.0 ** (-y / 9.0)
    for label in range(10):  # enough of each for a slot
        kept[np.flatnonzero(y == label)[:8]] = True
    return x[kept], y[kept]


def wrong_labels(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Pair:
    """A fifth has one of the nine wrong labels, each as likely."""
    is_wrong = generator.random(len(y)) < 0.2
    return x, np.where(is_wrong, (y + generator.integers(1, 10, len(y))) % 10, y)


TASKS = {
    task.name: task
    for task in (
        Task("mnist", "mnist", 0.1, unchanged, batch_size=64, learning_rate=0.03, passes=5.0),
        Task("cifar10", "cifar10", 0.1, unchanged, "cnn_bn", 64, passes=6.0),
        # Nearer to the trainings in which pruning is said to pay: many images, or augmented ones.
        Task("cifar10_half", "cifar10", 0.5, unchanged, "cnn_bn", 64, passes=20.0),
        Task("cifar10_augmented", "cifar10", 0.1, unchanged, "cnn_bn", 64, augments=True),
        Task("imbalanced", "mnist", 0.2, imbalanced, batch_size=32, learning_rate=0.02, passes=4.0),
        # Few images and many passes, so that wrong labels are learned by heart.
        Task("wrong_labels", "mnist", 0.04, wrong_labels, batch_size=32, learning_rate=0.02),
        Task("digits", "digits", 1.0, unchanged, batch_size=32, learning_rate=0.02, passes=5.0),
    )
}
