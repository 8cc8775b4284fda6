"""A selector among the callbacks of Keras's `fit`."""

from __future__ import annotations

from typing import Any, Protocol

import keras
import tensorflow as tf

from keras_qan.selection.loss_recorder import LossRecorder


class _Selector(Protocol):
    """Methods of a `Selector` that a training loop calls."""

    def take_charge(self, fit: object) -> bool: ...

    def recorder(self) -> LossRecorder | None: ...

    def goes_on_with(self, optimizer: object) -> bool: ...

    def begin(
        self, num_steps: int | None = None, steps_per_call: int = 1, num_replicas: int = 1
    ) -> None: ...

    def advance(
        self, steps: int = 1, losses: tf.Tensor | None = None, are_weighted: bool = False
    ) -> None: ...

    def end(self) -> None: ...


class SelectorCallback(keras.callbacks.Callback):
    """Reports the progress of the training, and the losses of the examples, to a selector.

    Of several callbacks with the same selector in one `fit`, the first one reports.

    Args:
      selector: whose dataset the model is trained on.

    Raises:
      ValueError: in `fit`, where no `steps_per_epoch` was given, or the data do not come from the
        selector.
    """

    def __init__(self, selector: _Selector) -> None:
        super().__init__()
        self.selector = selector
        self._recorder = selector.recorder()
        self._is_in_charge = False
        self._done = 0
        self._before_epoch = 0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Take charge of the selector, unless another callback has."""
        if (self.params or {}).get("steps") is None:
            raise ValueError(
                f"fit got no steps_per_epoch; expected one, because the batches of "
                f"{type(self.selector).__name__} never end. Write "
                "fit(selector.dataset(), steps_per_epoch=selector.steps_per_epoch), with a list of "
                "callbacks. In a loop of your own, call the selector's begin, advance and end."
            )
        self._is_in_charge = self.selector.take_charge(self.params)
        if not self._is_in_charge:
            return
        self._recorder = self.selector.recorder()
        self._done, self._before_epoch, self._has_begun = 0, 0, False

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Begin with the first epoch, when it is known how many are left, and record losses."""
        if not self._is_in_charge:
            return
        self._before_epoch = self._done
        if self._has_begun:
            return
        self._has_begun = True
        steps_per_call = int(self.model.steps_per_execution)
        goes_on = self.selector.goes_on_with(self.model.optimizer)
        num_steps = self.params["steps"] * (self.params.get("epochs", 1) - epoch)
        self.selector.begin(
            num_steps=None if goes_on else num_steps,
            steps_per_call=steps_per_call,
            num_replicas=self.model.distribute_strategy.num_replicas_in_sync,
        )
        if self._recorder is not None:
            self._recorder.attach(self.model, steps_per_call)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Report the steps since the last call, and their losses."""
        if not self._is_in_charge:
            return
        steps = self._before_epoch + batch + 1 - self._done
        self._done += steps
        if self._recorder is None:
            self.selector.advance(steps)
        else:
            losses = self._recorder.take(steps)
            self.selector.advance(steps, losses, self._recorder.is_weighted)

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Pause the recording of losses."""
        if self._recorder is not None:
            self._recorder.is_evaluating = True

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Record losses again."""
        if self._recorder is not None:
            self._recorder.is_evaluating = False

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Let go of selector and model."""
        if not self._is_in_charge:
            return
        self._is_in_charge = False
        self.selector.end()
        if self._recorder is not None:
            self._recorder.detach()

    def __deepcopy__(self, memo: dict[int, Any]) -> SelectorCallback:
        """Make a callback for another training with the same selector."""
        copy = type(self)(self.selector)
        memo[id(self)] = copy
        return copy
