"""Layers whose channels are on the last axis: Dense, EinsumDense, Embedding and PReLU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import keras

from net2net.channel_map import ChannelMap
from net2net.errors import RefusalError
from net2net.rules.base import (
    CallView,
    GrownLayer,
    MappedAxis,
    Port,
    Rule,
    Weight,
    WeightAxis,
    copy_axis,
    divide_axis,
    refuse_axis,
    weight,
)
from net2net.rules.elementwise import ElementwiseRule, require_elementwise
from net2net.rules.registry import register_rule


def require_plain_kernel(layer: Any) -> None:
    """Refuse a layer whose kernel is quantised or has LoRA matrices beside it."""
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        raise RefusalError(
            "its kernel is quantised or adapted by LoRA", "Grow the model before doing that."
        )


class DenseRule(Rule):
    """y = φ(x W + b): W [in, out] is divided over `in` and copied over `out`."""

    def width(self, layer: Any) -> int:
        """Return the number of units."""
        return int(layer.units)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on the last axes; pass those on other axes (time, place) through."""
        require_plain_kernel(call.layer)
        passes = mapped.axis != len(call.inputs[0]) - 1
        if passes or mapped.port.side == "out":
            require_elementwise(call.layer.activation, len(call.outputs[0]), mapped.axis)
        return [MappedAxis(mapped.port.opposite, mapped.axis, mapped.map)] if passes else []

    def can_give_shares(self, layer: Any) -> bool:
        """Return whether it is linear."""
        return layer.activation in (None, keras.activations.linear)

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of units."""
        return {**config, "units": grown.outputs[0][-1]}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return kernel and bias."""
        layer, made = grown.layer, grown.output(-1)
        mark = divide_axis if grown.gives_shares else copy_axis
        axes = {0: divide_axis(grown.input(-1)), -1: mark(made)}
        found = [weight(layer.kernel, layer.kernel_initializer, axes)]
        if layer.bias is not None:
            found.append(weight(layer.bias, layer.bias_initializer, {0: mark(made)}))
        return found


class EmbeddingRule(Rule):
    """Table [words, size]: copied over `size`."""

    def width(self, layer: Any) -> int:
        """Return the size of a word's vector."""
        return int(layer.output_dim)

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on the last axis of the output."""
        require_plain_kernel(call.layer)
        if mapped.port.side == "in" or mapped.axis != len(call.outputs[0]) - 1:
            raise refuse_axis(call, mapped)
        return []

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new size."""
        return {**config, "output_dim": grown.outputs[0][-1]}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the table."""
        layer, axes = grown.layer, {-1: copy_axis(grown.output(-1))}
        return [weight(layer.embeddings, layer.embeddings_initializer, axes)]


class ReversibleEmbeddingRule(EmbeddingRule):
    """Table [words, size], and back with its transpose or a matrix [size, words] of its own.

    The matrix of its own is divided over `size`. A tied table is copied and cannot be divided, so
    that what comes back must have its channels multiplied by shares.
    """

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Take maps on the last axis of the embedding, on either side of the layer."""
        if not _is_reverse(call):
            return super().propagate(call, mapped)
        require_plain_kernel(call.layer)
        if mapped.port.side == "out" or mapped.axis != len(call.inputs[0]) - 1:
            raise refuse_axis(call, mapped)
        if call.layer.tie_weights and not call.gets_shares:
            raise RefusalError(
                "its table is tied: used with reverse=True too, on what comes from no layer that "
                "could divide it",
                "Let a normalisation with a scale, or a linear Dense, come right before the call "
                "with reverse=True, read by nothing else; or build it with tie_weights=False.",
            )
        return []

    def needs_shares(self, call: Any) -> bool:
        """Return whether a call multiplies with the tied table."""
        return _is_reverse(call) and bool(call.layer.tie_weights)

    def tied(self, mapped: MappedAxis, call: CallView, other: CallView) -> MappedAxis:
        """Return the same map on the side where the other call has the embedding."""
        if _is_reverse(call) == _is_reverse(other):
            return mapped
        return replace(mapped, port=Port("out" if mapped.port.side == "in" else "in"))

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new size."""
        one = _embedding_map(grown)
        return {**config, "output_dim": one.new_size} if one else config

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the table, and the matrix that leads back if there is one."""
        layer, one = grown.layer, _embedding_map(grown)
        found = [weight(layer.embeddings, layer.embeddings_initializer, {-1: copy_axis(one)})]
        if not layer.tie_weights:
            axes = {0: divide_axis(one)}
            found.append(weight(layer.reverse_embeddings, layer.embeddings_initializer, axes))
        return found


