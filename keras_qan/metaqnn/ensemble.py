"""The best models together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_qan.data import Examples
from keras_qan.metaqnn.trial import Trial, compiled, fitted


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks whose probabilities are averaged.

    Args:
      models: Keras models with logits for output, best first.
      architectures: theirs, as text.
      scores: their validation accuracies.
    """

    models: Sequence[keras.Model]
    architectures: Sequence[str]
    scores: Sequence[float]

    def predict(self, x: Any, batch_size: int = 512) -> npt.NDArray[np.float64]:
        """Mean class probabilities, float64 [N, classes]."""
        total = sum(_probabilities(model, x, batch_size) for model in self.models)
        return np.asarray(total) / len(self.models)

    def accuracy(self, examples: Examples) -> float:
        """The share of examples whose most probable class is theirs."""
        return float(np.mean(self.predict(examples.x).argmax(axis=1) == examples.y))

    def accuracies(self, examples: Examples) -> list[float]:
        """The same for each model by itself."""
        return [
            float(np.mean(_probabilities(one, examples.x, 512).argmax(axis=1) == examples.y))
            for one in self.models
        ]


def retrained(trials: Sequence[Trial], count: int) -> Ensemble:
    """Trains architectures to the end of their recipes and puts the best together.

    Args:
      trials: the architectures; neither stopped nor started anew.
      count: how many are put together, by validation accuracy after the last epoch.
    """
    found = []
    for one in trials:
        model = compiled(one, one.recipe)
        curve = fitted(model, one, one.recipe, [])
        found.append((curve[-1], one.architecture, model))
    found.sort(key=lambda item: -item[0])
    scores, texts, models = zip(*found[:count], strict=True)
    return Ensemble(models, texts, scores)


def _probabilities(model: keras.Model, x: Any, batch_size: int) -> npt.NDArray[np.float64]:
    logits = np.asarray(model.predict(x, batch_size=batch_size, verbose=0), np.float64)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
