"""Dense: makes the channels of its last axis, and mixes those of its input's last axis.

Embedding: a table whose columns are channels.

EinsumDense: the equation says which axes are mixed, made, or passed through.

PReLU: an activation whose slopes are weights of the channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.errors import RefusalError
from net2net.rules.base import (
    CallView,
    CarriedWeight,
    GrownLayer,
    MappedOutput,
    Port,
    Rule,
    Target,
    Weight,
    copied,
    divided,
    refuse_axis,
    weight,
)
from net2net.rules.elementwise import ElementwiseRule, require_elementwise
from net2net.rules.registry import register_rule


class DenseRule(Rule):
    """y = φ(x W + b): W [in, out] is shared out over `in` and copied over `out`."""

    def width(self, layer: Any) -> int:
        """Return the number of units."""
        return int(layer.units)

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Take maps on the last axes; pass those on other axes (time, place) through."""
        require_plain(call.layer)
        if mapped.axis != len(call.inputs[0]) - 1:
            require_elementwise(call.layer.activation)
            other = Port("out") if mapped.port.side == "in" else Port("in")
            return [MappedOutput(other, mapped.axis, mapped.map)]
        if mapped.port.side == "out":
            require_elementwise(call.layer.activation)
        return []

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new number of units."""
        return {**config, "units": grown.outputs[0][-1]}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return kernel and bias."""
        layer, made = grown.layer, copied(grown.output(-1))
        kernel = weight(
            layer.kernel, layer.kernel_initializer, first=divided(grown.input(-1)), last=made
        )
        if layer.bias is None:
            return [kernel]
        return [kernel, weight(layer.bias, layer.bias_initializer, first=made)]


def require_plain(layer: Any) -> None:
    """Refuse a layer whose kernel is quantised or has LoRA matrices beside it."""
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        raise RefusalError(
            "its kernel is quantised or adapted by LoRA", "Grow the model before doing that."
        )


register_rule(keras.layers.Dense, DenseRule())


class EmbeddingRule(Rule):
    """Table [words, size]: copied over `size`."""

    def width(self, layer: Any) -> int:
        """Return the size of a word's vector."""
        return int(layer.output_dim)

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Take maps on the last axis of the output."""
        require_plain(call.layer)
        if mapped.port.side == "in" or mapped.axis != len(call.outputs[0]) - 1:
            raise refuse_axis(call, mapped)
        return []

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new size."""
        return {**config, "output_dim": grown.outputs[0][-1]}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the table."""
        layer = grown.layer
        made = copied(grown.output(-1))
        return [weight(layer.embeddings, layer.embeddings_initializer, last=made)]


register_rule(keras.layers.Embedding, EmbeddingRule())


class EinsumDenseRule(Rule):
    """A letter only in input and kernel is shared out; only in kernel and output, copied.

    A letter in all three belongs to one channel each (as in a depthwise layer) and is copied; a
    letter in input and output alone passes through.
    """

    def width(self, layer: Any) -> int | None:
        """Return the size of the last axis, where the kernel makes it."""
        _, kernel, output = _letters(layer)
        made = output[-1] in kernel
        return int(layer.kernel.shape[kernel.index(output[-1])]) if layer.built and made else None

    def spread(self, call: CallView, mapped: MappedOutput) -> Iterable[MappedOutput]:
        """Return the map on the other side where the letter stands on both."""
        layer = call.layer
        require_plain(layer)
        entering, kernel, output = _letters(layer)
        if len(entering) != len(call.inputs[0]):
            raise RefusalError(f"its equation '{layer.equation}' leaves axes unnamed")
        here, there = (entering, output) if mapped.port.side == "in" else (output, entering)
        letter = here[mapped.axis]
        if letter in output:
            require_elementwise(layer.activation)
        if letter not in there:
            return []
        if letter not in kernel and layer.bias_axes and letter in layer.bias_axes:
            raise RefusalError("its bias has positions on the axis to be copied")
        other = Port("out") if mapped.port.side == "in" else Port("in")
        return [MappedOutput(other, there.index(letter), mapped.map)]

    def target(self, call: CallView) -> Target:
        """Return the last axis of the output."""
        return Target(Port("out"), len(call.outputs[0]) - 1)

    def configure(self, config: dict[str, Any], grown: GrownLayer) -> dict[str, Any]:
        """Return the config with the new output shape."""
        if not grown.maps:
            return config
        given = config["output_shape"]
        given = (given,) if isinstance(given, int) else tuple(given)
        new = grown.outputs[0][-len(given) :]
        pairs = zip(given, new, strict=True)
        return {**config, "output_shape": tuple(o if o is None else n for o, n in pairs)}

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return kernel and bias."""
        layer = grown.layer
        entering, kernel, output = _letters(layer)
        axes: dict[int, CarriedWeight] = {}
        for axis, letter in enumerate(kernel):
            place = entering.index(letter) if letter in entering else None
            one = grown.output(output.index(letter)) if letter in output else None
            if one is None and place is not None and letter not in output:
                one = grown.input(place)
            if one is not None:
                axes[axis] = CarriedWeight(one, shares=letter not in output)
        found = [Weight(layer.kernel, axes, layer.kernel_initializer)]
        if layer.bias is not None:
            # The bias is as the output, from its first named axis on; the others have size one.
            first = min(output.index(letter) for letter in layer.bias_axes)
            bias = {}
            for axis, letter in enumerate(output[first:]):
                one = grown.output(first + axis)
                if one is not None and letter in layer.bias_axes:
                    bias[axis] = CarriedWeight(one, shares=False)
            found.append(Weight(layer.bias, bias, layer.bias_initializer))
        return found


def _letters(layer: Any) -> tuple[str, str, str]:
    sides, output = layer.equation.replace(" ", "").split("->")
    entering, kernel = sides.split(",")
    if "..." in entering + output:
        # Unnamed axes get letters of their own, as many as the input has.
        rank = layer.input_spec.ndim if layer.input_spec is not None else len(entering) - 2
        unused = [c for c in "ABCDEFGHIJ" if c not in layer.equation]
        free = "".join(unused[: rank - len(entering.replace("...", ""))])
        entering, output = entering.replace("...", free), output.replace("...", free)
    return entering, kernel, output


register_rule(keras.layers.EinsumDense, EinsumDenseRule())


class PReLURule(ElementwiseRule):
    """Copies the slopes along with their channels; axes with one shared slope stay."""

    def weights(self, grown: GrownLayer) -> list[Weight]:
        """Return the slopes, whose axes are the input's without the batch's."""
        layer: Any = grown.layer
        fixed = layer.shared_axes or []
        free = range(1, len(grown.inputs[0]))
        maps = {axis - 1: copied(grown.input(axis)) for axis in free if axis not in fixed}
        axes = {axis: one for axis, one in maps.items() if one}
        return [Weight(layer.alpha, axes, layer.alpha_initializer)]


register_rule(keras.layers.PReLU, PReLURule())
