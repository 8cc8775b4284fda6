"""Which of a model's kernels are watched."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import keras


def _watchable(model: keras.Model) -> list[Any]:
    """Return what positions count: kernels, else any trainable matrices, else any weights.

    Embeddings and LoRA's factors are matrices that bear other names.
    """
    trainable = list(model.trainable_variables)
    matrices = [variable for variable in trainable if len(variable.shape) >= 2]
    return _kernels(model) or matrices or trainable


def _kernels(model: keras.Model) -> list[Any]:
    """The trainable kernels in the order of the layers; attention's and RNNs' are among them."""
    return [
        variable
        for variable in model.trainable_variables
        if variable.name.endswith("kernel") and len(variable.shape) >= 2
    ]


def watched_kernels(model: keras.Model, layers: Sequence[str | int] | None) -> list[Any]:
    """Finds the kernels to watch.

    Args:
      model: a built Keras model.
      layers: names of layers, or positions among the model's trainable kernels. None stands for
        the first convolution (a kernel of rank 3 or more), or the first kernel where there is none.

    Returns:
      The kernels' Keras variables, in the order of `layers`. Where a model has no kernel that is
      trained, positions are those among its other trainable weights; of none, none is watched.

    Raises:
      ValueError: the model has no trainable kernel, or not the layer that was asked for.
    """
    kernels = _watchable(model)
    if layers is not None and not kernels and not any(isinstance(n, str) for n in layers):
        return []
    if not kernels or (layers is None and len(kernels[0].shape) < 2):
        raise ValueError(
            f"Model {model.name!r} has no trainable kernel to watch (Dense, convolution, recurrent "
            "and attention layers have one). Unfreeze such a layer, or leave the weights out of "
            "the state: QANCallback(observations=[TrainingState()])."
        )
    if layers is None:
        return [next((kernel for kernel in kernels if len(kernel.shape) >= 3), kernels[0])]
    found = []
    owners = [kernel.path.split("/")[:-1] for kernel in kernels]
    for layer in layers:
        if isinstance(layer, int):
            if not -len(kernels) <= layer < len(kernels):
                raise ValueError(
                    f"Layer {layer} is to be watched, but model {model.name!r} has {len(kernels)} "
                    f"trainable kernels; expected a position from 0 to {len(kernels) - 1}."
                )
            found.append(kernels[layer])
            continue
        of_layer = [k for k, owner in zip(kernels, owners, strict=True) if layer in owner]
        if not of_layer:
            names = sorted({name for owner in owners for name in owner[-1:]})
            near = difflib.get_close_matches(layer, names, n=3)
            hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
            raise ValueError(
                f"Layer {layer!r} is to be watched, but model {model.name!r} has no layer of that "
                f"name with a trainable kernel. {hint}Layers with one: {', '.join(names)}. "
                "Keras numbers unnamed layers anew in each model, so give watched layers a name."
            )
        found.extend(of_layer)
    return found
