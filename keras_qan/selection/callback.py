"""A selector among the callbacks of Keras's `fit`."""

from __future__ import annotations

from typing import Any

import keras

from keras_qan.selection.base import Selector


class SelectorCallback(keras.callbacks.Callback):
    """Tells a selector how far the training is, and the losses of the examples.

    Where several callbacks of one `fit` look after the same selector, the first one does it.

    Args:
      selector: whose dataset the model is trained on.

    Raises:
      ValueError: in `fit`, where no `steps_per_epoch` was given, or the data do not come from the
        selector.
    """

    def __init__(self, selector: Selector) -> None:
        super().__init__()
        self.selector = selector
        self._recorder = selector.recorder()
        self._is_in_charge = False
        self._done = 0
        self._before_epoch = 0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Takes charge of the selector, and wraps the loss if it is needed."""
        self._is_in_charge = self.selector.take_charge(self.params)
        if not self._is_in_charge:
            return
        if self.params.get("steps") is None:
            raise ValueError(
                f"fit got no steps_per_epoch; expected one, because the batches of "
                f"{type(self.selector).__name__} never end. Write "
                "fit(selector.dataset(), steps_per_epoch=selector.steps_per_epoch)."
            )
        self._recorder = self.selector.recorder()
        self._done, self._before_epoch, self._has_begun = 0, 0, False

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Begins with the first epoch, when it is known how many there are left."""
        if not self._is_in_charge:
            return
        self._before_epoch = self._done
        if self._has_begun:
            return
        self._has_begun = True
        steps_per_call = int(self.model.steps_per_execution)
        self.selector.begin(
            num_steps=self.params["steps"] * (self.params.get("epochs", 1) - epoch),
            steps_per_call=steps_per_call,
            num_replicas=self.model.distribute_strategy.num_replicas_in_sync,
        )
        if self._recorder is not None:
            self._recorder.attach(self.model, steps_per_call)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Counts the steps since the last call, and hands over their losses."""
        if not self._is_in_charge:
            return
        steps = self._before_epoch + batch + 1 - self._done
        self._done += steps
        losses = None if self._recorder is None else self._recorder.take(steps)
        self.selector.advance(steps, losses)

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Losses of a validation are not noted."""
        if self._recorder is not None:
            self._recorder.is_evaluating = True

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Losses are noted again."""
        if self._recorder is not None:
            self._recorder.is_evaluating = False

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Leaves selector and model to themselves."""
        if not self._is_in_charge:
            return
        self._is_in_charge = False
        self.selector.end()
        if self._recorder is not None:
            self._recorder.detach()

    def __deepcopy__(self, memo: dict[int, Any]) -> SelectorCallback:
        """A callback for another training with the same selector."""
        copy = type(self)(self.selector)
        memo[id(self)] = copy
        return copy
