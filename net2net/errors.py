"""The one error a user meets when a model cannot grow, and the one that rules raise inside."""

from __future__ import annotations

from net2net.channel_map import Structure


class UnsupportedLayerError(ValueError):
    """A model cannot grow as asked: names the layer, the obstacle and the way out.

    Args:
        layer: Name of the layer at which growth stops.
        obstacle: What stands in the way, as a clause.
        way_out: What the user can do instead, as a sentence.

    Example:
        >>> error = UnsupportedLayerError("out", "it is an output", "Widen a layer before it.")
        >>> print(error)
        Layer 'out' cannot grow: it is an output. Widen a layer before it.
    """

    def __init__(self, layer: str, obstacle: str, way_out: str) -> None:
        super().__init__(f"Layer '{layer}' cannot grow: {obstacle}. {way_out}")
        self.layer = layer
        self.obstacle = obstacle
        self.way_out = way_out


class RefusalError(Exception):
    """Raised by a rule: this map cannot pass here. The planner adds the layer's name.

    Args:
        obstacle: What stands in the way, as a clause.
        way_out: What the user can do instead, as a sentence.
    """

    def __init__(self, obstacle: str, way_out: str = "Widen another layer instead.") -> None:
        super().__init__(obstacle)
        self.obstacle = obstacle
        self.way_out = way_out


class StructureRequest(Exception):  # noqa: N818 - a request from a rule to the planner, no failure
    """Raised by a rule: this map cannot pass, but one of the given structure could.

    Args:
        structure: What the map has to look like.
    """

    def __init__(self, structure: Structure) -> None:
        super().__init__(str(structure))
        self.structure = structure
