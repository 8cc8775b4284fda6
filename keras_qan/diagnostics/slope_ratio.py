"""A callback that logs the slope ratio of a training."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_qan.qan.model_access import require_trainable
from keras_qan.qan.slope_ratio import LONGEST_WINDOW, SlopeEstimate, SlopeMeter
from keras_qan.qan.variables import synchronize, value_of
from keras_qan.storage.serialization import configurable
from keras_qan.utils.backend import Keras3Callback, without_gradients
from keras_qan.utils.callback_list import running_callback_lists
from keras_qan.utils.validation import check_integer


@configurable
class SlopeRatio(Keras3Callback, keras.callbacks.Callback):
    """Logs the slope ratio, which tells whether the learning rate is too low or too high.

    The slope ratio is the slope of the loss along an update at its end, on the next batch, over
    the one at its start. It has no unit. Where the rate is far too low it is about 0.3 to 0.9,
    the lower the noisier the gradients; at good rates it is near zero or a little below; at rates
    that are too high it is clearly negative. The gradients come back out of the optimizer's
    slots: no pass and no batch is added, and the training is bit for bit the same. It moves to the
    front of the fit's callbacks, to see each step before another callback sets the next rate. Where
    another one changes weights within a window, as a step back of `QANCallback` does, the steps on
    both sides are no pair.

    At each epoch's end `slope_ratio` and `slope_ratio_error`, its standard error, join the logs,
    from the newest window (not-a-number before the first): they are in the history, and in what
    later callbacks of the list, as TensorBoard or CSVLogger, write. Where the optimizer does not
    give its gradients back, a warning says why and nothing is logged.

    Args:
      every: steps from the beginning of one window to that of the next. Defaults to 100.
      window: steps in a window, from 4 to 32. Defaults to 16.

    Attributes:
      estimates: the step at the end of each window, and its `SlopeEstimate`.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> import numpy as np
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
      >>> model.compile("adam", "mse")
      >>> x, y = np.ones((64, 4)), np.ones((64, 1))
      >>> watch = SlopeRatio(every=10, window=4)
      >>> history = model.fit(x, y, batch_size=4, verbose=0, callbacks=[watch]).history
      >>> sorted(history)
      ['loss', 'slope_ratio', 'slope_ratio_error']
    """

    def __init__(self, every: int = 100, window: int = 16) -> None:
        super().__init__()
        self.every = check_integer("SlopeRatio's every", every, 5)
        self.window = check_integer("SlopeRatio's window", window, 4, LONGEST_WINDOW)
        if self.window >= self.every:
            raise ValueError(
                f"SlopeRatio got window={window} and every={every}; expected a window that is "
                "shorter than the steps from one to the next."
            )
        self.estimates: list[tuple[int, SlopeEstimate]] = []
        self._meter: SlopeMeter | None = None
        self._step = 0
        self._mark: np.ndarray | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Start counting steps."""
        require_trainable(self.model)
        _move_to_front(self)
        self.estimates, self._step, self._mark = [], 0, None
        self._meter = SlopeMeter(self.model)
        self._meter.open()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Begin anew from weights that another callback has changed since the last step."""
        mark, self._mark = self._mark, None
        if mark is None or self._meter is None:
            return
        if not np.array_equal(mark, _mark_of(self.model), equal_nan=True):
            self._meter.begin()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Read weights and slots within a window."""
        meter = self._meter
        if meter is None:
            raise RuntimeError(
                "SlopeRatio got a hook of Keras outside of fit. In a training loop of your own, "
                "call on_train_begin() first."
            )
        self._step += 1
        if meter.wants_step():
            synchronize(self.model)
            meter.add_step()
            if meter.reason is not None:
                self._warn(meter.reason)
            else:
                self._mark = _mark_of(self.model)
        # The first step of a window only sets its start.
        if (self._step - 1) % self.every == self.window:
            self._take()
            self._mark = None
            meter.open(after=self.every - self.window - 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Add the last estimate of this epoch to the logs."""
        if logs is None or self._meter is None or self._meter.reason is not None:
            return
        estimate = self._meter.estimate()
        if not estimate.is_known and self.estimates:
            estimate = self.estimates[-1][1]
        logs["slope_ratio"], logs["slope_ratio_error"] = estimate.ratio, estimate.error

    def _take(self) -> None:
        assert self._meter is not None
        estimate = self._meter.estimate()
        if estimate.num_pairs:
            self.estimates.append((self._step, estimate))

    @staticmethod
    def _warn(reason: str) -> None:
        warnings.warn(
            f"SlopeRatio logs nothing in this fit: {reason}.", RuntimeWarning, stacklevel=2
        )


def _mark_of(model: keras.Model) -> np.ndarray:
    """Return the sum of each trained weight, which tells whether it was changed."""
    with without_gradients():
        sums = [ops.sum(ops.cast(value_of(v), "float32")) for v in model.trainable_variables]
        return np.asarray(ops.convert_to_numpy(ops.stack(sums)))


def _move_to_front(own: keras.callbacks.Callback) -> None:
    """Make a callback the first of its `fit`; to be called from `on_train_begin`.

    Those before it have begun by then, and Keras goes on with the place behind its former one.
    """
    for found in running_callback_lists():
        if own in found.callbacks:
            found.callbacks.remove(own)
            found.callbacks.insert(0, own)
            return
