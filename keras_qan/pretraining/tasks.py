"""Small tasks to train a policy on: made from a seed, or scikit-learn's digits.

MNIST, CIFAR-10 and scikit-learn's other data sets are kept for evaluation: no policy that this
package trains has seen them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Sources of a task's examples.
SOURCES = ("digits", "clusters", "teacher", "regression", "chains")

#: Symbols of a chain, and places in a sequence of it.
CHAIN_SYMBOLS, CHAIN_LENGTH = 10, 8


@dataclass(frozen=True)
class TaskTemplate:
    """A kind of task with a kind of network; all tasks of a template share one compiled program.

    Attributes:
      source: one of `SOURCES`.
      num_features: the length of an input; 64 for digits, 80 for chains.
      num_outputs: classes, or the length of a regression's target.
      hidden: units of the hidden layers, filters of 3×3 convolutions of stride 2, the units of
        one LSTM or GRU, or a transformer's width and the units of each block's hidden layer.
      activation: of the hidden layers. Defaults to "relu".
      norm: "batch" or "layer", what they are normalised over. Defaults to "": they are not.
      dropout: the share of the hidden units that is left out. Defaults to 0.
      kind: "dense", "convolutions" (of digits, the only images), or, of chains, "lstm", "gru" or
        "transformer". Defaults to "dense".
      batch_size: examples in a batch. Defaults to 32.
      num_train: training examples. Defaults to 1000.
      num_validation: validation examples. Defaults to 500.
    """

    source: str
    num_features: int
    num_outputs: int
    hidden: tuple[int, ...]
    activation: str = "relu"
    norm: str = ""
    dropout: float = 0.0
    kind: str = "dense"
    batch_size: int = 32
    num_train: int = 1000
    num_validation: int = 500

    @property
    def is_regression(self) -> bool:
        """True if the loss is the mean squared error; otherwise it is the cross-entropy."""
        return self.source == "regression"


@dataclass(frozen=True)
class TaskExamples:
    """Inputs float32 `[N, F]` and targets int32 `[N]`, `[N, T]` of chains, or float32 `[N, O]`."""

    x: np.ndarray
    y: np.ndarray


def draw_task(
    template: TaskTemplate, rng: np.random.Generator
) -> tuple[TaskExamples, TaskExamples]:
    """Draw training and validation examples, standardised by the training inputs."""
    total = template.num_train + template.num_validation
    x, y = _SOURCES[template.source](template, total, rng)
    train, rest = slice(0, template.num_train), slice(template.num_train, total)
    mean, deviation = x[train].mean(), x[train].std()
    x = ((x - mean) / deviation).astype(np.float32)
    return TaskExamples(x[train], y[train]), TaskExamples(x[rest], y[rest])


def _digits(
    template: TaskTemplate,  # noqa: ARG001 - the signature of all sources
    total: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = _load_digits()
    chosen = rng.permutation(len(images))[:total]
    return images[chosen], labels[chosen]


@functools.cache
def _load_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.astype(np.float32), labels.astype(np.int32)


def _clusters(
    template: TaskTemplate, total: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw classes of several Gaussian clusters each, in a space of unequal scales."""
    features, classes = template.num_features, template.num_outputs
    per_class = int(rng.integers(1, 5))
    spread = rng.uniform(0.5, 2.0)
    centres = rng.normal(size=(classes, per_class, features))
    y = rng.integers(0, classes, total)
    x = centres[y, rng.integers(0, per_class, total)]
    x = x + spread * rng.normal(size=x.shape)
    scales = np.exp(rng.normal(0.0, rng.uniform(0.0, 1.0), features))
    y = _with_wrong_labels(y, classes, rng)
    return x * scales, y.astype(np.int32)


