"""Warnings of a callback about the training that it is in."""

from __future__ import annotations

import warnings

from keras_qan.qan.controller import PARTS_OF_TRAINING


def warn_of_interval(every: int, num_steps: int) -> None:
    """Warn that no decision follows the first one in a `fit` of so many steps."""
    # A few steps are a trial or a stream; nobody expects decisions of them.
    if every >= num_steps >= PARTS_OF_TRAINING:
        _warn(
            f"QANCallback got decide_every={every}, and this fit has {num_steps} steps: no "
            "decision follows the first one. Expected fewer steps between decisions, for "
            f"example {num_steps // PARTS_OF_TRAINING}."
        )


def warn_of_nothing_to_steer(has_loss: bool, batches: int | None) -> None:
    """Warn that nothing is steered, for want of a loss, or of an optimizer that moves.

    Args:
      has_loss: whether a training loss can be read.
      batches: those before the optimizer's first step; None where it took none.
    """
    what = "its optimizer takes no steps" if has_loss else "no training loss can be read"
    if has_loss and batches is not None:
        what = f"its optimizer takes its first step after {batches} batches"
    _warn(
        f"QANCallback steers nothing in this fit: {what}. Expected a train step that "
        "updates model.optimizer at each batch or at each second one, and reports a number as "
        "'loss' in its logs."
    )


def warn_of_loss(loss: float, what: str) -> None:
    """Warn of a training loss that is not positive, and say what is done for it."""
    _warn(
        f"QANCallback {what}: the training loss is {loss:.4g}; expected a positive one, as its "
        "state and reward are logarithms. Add a constant to the loss."
    )


def warn_of_order(step: int, rate: float) -> None:
    """Warn that the rate is held because the loss does not fall as its slopes say."""
    _warn(
        f"QANCallback holds the learning rate at {rate:.3g} from step {step} on: the training loss "
        "does not fall as its gradients promise. The batches come in an order, the data changed, "
        "or the reported loss is not the one that is minimised. Shuffle the data."
    )


def warn_of_divergence(step: int, rate: float) -> None:
    """Warn that a training is ended because its loss is not finite."""
    _warn(
        f"The training loss is not finite at step {step}, with learning rate {rate:.3g}: QAN ends "
        "this training, and counts it as its worst outcome. Lower the upper one of rate_bounds "
        "if this keeps happening."
    )


def warn_of_total_steps(total: int, num_steps: int) -> None:
    """Warn that a training is longer than it was said to be."""
    _warn(
        f"QANCallback got total_steps={total}, and its fits, this one included, have {num_steps} "
        "steps: they are taken for its length. Expected the steps of all fits together."
    )


def warn_of_unknown_epochs() -> None:
    """Warn that a training of several epochs did not say how many there are."""
    _warn(
        "QANCallback was not told how many epochs this training has, so that the learning rate "
        "does not fall to its end. Expected a list of callbacks in fit, or in a loop of your own "
        "keras.callbacks.CallbackList(callbacks, model=model, epochs=..., steps=...), or "
        "QANCallback(total_steps=...)."
    )


def warn_of_no_validation() -> None:
    """Warn that there are no best weights to restore."""
    _warn(
        "QANCallback got restore_best=True, and this fit reported no finite 'val_loss': its last "
        "weights stay. Give fit validation_data."
    )


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)
