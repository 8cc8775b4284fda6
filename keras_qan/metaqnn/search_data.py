"""Data of a search: examples to train, to validate and to test on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_qan.data import Examples, Splits, load


@dataclass(frozen=True, eq=False)
class SearchData:
    """Examples of an image classification.

    Args:
      train: for gradients.
      validation: for rewards and choices.
      test: for the final report; None for none.
      num_classes: number of classes.
      name: for the settings file.
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
        """Summary for the settings file, by which a directory is recognised."""
        return {
            "name": self.name,
            "input_shape": list(self.input_shape),
            "num_classes": self.num_classes,
            "train": len(self.train),
            "validation": len(self.validation),
        }


def as_search_data(data: Any) -> SearchData:
    """Convert data to `SearchData`.

    Args:
      data: `Splits` of `keras_qan.data.load`, the name of a data set, `SearchData`, or
        ((x, y), (x, y)) to train on and to validate on: images [N, height, width, channels] and
        classes [N].

    Raises:
      ValueError: the labels do not match the number of classes, or x holds no images.
      TypeError: it is of another type.
    """
    if isinstance(data, SearchData):
        return _check_data(data)
    if isinstance(data, str):
        data = load(data)
    if isinstance(data, Splits):
        return _check_data(
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
    return _check_data(SearchData(train, validation, None, max(2, num_classes), "arrays"))


def _examples(x: Any, y: Any) -> Examples:
    labels = np.asarray(y)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"Received labels of shape {labels.shape} and type {labels.dtype}; expected whole "
            "numbers [N] from 0. Turn one-hot labels into numbers with y.argmax(axis=1)."
        )
    return Examples(np.asarray(x, np.float32), labels.astype(np.int64))


def _check_data(data: SearchData) -> SearchData:
    for name, part in (("train", data.train), ("validation", data.validation)):
        if not len(part) or part.x.ndim != 4:
            raise ValueError(
                f"Received {name} inputs of shape {part.x.shape}; expected at least one image, [N, "
                "height, width, channels]. Add the last dimension with x[..., None]."
            )
        low, high = int(part.y.min()), int(part.y.max())
        if low < 0 or high >= data.num_classes:
            raise ValueError(
                f"Received {name} labels from {low} to {high} for {data.num_classes} classes; "
                f"expected 0 to {data.num_classes - 1}. Number the classes from 0, and give as "
                "many as there are."
            )
        if part.x.shape[1:] != data.train.x.shape[1:]:
            raise ValueError(
                f"Received {name} images of shape {part.x.shape[1:]} beside training images of "
                f"shape {data.train.x.shape[1:]}; expected the same."
            )
    missing = sorted(set(range(data.num_classes)) - set(np.unique(data.train.y).tolist()))
    if missing:
        raise ValueError(
            f"Received training labels without the classes {missing[:5]} of {data.num_classes}; "
            "expected an example of each. Correct the labels or the number of classes."
        )
    return data
