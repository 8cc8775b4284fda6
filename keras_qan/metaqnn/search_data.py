"""What a search is trained, chosen and reported on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_qan.data import Examples, Splits, load


@dataclass(frozen=True, eq=False)
class SearchData:
    """Examples of an image classification.

    Args:
      train: what gradients are taken on.
      validation: what rewards and choices are made on.
      test: what is reported once; None where there is none.
      num_classes: how many classes there are.
      name: for the record.
    """

    train: Examples
    validation: Examples
    test: Examples | None
    num_classes: int
    name: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return tuple(self.train.x.shape[1:])

    def as_data(self) -> dict[str, Any]:
        """What a directory is recognised by."""
        return {
            "name": self.name,
            "input_shape": list(self.input_shape),
            "num_classes": self.num_classes,
            "train": len(self.train),
            "validation": len(self.validation),
        }


def as_search_data(data: Any) -> SearchData:
    """Brings data into a `Task`.

    Args:
      data: `Splits` of `keras_qan.data.load`, the name of a data set, a `Task`, or
        ((x, y), (x, y)) to train on and to validate on: images [N, height, width, channels] and
        classes [N].

    Raises:
      ValueError: the labels do not match the number of classes, or the images are none.
      TypeError: it is something else.
    """
    if isinstance(data, SearchData):
        return _checked(data)
    if isinstance(data, str):
        data = load(data)
    if isinstance(data, Splits):
        return _checked(
            SearchData(data.train, data.validation, data.test, data.num_classes, data.name)
        )
    try:
        (x, y), (x_validation, y_validation) = data
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Received data of type {type(data).__name__}; expected keras_qan.data.load(...), the "
            "name of a data set, or ((x_train, y_train), (x_validation, y_validation))."
        ) from error
    train, validation = _examples(x, y), _examples(x_validation, y_validation)
    num_classes = int(max(train.y.max(initial=0), validation.y.max(initial=0))) + 1
    return _checked(SearchData(train, validation, None, max(2, num_classes), "arrays"))


def _examples(x: Any, y: Any) -> Examples:
    labels = np.asarray(y)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"Received labels of shape {labels.shape} and type {labels.dtype}; expected whole "
            "numbers [N] from 0. Turn one-hot labels into numbers with y.argmax(axis=1)."
        )
    return Examples(np.asarray(x, np.float32), labels.astype(np.int64))


def _checked(task: SearchData) -> SearchData:
    for name, part in (("train", task.train), ("validation", task.validation)):
        if not len(part) or part.x.ndim != 4:
            raise ValueError(
                f"Received {name} inputs of shape {part.x.shape}; expected at least one image, [N, "
                "height, width, channels]. Add the last dimension with x[..., None]."
            )
        low, high = int(part.y.min()), int(part.y.max())
        if low < 0 or high >= task.num_classes:
            raise ValueError(
                f"Received {name} labels from {low} to {high} for {task.num_classes} classes; "
                f"expected 0 to {task.num_classes - 1}. Number the classes from 0, and give as "
                "many as there are."
            )
        if part.x.shape[1:] != task.train.x.shape[1:]:
            raise ValueError(
                f"Received {name} images of shape {part.x.shape[1:]} beside training images of "
                f"shape {task.train.x.shape[1:]}; expected the same."
            )
    missing = sorted(set(range(task.num_classes)) - set(np.unique(task.train.y).tolist()))
    if missing:
        raise ValueError(
            f"Received training labels without the classes {missing[:5]} of {task.num_classes}; "
            "expected an example of each. Correct the labels or the number of classes."
        )
    return task
