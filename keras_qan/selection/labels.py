"""The class of every example, and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_qan.selection.pipeline import ExampleSource

_INSTEAD = (
    "For regression, choose by loss: selection.LossRank or selection.Prune; or "
    "selection.Uniform as a baseline."
)


def class_labels(
    source: ExampleSource, num_classes: int, label: Callable[..., Any] | None
) -> npt.NDArray[np.int64]:
    """Finds the class of every example.

    Args:
      source: the examples.
      num_classes: C.
      label: from one example, as the dataset gives it, to its class; None for the second part of
        a tuple `(x, y)` or `(x, y, sample_weight)`.

    Returns:
      int64 `[N]`, each from 0 to C - 1 and each class at least once.

    Raises:
      ValueError: there are no labels, they are no classes, or a class has no example.
    """
    labels = _as_classes(_targets(source, label), num_classes)
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if outside.size:
        raise ValueError(
            f"ClassMix got the label {outside[0]} ({outside.size} examples are outside the range); "
            f"expected classes from 0 to {num_classes - 1}, as num_classes={num_classes}. Pass the "
            "number of classes, or renumber the labels."
        )
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        missing = np.flatnonzero(counts == 0)
        raise ValueError(
            f"ClassMix got no examples of class {', '.join(map(str, missing[:5]))} "
            f"({missing.size} of {num_classes} classes are empty); expected at least one of each. "
            f"Pass the number of classes that there are, or check the labels."
        )
    return labels


def _targets(source: ExampleSource, label: Callable[..., Any] | None) -> Any:
    if label is not None:

        def of(index: tf.Tensor) -> Any:
            example = tf.nest.map_structure(lambda part: part[0], source.batch(index[tf.newaxis]))
            return label(*example) if isinstance(example, tuple) else label(example)

        found = tf.data.Dataset.range(source.num_examples).map(of)
        if tf.nest.is_nested(found.element_spec):
            raise ValueError(
                f"ClassMix got a label function that returns {found.element_spec}; expected one "
                "tensor: an integer class or a one-hot vector."
            )
        return next(iter(found.batch(source.num_examples))).numpy()
    columns = source.columns()
    if not isinstance(columns, tuple) or len(columns) < 2 or tf.nest.is_nested(columns[1]):
        raise ValueError(
            f"ClassMix got examples of the structure {source.spec}; expected (x, y) or "
            "(x, y, sample_weight) with one tensor y of classes. Say where the class is: "
            "label=lambda x, y: y['digit'], or label=lambda example: example['label']."
        )
    return columns[1].numpy()


def _as_classes(targets: npt.NDArray[Any], num_classes: int) -> npt.NDArray[np.int64]:
    whole = np.issubdtype(targets.dtype, np.integer) or targets.dtype == np.bool_
    if not whole and not np.issubdtype(targets.dtype, np.floating):
        raise ValueError(
            f"ClassMix got targets of dtype {targets.dtype}; expected integer classes or one-hot "
            "vectors. Number the classes first, for example with keras.layers.StringLookup."
        )
    if targets.ndim == 2 and targets.shape[1] == num_classes and num_classes > 1:
        is_distribution = (targets >= 0).all() and np.allclose(targets.sum(axis=1), 1, atol=1e-3)
        if not is_distribution:
            raise ValueError(
                f"ClassMix got targets of shape {targets.shape[1:]} whose rows do not add up to 1; "
                f"expected classes, one-hot or as shares. {_INSTEAD}"
            )
        return targets.argmax(axis=1).astype(np.int64)
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim != 1:
        raise ValueError(
            f"ClassMix got targets of shape {targets.shape[1:]}; expected one class for each "
            f"example, or a one-hot vector of num_classes={num_classes}. Pass the number of "
            f"classes that the vectors have. {_INSTEAD}"
        )
    if not whole and not (np.isfinite(targets).all() and (targets == np.rint(targets)).all()):
        raise ValueError(
            f"ClassMix got {targets.dtype} targets that are no whole numbers (the first is "
            f"{targets[0]:.6g}); expected classes. {_INSTEAD}"
        )
    return targets.astype(np.int64)
