"""Models by name."""

import difflib
import re
from typing import TYPE_CHECKING

from keras_qan.utils.validation import check, check_integer, check_number

if TYPE_CHECKING:
    import keras

_PLAIN = ("mlp", "cnn", "cnn_bn")

# The sizes of Zagoruyko & Komodakis's tables that fit one machine, and two small ones.
_WIDE_EXAMPLES = ("wrn-10-1", "wrn-16-1", "wrn-16-4", "wrn-28-10", "wrn-40-4")


class UnknownModelError(ValueError):
    """There is no model of that name."""


def names() -> tuple[str, ...]:
    """Return the names that `build` knows; of `wrn-<depth>-<width>` some examples.

    Example:
        >>> names()[:3]
        ('mlp', 'cnn', 'cnn_bn')
    """
    return (*_PLAIN, *_WIDE_EXAMPLES)


def build(
    name: str,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    seed: int = 0,
    weight_decay: float = 0.0,
) -> "keras.Model":
    """Build a model by name, not compiled, with logits for output.

    The initial weights are a function of the arguments alone: each layer has its own seed, drawn
    from `seed`; the global seed is neither read nor set.

    * `mlp`: two hidden layers of 128.
    * `cnn`: 3×3 convolutions of 16 and 32 channels, each halved by max-pooling, then 64 hidden
      units: 16·C + 512 single kernels for inputs of C channels.
    * `cnn_bn`: the same with batch normalisation.
    * `wrn-<depth>-<width>`: a wide residual network; see `wide.wide_residual_network`.

    Args:
        name: one of `names()`, or `wrn-<depth>-<width>` with depth 10, 16, 22, 28, ...
        input_shape: (height, width, channels) of one input, each at least 1 and the sides at
            least 4; `mlp` takes any shape.
        num_classes: number of logits, at least 2.
        seed: seed of the initial weights, at least 0. Defaults to 0.
        weight_decay: λ of a penalty λ/2 · Σ w² on every kernel, added to the training loss; its
            gradient is λ·w. 5e-4 in the paper of the wide residual networks. Defaults to 0.

    Returns:
        A `keras.Model` from float32 [B, *input_shape] to float32 [B, num_classes].

    Raises:
        UnknownModelError: if there is no such model; near names are suggested.
        ValueError: if another argument is out of range.

    Example:
        >>> build("cnn", (8, 8, 1), 10).output_shape
        (None, 10)
    """
    shape = _checked_shape(name, input_shape)
    check_integer("num_classes", num_classes, 2, hint="Pass one more than the largest label.")
    hint = "Pass 0.0 for none, or 5e-4 as in the paper of the wide residual networks."
    check_number("weight_decay", weight_decay, 0, hint=hint)
    from keras_qan.models import plain
    from keras_qan.models.seeded import SeededLayers
    from keras_qan.models.wide import wide_residual_network

    layers = SeededLayers(seed, weight_decay)
    makers = {"mlp": plain.mlp, "cnn": plain.cnn, "cnn_bn": plain.cnn_bn}
    if name in makers:
        return makers[name](shape, num_classes, layers)
    depth, width = _depth_and_width(name)
    return wide_residual_network(shape, num_classes, layers, depth=depth, width=width)


def _depth_and_width(name: str) -> tuple[int, int]:
    match = re.fullmatch(r"wrn-(\d+)-(\d+)", name)
    if match is None:
        near = difflib.get_close_matches(name.lower(), names(), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "Try cnn."
        raise UnknownModelError(
            f"Received the model {name!r}; expected {', '.join(_PLAIN)} or wrn-<depth>-<width>. "
            f"{hint}"
        )
    depth, width = int(match[1]), int(match[2])
    if depth < 10 or depth % 6 != 4 or width < 1:
        below = max(10, depth - (depth - 4) % 6)
        raise ValueError(
            f"Received the model {name!r}; expected a depth of 10, 16, 22, 28, ... (6·n + 4, for "
            f"n blocks in each of three groups) and a width of at least 1. Try "
            f"wrn-{below}-{max(1, width)}."
        )
    return depth, width


def _checked_shape(name: str, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    shape = tuple(input_shape)
    fits = len(shape) == 3 and min(shape[:2], default=0) >= 4
    check(
        min(shape, default=0) >= 1 and (fits or name == "mlp"),
        f"input_shape for the model {name!r}",
        input_shape,
        "(height, width, channels) with sides of at least 4",
        "Pass the shape of one input, without the batch.",
    )
    return shape
