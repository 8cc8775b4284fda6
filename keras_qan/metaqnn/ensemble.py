"""Ensembles of the best models of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_qan.data import Examples
from keras_qan.metaqnn.trial import Trial, compile_model, fit_model
from keras_qan.utils.progress import Progress


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks whose probabilities are averaged.

    Args:
      models: Keras models with logits as outputs, best first.
      architectures: of the models, as text.
      scores: validation accuracies of the models.
    """

    models: Sequence[keras.Model]
    architectures: Sequence[str]
    scores: Sequence[float]

    def predict(self, x: Any, batch_size: int = 512) -> npt.NDArray[np.float64]:
        """Return mean class probabilities, float64 [N, classes].

        Args:
          x: inputs, `[N, ...]`.
          batch_size: of the prediction. Defaults to 512.
        """
        total = sum(_probabilities(model, x, batch_size) for model in self.models)
        return np.asarray(total) / len(self.models)

    def accuracy(self, examples: Examples) -> float:
        """Return the share of the examples that the ensemble classifies correctly.

        Args:
          examples: inputs and classes.
        """
        return float(np.mean(self.predict(examples.x).argmax(axis=1) == examples.y))

    def accuracies(self, examples: Examples) -> list[float]:
        """Return the accuracy of each model by itself.

        Args:
          examples: inputs and classes.
        """
        return [
            float(np.mean(_probabilities(one, examples.x, 512).argmax(axis=1) == examples.y))
            for one in self.models
        ]


def retrain_best(trials: Sequence[Trial], count: int, progress: Progress) -> Ensemble:
    """Train architectures to the end of their recipes and combine the best.

    Args:
      trials: the architectures; neither stopped nor restarted.
      count: the number to combine, by validation accuracy after the last epoch.
      progress: shows the trainings.
    """
    found = []
    with progress as bars:
        bars.start("models", 0, len(trials), trials[0].recipe.epochs)
        for one in trials:
            model = compile_model(one, one.recipe)
            curve = fit_model(model, one, one.recipe, [bars.epochs()])
            found.append((curve[-1], one.architecture, model))
            bars.advance()
            bars.say(f"{one.architecture}: validation accuracy {curve[-1]:.4g}", False)
    found.sort(key=lambda item: -item[0])
    scores, texts, models = zip(*found[:count], strict=True)
    return Ensemble(models, texts, scores)


def _probabilities(model: keras.Model, x: Any, batch_size: int) -> npt.NDArray[np.float64]:
    logits = np.asarray(model.predict(x, batch_size=batch_size, verbose=0), np.float64)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))
