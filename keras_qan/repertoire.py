"""What an agent can choose among, and what a choice does to selection and learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from keras_qan.actions import Action, StepBack


class Repertoire:
    """The actions of one callback; its methods are called within a compiled function.

    Args:
      actions: what can be chosen.
      rate_bounds: the lowest and the highest learning rate that is ever assigned.

    Attributes:
      step_back: the index of the first `StepBack`, or None.
    """

    def __init__(self, actions: Sequence[Action], rate_bounds: tuple[float, float]) -> None:
        self._actions = actions
        self._rate_bounds = rate_bounds
        self.step_back = next(
            (n for n, action in enumerate(actions) if isinstance(action, StepBack)), None
        )

    def with_step_back_forced(self, action: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
        """The action, or the step back, if there is one, where the condition holds; int64 `[]`."""
        if self.step_back is None:
            return action
        return tf.where(condition, tf.cast(self.step_back, tf.int64), action)

    def is_step_back(self, action: tf.Tensor) -> tf.Tensor:
        """Whether an action is the step back, bool `[]`."""
        return tf.equal(action, -1 if self.step_back is None else self.step_back)

    def select(self, action: tf.Tensor) -> None:
        """Lets an action that chooses what comes next do so."""
        choosing = [getattr(each, "select", None) for each in self._actions]
        if not any(choosing):
            return

        def branch(select: Callable[[], None] | None) -> Callable[[], tf.Tensor]:
            def run() -> tf.Tensor:
                if select is not None:
                    select()
                return tf.constant(True)

            return run

        tf.switch_case(tf.cast(action, tf.int32), [branch(select) for select in choosing])

    def next_rates(
        self,
        action: tf.Tensor,
        rates: tf.Tensor,
        kept_rates: tf.Tensor,
        initial_rates: tf.Tensor,
        progress: tf.Tensor,
    ) -> tf.Tensor:
        """The learning rates that an action leads to, within the bounds, `[K]`.

        Args:
          action: its index, int64 `[]`.
          rates: the present ones, float32 `[K]`.
          kept_rates: those of the weights that a step back goes to, `[K]`.
          initial_rates: those that the training began with, `[K]`.
          progress: the share of the training's steps that are done, `[]`.
        """
        outcomes = [
            each.rate_after(rates, kept_rates)
            if isinstance(each, StepBack)
            else each.next_rate(rates, initial_rates, progress)
            for each in self._actions
        ]
        outcome = tf.gather(tf.stack(outcomes), action)
        low, high = self._rate_bounds
        # Holding a rate that lies outside the bounds is holding it.
        return tf.where(outcome == rates, rates, tf.clip_by_value(outcome, low, high))