def _is_reverse(call: Any) -> bool:
    return bool(call.settings.get("reverse", False))


def _embedding_map(grown: GrownLayer) -> ChannelMap | None:
    """Return the map of the embedding's size, on whichever side the first call has it."""
    return grown.output(-1) or grown.input(-1)


class EinsumDenseRule(Rule):
    """A letter only in input and kernel is divided; only in kernel and output, copied.

    A letter in all three belongs to one channel each (as in a depthwise layer) and is copied; a
    letter in input and output alone passes through.
    """

    def width(self, layer: Any) -> int | None:
        """Return the size of the last axis, where the kernel makes it."""
        _, kernel, output = _letters(layer)
        made = output[-1] in kernel
        return int(layer.kernel.shape[kernel.index(output[-1])]) if layer.built and made else None

    def propagate(self, call: CallView, mapped: MappedAxis) -> Iterable[MappedAxis]:
        """Return the map on the other side where the letter stands on both."""
        layer = call.layer
        require_plain_kernel(layer)
        entering, kernel, output = _letters(layer)
        if len(entering) != len(call.inputs[0]):
            raise RefusalError(f"its equation '{layer.equation}' leaves axes unnamed")
        here, there = (entering, output) if mapped.port.side == "in" else (output, entering)
        letter = here[mapped.axis]
        if letter in output:
            require_elementwise(layer.activation, len(output), output.index(letter))
        if letter not in there:
            return []
        if letter not in kernel and layer.bias_axes and letter in layer.bias_axes:
            raise RefusalError("its bias has positions on the axis to be copied")
        return [MappedAxis(mapped.port.opposite, there.index(letter), mapped.map)]

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new output shape."""
        if not grown.maps:
            return config
        given = config["output_shape"]
        given = (given,) if isinstance(given, int) else tuple(given)
        pairs = zip(given, grown.outputs[0][-len(given) :], strict=True)
        return {**config, "output_shape": tuple(o if o is None else n for o, n in pairs)}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return kernel and bias."""
        layer = grown.layer
        entering, kernel, output = _letters(layer)
        axes: dict[int, WeightAxis | None] = {}
        for axis, letter in enumerate(kernel):
            if letter in output:
                axes[axis] = copy_axis(grown.output(output.index(letter)))
            elif letter in entering:
                axes[axis] = divide_axis(grown.input(entering.index(letter)))
        found = [weight(layer.kernel, layer.kernel_initializer, axes)]
        if layer.bias is not None:
            # The bias is as the output, from its first named axis on; the others have size one.
            first = min(output.index(letter) for letter in layer.bias_axes)
            bias = {
                axis: copy_axis(grown.output(first + axis))
                for axis, letter in enumerate(output[first:])
                if letter in layer.bias_axes
            }
            found.append(weight(layer.bias, layer.bias_initializer, bias))
        return found


def _letters(layer: Any) -> tuple[str, str, str]:
    """Return the letters of input, kernel and output, with unnamed axes given letters too."""
    sides, output = layer.equation.replace(" ", "").split("->")
    entering, kernel = sides.split(",")
    if "..." in entering + output:
        rank = layer.input_spec.ndim if layer.input_spec is not None else len(entering) - 2
        unused = [c for c in "ABCDEFGHIJ" if c not in layer.equation]
        free = "".join(unused[: rank - len(entering.replace("...", ""))])
        entering, output = entering.replace("...", free), output.replace("...", free)
    return entering, kernel, output


class PReLURule(ElementwiseRule):
    """Copies the slopes along with their channels; axes with one shared slope stay."""

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the slopes, whose axes are the input's without the batch's."""
        layer: Any = grown.layer
        shared = layer.shared_axes or []
        free = [axis for axis in range(1, len(grown.inputs[0])) if axis not in shared]
        axes = {axis - 1: copy_axis(grown.input(axis)) for axis in free}
        return [weight(layer.alpha, layer.alpha_initializer, axes)]


register_rule(keras.layers.Dense, DenseRule())
register_rule(keras.layers.Embedding, EmbeddingRule())
if hasattr(keras.layers, "ReversibleEmbedding"):  # younger than the oldest Keras supported
    register_rule(keras.layers.ReversibleEmbedding, ReversibleEmbeddingRule())
register_rule(keras.layers.EinsumDense, EinsumDenseRule())
register_rule(keras.layers.PReLU, PReLURule())
