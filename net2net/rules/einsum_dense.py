"""EinsumDense: the equation says which axes are mixed, made, or passed through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.errors import Obstacle
from net2net.rules.base import CallView, Carried, Grown, Mapped, Port, Rule, Target, Weight
from net2net.rules.dense import require_plain
from net2net.rules.elementwise import require_elementwise
from net2net.rules.registry import register_rule


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

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Return the map on the other side where the letter stands on both."""
        layer = call.layer
        require_plain(layer)
        entering, kernel, output = _letters(layer)
        if len(entering) != len(call.inputs[0]):
            raise Obstacle(f"its equation '{layer.equation}' leaves axes unnamed")
        here, there = (entering, output) if mapped.port.side == "in" else (output, entering)
        letter = here[mapped.axis]
        if letter in output:
            require_elementwise(layer.activation)
        if letter not in there:
            return []
        if letter not in kernel and layer.bias_axes and letter in layer.bias_axes:
            raise Obstacle("its bias has positions on the axis to be copied")
        other = Port("out") if mapped.port.side == "in" else Port("in")
        return [Mapped(other, there.index(letter), mapped.map)]

    def target(self, call: CallView) -> Target:
        """Return the last axis of the output."""
        return Target(Port("out"), len(call.outputs[0]) - 1)

    def configure(self, config: dict[str, Any], grown: Grown) -> dict[str, Any]:
        """Return the config with the new output shape."""
        if not grown.maps:
            return config
        given = config["output_shape"]
        given = (given,) if isinstance(given, int) else tuple(given)
        new = grown.outputs[0][-len(given) :]
        pairs = zip(given, new, strict=True)
        return {**config, "output_shape": tuple(o if o is None else n for o, n in pairs)}

    def weights(self, grown: Grown) -> list[Weight]:
        """Return kernel and bias."""
        layer = grown.layer
        entering, kernel, output = _letters(layer)
        axes: dict[int, Carried] = {}
        for axis, letter in enumerate(kernel):
            place = entering.index(letter) if letter in entering else None
            one = grown.output(output.index(letter)) if letter in output else None
            if one is None and place is not None and letter not in output:
                one = grown.input(place)
            if one is not None:
                axes[axis] = Carried(one, shares=letter not in output)
        found = [Weight(layer.kernel, axes, layer.kernel_initializer)]
        if layer.bias is not None:
            # The bias is as the output, from its first named axis on; the others have size one.
            first = min(output.index(letter) for letter in layer.bias_axes)
            bias = {}
            for axis, letter in enumerate(output[first:]):
                one = grown.output(first + axis)
                if one is not None and letter in layer.bias_axes:
                    bias[axis] = Carried(one, shares=False)
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