def _teacher(
    template: TaskTemplate, total: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw random inputs with the labels of a random network."""
    x = _correlated(total, template.num_features, rng)
    values = _random_network(x, template.num_outputs, rng)
    y = np.argmax(values - values.mean(axis=0), axis=1)
    return x, _with_wrong_labels(y, template.num_outputs, rng).astype(np.int32)


def _regression(
    template: TaskTemplate, total: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw random inputs with standardised outputs of a random network as targets, with noise."""
    x = _correlated(total, template.num_features, rng)
    y = _random_network(x, template.num_outputs, rng)
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    noise = float(np.exp(rng.uniform(np.log(0.02), np.log(0.7))))
    return x, (y + noise * rng.normal(size=y.shape)).astype(np.float32)


def _chains(
    template: TaskTemplate,  # noqa: ARG001 - the signature of all sources
    total: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw sequences of a Markov chain of the second order, one-hot; each next symbol is asked."""
    size = CHAIN_SYMBOLS
    spread = float(np.exp(rng.uniform(np.log(0.05), np.log(0.4))))
    odds = rng.gamma(spread, size=(size, size, size)) + 1e-6
    cumulative = np.cumsum(odds / odds.sum(axis=-1, keepdims=True), axis=-1)
    rows = np.zeros((total, CHAIN_LENGTH + 1), np.int32)
    rows[:, :2] = rng.integers(0, size, (total, 2))
    for place in range(2, CHAIN_LENGTH + 1):
        above = cumulative[rows[:, place - 2], rows[:, place - 1]] < rng.random((total, 1))
        rows[:, place] = np.minimum(above.sum(axis=-1), size - 1)
    return np.eye(size)[rows[:, :-1]].reshape(total, -1), rows[:, 1:]


def _correlated(total: int, features: int, rng: np.random.Generator) -> np.ndarray:
    """Draw Gaussian inputs whose variances decay along random directions, as real data's do."""
    directions, _ = np.linalg.qr(rng.normal(size=(features, features)))
    deviations = np.arange(1, features + 1) ** -rng.uniform(0.0, 1.0)
    return (rng.normal(size=(total, features)) * deviations) @ directions


def _random_network(x: np.ndarray, outputs: int, rng: np.random.Generator) -> np.ndarray:
    hidden = int(rng.integers(4, 33))
    gain = rng.uniform(0.7, 3.0)
    x = (x - x.mean()) / x.std()
    first = rng.normal(size=(x.shape[1], hidden)) * gain / np.sqrt(x.shape[1])
    bias = rng.normal(size=hidden) * 0.5
    return np.tanh(x @ first + bias) @ rng.normal(size=(hidden, outputs))


def _with_wrong_labels(y: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    share = rng.choice([0.0, 0.0, 0.05, 0.2])
    wrong = rng.random(len(y)) < share
    return np.where(wrong, rng.integers(0, classes, len(y)), y)


_SOURCES: dict[str, Any] = {
    "digits": _digits,
    "clusters": _clusters,
    "teacher": _teacher,
    "regression": _regression,
    "chains": _chains,
}

#: Tasks to train policies on. The networks are small, so that there can be many trainings.
SMALL = (
    TaskTemplate("digits", 64, 10, (32,)),
    TaskTemplate("digits", 64, 10, (24, 24), "tanh", norm="batch", batch_size=24),
    TaskTemplate("digits", 64, 10, (4, 8), kind="convolutions", batch_size=16, num_train=800),
    TaskTemplate("clusters", 24, 10, (32, 16), num_train=3000),
    TaskTemplate("clusters", 20, 6, (24,), "gelu", norm="batch", num_train=2000),
    TaskTemplate("teacher", 20, 5, (24, 24, 24), batch_size=24, num_train=4000),
    TaskTemplate("teacher", 12, 2, (16,), "tanh", batch_size=16),
    TaskTemplate("regression", 20, 3, (32,), "tanh", num_train=3000),
    TaskTemplate("regression", 16, 1, (24, 24), norm="batch", num_train=3000),
    TaskTemplate("regression", 24, 24, (20, 8, 20), batch_size=24, num_train=3000),
    # So few examples that the training loss soon tells nothing about new ones.
    TaskTemplate("digits", 64, 10, (32,), num_train=250),
    TaskTemplate("clusters", 30, 3, (24, 24), num_train=250),
    TaskTemplate("teacher", 16, 2, (32,), "tanh", num_train=300),
    TaskTemplate("regression", 12, 1, (32,), num_train=250),
    # Inputs and networks of the size that small image classifiers have.
    TaskTemplate("clusters", 128, 10, (64, 32), batch_size=48, num_train=4000),
    TaskTemplate("digits", 64, 10, (8, 12), norm="batch", kind="convolutions", batch_size=24),
)

#: Wider and deeper ones, with dropout, normalised over their units, recurrent.
WIDE = (
    TaskTemplate("clusters", 64, 10, (256,), num_train=4000),
    TaskTemplate("digits", 64, 10, (160, 64), dropout=0.3),
    TaskTemplate("regression", 20, 2, (192, 96), num_train=3000),
    TaskTemplate("teacher", 24, 6, (128, 64), "gelu", norm="layer", num_train=4000),
    TaskTemplate("teacher", 20, 5, (96, 96), dropout=0.2, num_train=4000),
    TaskTemplate("clusters", 24, 10, (32,) * 6, "gelu", norm="layer", num_train=3000),
    TaskTemplate("digits", 64, 10, (16, 24), kind="convolutions", dropout=0.25, batch_size=24),
    TaskTemplate("regression", 24, 4, (48,) * 4, "tanh", num_train=3000),
    TaskTemplate("chains", 80, 10, (24,), kind="lstm", batch_size=8, num_train=3000),
    TaskTemplate("chains", 80, 10, (48,), kind="lstm", batch_size=12, num_train=3000),
)

#: Other networks over sequences.
SEQUENCES = (
    TaskTemplate("chains", 80, 10, (30,), kind="gru", batch_size=8, num_train=3000),
    TaskTemplate("chains", 80, 10, (56,), kind="gru", batch_size=16, num_train=3000),
    TaskTemplate("chains", 80, 10, (24, 48), kind="transformer", batch_size=12, num_train=3000),
    TaskTemplate("chains", 80, 10, (20, 40, 40), kind="transformer", batch_size=8, num_train=3000),
)

TRAINING = SMALL + WIDE + SEQUENCES

#: Tasks to select policies by: other networks, other sizes, other seeds.
HELD_OUT = (
    TaskTemplate("digits", 64, 10, (40, 24, 16), "gelu"),
    TaskTemplate("digits", 64, 10, (8, 8), kind="convolutions", batch_size=20),
    TaskTemplate("clusters", 25, 7, (80,), batch_size=48, num_train=2500),
    TaskTemplate("teacher", 24, 6, (40, 40), norm="batch", num_train=2500),
    TaskTemplate("regression", 20, 2, (56, 28), "gelu", batch_size=48, num_train=2500),
    TaskTemplate("clusters", 25, 2, (28, 28), num_train=350),
    TaskTemplate("regression", 10, 1, (44,), num_train=300),
    TaskTemplate("digits", 64, 10, (40,), "gelu", num_train=200),
    TaskTemplate("clusters", 48, 8, (320,), num_train=3000),
    TaskTemplate("digits", 64, 10, (24, 32), kind="convolutions", dropout=0.3),
    TaskTemplate("chains", 80, 10, (36,), kind="lstm", batch_size=10, num_train=2500),
    TaskTemplate("teacher", 24, 6, (64,) * 4, "gelu", norm="layer", dropout=0.1, num_train=3000),
)

#: The same, of networks over sequences that the first learned policies had not seen.
HELD_OUT_SEQUENCES = (
    TaskTemplate("chains", 80, 10, (42,), kind="gru", batch_size=12, num_train=2500),
    TaskTemplate("chains", 80, 10, (28, 56, 28), kind="transformer", batch_size=10, num_train=2500),
)
