"""Data and a make-believe training that the tests of selectors share."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_qan import selection

NUM_CLASSES = 4


def examples(num_examples: int = 60, num_classes: int = NUM_CLASSES):
    """Numbers as inputs, so that a batch shows which examples it holds, and classes in turn."""
    x = np.arange(num_examples, dtype="float32")[:, np.newaxis]
    return x, np.arange(num_examples) % num_classes


def dataset(num_examples: int = 60, num_classes: int = NUM_CLASSES) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(examples(num_examples, num_classes))


def loss_of(numbers: np.ndarray) -> np.ndarray:
    """Losses that grow with the example's number, from 1 on."""
    return numbers.astype("float32") + 1.0


SELECTORS = {
    "Uniform": lambda data, **more: selection.Uniform(data, 8, **more),
    "ClassMix": lambda data, **more: selection.ClassMix(data, NUM_CLASSES, 8, slots=3, **more),
    "LossRank": lambda data, **more: selection.LossRank(data, 8, **more),
    "Prune": lambda data, **more: selection.Prune(data, 8, **{"unbiased": False, **more}),
}

_pool: dict[tuple, selection.Selector] = {}
_pipelines: dict[tuple, tf.data.Dataset] = {}


def ready(kind: str, number: int = 0, seed: int = 0, num_examples: int = 60, **more):
    """A selector that was used before and is at its beginning again; `number` tells several apart.

    Compiling a pipeline takes longer than using it. That a restart is as good as a new selector is
    a test of its own.
    """
    key = (kind, number, num_examples, *sorted(more.items()))
    if key not in _pool:
        _pool[key] = SELECTORS[kind](dataset(num_examples), **more)
    _pool[key].end()
    _pool[key].restart(seed)
    return _pool[key]


def pipeline(selector, **arguments) -> tf.data.Dataset:
    """The selector's dataset, made once for each set of arguments."""
    key = (id(selector), *sorted(arguments.items()))
    if key not in _pipelines:
        _pipelines[key] = selector, selector.dataset(**arguments)
    selector._prefetch = arguments.get("prefetch", 2)
    selector._buffered = arguments.get("buffered", 0)
    return _pipelines[key][1]


class Training:
    """Trains nothing, and tells a selector about it as `fit` would."""

    def __init__(self, selector, num_steps=None, steps_per_call=1, **arguments):
        self.selector = selector
        self.steps_per_call = steps_per_call
        self.iterator = iter(pipeline(selector, **arguments))
        selector.begin(num_steps, steps_per_call)

    def step(self, losses=loss_of):
        """One call of Keras's: the examples' numbers `[T, B]` of its batches."""
        batches = [next(self.iterator) for _ in range(self.steps_per_call)]
        numbers = np.array([batch[0].numpy()[:, 0] for batch in batches]).astype(int)
        known = tf.constant(losses(numbers), tf.float32)
        self.selector.advance(self.steps_per_call, known)
        self.last = batches[-1]
        return numbers

    def steps(self, count, **more):
        """So many calls: the examples' numbers `[count · T, B]`."""
        return np.concatenate([self.step(**more) for _ in range(count)])
