"""The losses of a batch's examples, by Keras's own path from targets and outputs to the loss."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class ExampleLosses:
    """The losses of examples, by the losses and `loss_weights` that a model was compiled with.

    Targets are aligned with outputs, masks and `ignore_class` leave steps out, and sample weights
    are multiplied in, all by Keras's own code: only the reduction over the batch is left out.

    Args:
      compiled: the `CompileLoss` of a compiled model.
      of_batch: whether a loss is its example's part of the batch's loss, so that their mean is
        what Keras gives for this batch; otherwise it is what Keras gives for a batch of that
        example alone, but for `mean_with_sample_weight`, which keeps the weight. They differ where
        examples have different numbers of real steps. Defaults to False.
      stand_in: a loss to take in place of each of the model's. Defaults to none.
    """

    def __init__(
        self, compiled: Any, *, of_batch: bool = False, stand_in: keras.losses.Loss | None = None
    ) -> None:
        self._compiled, self._of_batch, self._stand_in = compiled, of_batch, stand_in
        self._by_example: Any = None

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute the losses.

        Args:
          y: targets, as the model's `compute_loss` gets them.
          y_pred: outputs, each `[B, ...]`.
          sample_weight: as `compute_loss` gets it. Defaults to none.

        Returns:
          floats `[B]`, summed over outputs times `loss_weights`.

        Raises:
          ValueError: a loss does not tell examples apart.
        """
        if self._by_example is None:
            self._by_example = self._unreduced(y, y_pred)
        dtypes = [one.dtype for one in keras.tree.flatten(y_pred)]
        self._by_example._dtype = keras.backend.result_type(self._compiled.dtype, *dtypes)
        return self._by_example(y, y_pred, sample_weight)

    def _unreduced(self, y: Any, y_pred: Any) -> Any:
        """A copy of the compiled losses that leaves the batch's axis as it is.

        Keras has no public way to them: its tests of versions are those of this class.
        """
        if not self._compiled.built:
            self._compiled.build(y, y_pred)
        twin = object.__new__(type(self._compiled))
        twin.__dict__.update(self._compiled.__dict__)
        twin._flat_losses = [
            part._replace(loss=_LossOfExamples(part.loss, self._of_batch, self._stand_in))
            for part in self._compiled._flat_losses
        ]
        twin._metrics = [None] * len(twin._flat_losses)  # no running means of each output's loss
        return twin


class _LossOfExamples:
    """A loss of one output without its reduction over the batch.

    Args:
      loss: Keras's.
      of_batch: see `ExampleLosses`.
      stand_in: a loss to compute in its place, reduced as it is. Defaults to none.
    """

    def __init__(self, loss: Any, of_batch: bool, stand_in: Any = None) -> None:
        if type(loss).__call__ is not keras.losses.Loss.__call__:
            raise ValueError(
                f"The loss {type(loss).__name__} has a __call__ of its own, so that the losses of "
                "examples are not known; expected one that defines call(y_true, y_pred) alone."
            )
        self._loss, self._of_batch = stand_in or loss, of_batch
        self._reduction = loss.reduction

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        dtype = keras.backend.result_type(self._loss.dtype, y_pred.dtype)
        mask = _mask_of(y_pred)
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.cast(y_pred, dtype)
        values = ops.convert_to_tensor(self._loss.call(ops.cast(y_true, dtype), y_pred))
        if not len(values.shape):
            raise ValueError(
                f"The loss {self._loss.name!r} gives one number for the whole batch; expected "
                "one for each example, so that they can be told apart. Leave the mean over the "
                "batch to Keras."
            )
        own_mask = _mask_of(values)
        if mask is not None and own_mask is not None:
            mask = ops.logical_and(mask, own_mask)
        mask = own_mask if mask is None else mask
        weighted = _rows(values, mask, sample_weight)
        if self._reduction == "sum":
            size = ops.cast(ops.shape(weighted)[0], weighted.dtype)
            return weighted * size if self._of_batch else weighted
        by_weight = self._reduction == "mean_with_sample_weight" and self._of_batch
        counts = _rows(ops.ones_like(values), mask, sample_weight if by_weight else None)
        if self._of_batch:
            counts = ops.mean(counts)
        return ops.divide_no_nan(weighted, counts)


class _Given(keras.losses.Loss):
    """Values that are losses already, to be weighted and masked as Keras does."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        del y_true
        return y_pred


def _rows(values: Any, mask: Any, sample_weight: Any) -> Any:
    """Sum values `[B, ...]` times weights and mask over all axes but the first, `[B]`."""
    given = _Given(reduction="none", dtype=keras.backend.standardize_dtype(values.dtype))
    masked = ops.add(values, ops.zeros_like(values))  # another tensor, to be marked
    masked._keras_mask = mask
    weighted = given(values, masked, sample_weight)
    return ops.sum(ops.reshape(weighted, (ops.shape(weighted)[0], -1)), axis=1)


def _mask_of(tensor: Any) -> Any:
    return getattr(tensor, "_keras_mask", None)
