"""The decision process of a search: states, legal actions, transitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from keras_qan.metaqnn.space import ImpossibleSpaceError, Layer, Space, format_architecture
from keras_qan.utils.validation import check, check_integer


@dataclasses.dataclass(frozen=True)
class State:
    """An unfinished architecture.

    The agent sees `key` alone: last layer, depth, fully connected layers in a row, and the *bin* of
    the representation size. The rest is carried so that every architecture can be built.

    Args:
      last: the last layer; None for the input.
      depth: the number of layers.
      dense: fully connected layers in a row.
      height: of the representation, 1 behind a fully connected layer.
      width: of the representation, 1 behind a fully connected layer.
      channels: of the representation, or units.
      parameters: weights so far, batch statistics included.
      bin: of the representation size.
    """

    last: Layer | None
    depth: int
    dense: int
    height: int
    width: int
    channels: int
    parameters: int
    bin: int

    @property
    def key(self) -> str:
        """The state as the agent sees it."""
        return f"{self.depth}:{self.last or 'start'}:{self.bin}:{self.dense}"

    @property
    def size(self) -> int:
        """The representation size: the shorter side."""
        return min(self.height, self.width)

    @property
    def ends(self) -> bool:
        """True if the architecture is complete."""
        return self.last is not None and self.last.ends

    @property
    def is_flat(self) -> bool:
        """True if the last layer is fully connected."""
        return self.dense > 0


class StateSpace:
    """The decision process of arXiv:1611.02167, section 4, for one kind of input.

    Args:
      space: of layers to choose from.
      input_shape: (height, width, channels).
      num_classes: of the softmax.

    Raises:
      ImpossibleSpaceError: no architecture of the space fits; the message says by which rules.

    Example:
      >>> states = StateSpace(Space(filters=(8,), sizes=(3,), pools=((2, 2),)), (8, 8, 1), 10)
      >>> [str(layer) for layer in states.legal_actions(states.initial_state())]
      ['C(8,3,1)']
      >>> states.state_after([Layer("C", 8, 3), Layer("P", 0, 2, 2)]).key
      '2:P(2,2):4:0'
    """

    def __init__(self, space: Space, input_shape: Sequence[int], num_classes: int) -> None:
        shape = tuple(int(side) for side in input_shape)
        is_image = len(shape) == 3 and min(shape) >= 1
        check(is_image, "input_shape", tuple(input_shape), "(height, width, channels)")
        check_integer("num_classes", num_classes, 2)
        self.space = space
        self.input_shape = shape
        self.num_classes = int(num_classes)
        self._layers = tuple(_all_layers(space))
        if not self.legal_actions(self.initial_state()):
            raise ImpossibleSpaceError(self._explain_impossible())

    def initial_state(self) -> State:
        """Return the state before the first layer."""
        height, width, channels = self.input_shape
        return State(
            last=None,
            depth=0,
            dense=0,
            height=height,
            width=width,
            channels=channels,
            parameters=0,
            bin=self.space.bin_of(min(height, width)),
        )

    def legal_actions(self, state: State) -> tuple[Layer, ...]:
        """Return the layers that may follow, in a fixed order; none behind an end.

        Legal are those that fit and from which an end stays within the budget.

        Args:
          state: what was built so far.
        """
        return tuple(layer for layer in self._layers if not self.reason_against(state, layer))

    def reason_against(self, state: State, layer: Layer) -> str:
        """Return the rule that forbids a layer in a state, in words; empty if it is legal.

        Args:
          state: what was built so far.
          layer: that might follow.
        """
        if state.ends:
            return "nothing follows an end"
        rules = self._reason_against_end if layer.ends else self._reason_against_layer
        broken = rules(state, layer)
        if broken:
            return broken
        budget = self.space.max_parameters
        if budget is not None and self._cheapest_end(self.next_state(state, layer)) > budget:
            return f"with it, no end stays within max_parameters={budget}"
        return ""

    def next_state(self, state: State, layer: Layer) -> State:
        """Return the state behind a legal layer.

        Args:
          state: what was built so far.
          layer: a legal one.
        """
        height, width, channels, dense = state.height, state.width, state.channels, 0
        added = self._parameters_of(state, layer)
        if layer.kind in ("C", "R"):
            channels = layer.width
        elif layer.kind == "P":
            height = (height - layer.size) // layer.stride + 1
            width = (width - layer.size) // layer.stride + 1
        else:
            height = width = 1
            channels = layer.width or self.num_classes
            dense = state.dense + 1 if layer.kind == "FC" else 0
        return State(
            last=layer,
            depth=state.depth + 1,
            dense=dense,
            height=height,
            width=width,
            channels=channels,
            parameters=state.parameters + added,
            bin=self.space.bin_of(min(height, width)),
        )

    def state_after(self, layers: Iterable[Layer]) -> State:
        """Return the state behind several layers.

        Args:
          layers: from the first one.

        Raises:
          ValueError: one of them is not legal; the message names the rule.
        """
        state = self.initial_state()
        layers = tuple(layers)
        for place, layer in enumerate(layers):
            broken = self.reason_against(state, layer)
            if broken:
                raise ValueError(
                    f"Received {format_architecture(layers)}, in which {layer} cannot be layer "
                    f"{place + 1}: {broken}."
                )
            state = self.next_state(state, layer)
        return state

    def _reason_against_layer(self, state: State, layer: Layer) -> str:
        space = self.space
        if state.depth >= space.max_depth:
            return f"max_depth={space.max_depth} layers are there"
        if layer.kind == "FC":
            if state.dense >= space.max_dense:
                return f"max_dense={space.max_dense} fully connected layers are there"
            if state.is_flat and layer.width > state.channels:
                return f"it is wider than the {state.channels} units before it"
            if not state.is_flat and state.bin >= space.dense_below:
                return (
                    f"a fully connected layer comes below the size dense_below={space.dense_below}"
                )
            return ""
        if state.is_flat:
            return "behind a fully connected layer come only such layers and the end"
        if layer.size > state.size:
            return f"its window of {layer.size} is larger than the representation of {state.size}"
        if layer.kind == "P" and (state.last is None or state.last.kind == "P"):
            return "a pooling follows a convolution only"
        return ""

    def _reason_against_end(self, state: State, layer: Layer) -> str:
        if layer.kind == "GAP" and state.is_flat:
            return "there is nothing to average behind a fully connected layer"
        if state.depth < self.space.min_depth and (state.last is None or self._can_continue(state)):
            return f"there are fewer than min_depth={self.space.min_depth} layers"
        return ""

    def _can_continue(self, state: State) -> bool:
        return any(
            not layer.ends and not self.reason_against(state, layer) for layer in self._layers
        )

    def _cheapest_end(self, state: State) -> int:
        if state.ends:
            return state.parameters
        ends = [Layer("SM")] if state.is_flat else [Layer("SM"), Layer("GAP")]
        return state.parameters + min(self._parameters_of(state, end) for end in ends)

    def _parameters_of(self, state: State, layer: Layer) -> int:
        incoming, area = state.channels, state.height * state.width
        added = 4 * layer.width if self.space.batch_norm else layer.width  # norm, or bias
        if layer.kind == "C":
            return layer.size**2 * incoming * layer.width + added
        if layer.kind == "R":
            first = layer.size**2 * incoming * layer.width + added
            second = layer.size**2 * layer.width**2 + added
            shortcut = 0 if incoming == layer.width else incoming * layer.width + added
            return first + second + shortcut
        if layer.kind == "FC":
            return incoming * area * layer.width + layer.width
        if layer.kind == "SM":
            return incoming * area * self.num_classes + self.num_classes
        if layer.kind == "GAP":
            return incoming * self.num_classes + self.num_classes
        return 0

    def _explain_impossible(self) -> str:
        rules = dict.fromkeys(
            f"{layer}: {self.reason_against(self.initial_state(), layer)}" for layer in self._layers
        )
        shown = list(rules)[:6]
        more = f"; and {len(rules) - 6} more" if len(rules) > 6 else ""
        return (
            f"Received a space of which nothing fits an input of {self.input_shape}. "
            f"{'; '.join(shown)}{more}. Use larger inputs, other layers or a larger budget."
        )


def _all_layers(space: Space) -> Iterable[Layer]:
    for width in space.filters:
        for size in space.sizes:
            yield Layer("C", width, size)
    for width in space.residual:
        yield Layer("R", width, 3)
    for size, stride in space.pools:
        yield Layer("P", 0, size, stride)
    if space.max_dense:
        for units in space.dense:
            yield Layer("FC", units)
    yield Layer("GAP")
    yield Layer("SM")
