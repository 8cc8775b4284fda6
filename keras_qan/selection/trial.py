"""A rule that turns selection off where it does not pay."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_qan.selection.base import Selector
from keras_qan.selection.uniform import Uniform
from keras_qan.utils.validation import check, check_integer

#: With the selection and without, in an order that no straight or square trend of the loss favours
#: (Thue-Morse), over again.
_ORDER = (True, False, False, True, False, True, True, False)


class SelectionTrial(keras.callbacks.Callback):
    """Tries a selector's choice, and turns it off where it does not pay.

    After a first epoch, which only says where the validation loss stands, epochs are trained by
    turns with the choice and without, and each one's fall of the log validation loss is noted. They
    are compared in pairs. If the mean difference is more than its standard error, the choice stays
    for the rest of the training; else it is turned off. One message says which.

    Args:
      selector: whose dataset the model is trained on; its own callback, or a `QANCallback` with its
        actions, is needed beside.
      epochs: how many are compared, a multiple of 8, so that no trend of the loss favours either.
        Defaults to 8.
      verbose: 0 for no message. Defaults to 1.

    Attributes:
      pays: whether the choice stayed on; None until that is known.
      gains: the fall of the log validation loss with the choice less that without, for each pair.

    Raises:
      ValueError: an argument is out of range; or in `fit`, where the epochs are too few, or there
        is no positive validation loss at the end of each.

    Example:
      selector = ClassMix(data, num_classes=10, batch_size=128, least=6)
      trial = SelectionTrial(selector)
      model.fit(
          selector.dataset(),
          steps_per_epoch=selector.steps_per_epoch,
          epochs=20,
          shuffle=False,
          validation_data=validation,
          callbacks=[selector.callback(), trial],
      )
    """

    def __init__(self, selector: Selector, epochs: int = 8, verbose: int = 1) -> None:
        super().__init__()
        is_choosing = isinstance(selector, Selector) and not isinstance(selector, Uniform)
        check(is_choosing, "SelectionTrial's selector", selector, "a ClassMix, LossRank or Prune")
        self.selector = selector
        self.epochs = check_integer("epochs", epochs, 1)
        check(epochs % len(_ORDER) == 0, "SelectionTrial's epochs", epochs, "a multiple of 8")
        self.verbose = verbose
        self.pays: bool | None = None
        self.gains: list[float] = []
        self._before = math.nan
        self._falls: list[float] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Begin anew, with the choice on."""
        check(
            self.params.get("epochs", 0) >= self.epochs + 2,
            "The number of fit's epochs",
            self.params.get("epochs"),
            f"at least {self.epochs + 2}, one before SelectionTrial's {self.epochs} and one after",
        )
        self.pays, self.gains, self._falls, self._before = None, [], [], math.nan
        self.selector.turn_on()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Note the epoch's fall, and turn the choice on or off for the next one."""
        if self.pays is not None:
            return
        loss = (logs or {}).get("val_loss", math.nan)
        hint = "Give fit validation_data, validated at every epoch."
        check(loss > 0.0, "SelectionTrial's val_loss", loss, "a positive validation loss", hint)
        now = math.log(loss)
        if not math.isnan(self._before):
            self._falls.append(self._before - now)
        self._before = now
        if len(self._falls) < self.epochs:
            self._choose(_ORDER[len(self._falls) % len(_ORDER)])
        else:
            self._decide()

    def _decide(self) -> None:
        pairs = np.reshape(self._falls, [-1, 2])
        signs = np.where(np.resize(_ORDER, self.epochs)[::2], 1.0, -1.0)
        self.gains = ((pairs[:, 0] - pairs[:, 1]) * signs).tolist()
        mean = float(np.mean(self.gains))
        error = float(np.std(self.gains, ddof=1) / math.sqrt(len(self.gains)))
        self.pays = mean > error
        self._choose(self.pays)
        if self.verbose:
            what = "stays on" if self.pays else "is turned off"
            print(
                f"\nThe choice of {type(self.selector).__name__} {what}: an epoch with it lowered "
                f"the log validation loss by {mean:+.3f} ± {error:.3f} more than one without.",
                flush=True,
            )

    def _choose(self, is_on: bool) -> None:
        if is_on:
            self.selector.turn_on()
        else:
            self.selector.turn_off()
