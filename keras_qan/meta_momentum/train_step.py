"""A form of the pull within a model's own training step, for the time of a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_qan.meta_momentum.losses import BoundLoss
from keras_qan.meta_momentum.teachers import Teacher
from keras_qan.utils.fit_patch import FitPatch, loss_followed_by


class TrainStepPatch:
    """A form of the pull in a model's training step.

    `train_step` and, for a loss, `compute_loss` are wrapped for the time of a `fit`; the model's
    class, weights and configuration are left alone. The compiled training function is kept for
    the next `fit` of the same model, whose teacher comes by variables: nothing is compiled twice.

    Args:
      model: a compiled model.
      bound: the form for this model.
      fade: schedule from t/T to a share of the strength.
    """

    def __init__(
        self, model: keras.Model, bound: BoundLoss, fade: Callable[[tf.Tensor], tf.Tensor]
    ) -> None:
        self.model = model
        self._bound = bound
        self._fade = fade
        self._patch = FitPatch(model)
        self._is_paused = False
        with model.distribute_strategy.scope():
            self._strength, self._steps, self._done = (
                tf.Variable(
                    value,
                    trainable=False,
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                )
                for value in (0.0, 1.0, 0.0)
            )

    def attach(self, teacher: Teacher, strength: float, steps: int) -> bool:
        """Begin a fit; return whether there is anything to teach.

        Raises:
          ValueError: the teacher does not fit the model.
        """
        self.resume()
        teaches = self._bound.teach(teacher)
        self._strength.assign(strength if teaches else 0.0)
        self._steps.assign(float(steps))
        self._done.assign(0.0)
        if self._bound.is_loss and not teaches:
            return False
        methods = {"train_step": self._train_step()}
        if self._bound.is_loss:
            methods["compute_loss"] = self._compute_loss()
        self._bound.attach()
        self._patch.attach(methods, self._bound.network, self._end)
        return teaches

    def pause(self) -> None:
        """Leave the form out of the loss until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        """Take the form into the loss again."""
        self._is_paused = False

    def detach(self) -> None:
        """Restore the model."""
        self._patch.detach()

    def _end(self) -> None:
        # Whatever function is left with the pull in it, it does nothing from here on.
        self._strength.assign(0.0)
        self._bound.detach()

    @property
    def _present_strength(self) -> tf.Tensor:
        """c_t = c · fade(t/T) for t < T, then zero."""
        progress = tf.minimum(self._done / self._steps, 1.0)
        share = tf.convert_to_tensor(self._fade(progress), tf.float32)
        return tf.where(self._done < self._steps, self._strength * share, 0.0)

    def _train_step(self) -> Any:
        original = self.model.train_step

        def train_step(data: Any) -> Any:
            results = original(data)
            self._bound.after_update(self._present_strength)
            self._done.assign_add(1.0)
            return results

        return train_step

    def _compute_loss(self) -> Any:
        def pull(loss: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Any:
            del y, sample_weight
            if not training or self._is_paused:
                return loss
            term = tf.cast(self._present_strength * self._bound.loss(x, y_pred), loss.dtype)
            # The gradient gains the term, the reported loss remains the task's own: logs stay
            # comparable, and fading is no progress to anybody who is rewarded by the loss.
            return loss + (term - tf.stop_gradient(term))

        return loss_followed_by(self.model, pull)
