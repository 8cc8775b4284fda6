"""`UnsupportedLayerError` for users, and the two exceptions that rules raise to the planner."""

from __future__ import annotations

import re
import warnings
from typing import Any

from net2net.channel_map import Structure


def renamed_attribute(old: str, new: str) -> Any:
    """Return a property that warns and reads the attribute's new name, for one version."""

    def read(self: Any) -> Any:
        warnings.warn(
            f"{type(self).__name__}.{old} is now `{new}`; the old name goes with the next version. "
            "Use the new one.",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(self, new)

    return property(read)


def summary(error: Exception) -> str:
    """Return the beginning of what an error says, on one line; its class where it says nothing."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = " ".join(re.sub(r"^Exception encountered when calling \S+", "", text).split())
    return (text if len(text) <= 160 else f"{text[:157]}...") or type(error).__name__


class UnsupportedLayerError(ValueError):
    """A model cannot grow as asked: names the layer, the reason and what to do instead.

    Args:
        layer: Name of the layer at which growth stops.
        reason: Why it cannot grow, as a clause.
        hint: What to do instead, as a sentence.

    Example:
        >>> error = UnsupportedLayerError("out", "it is an output", "Widen a layer before it.")
        >>> print(error)
        Layer 'out' cannot grow: it is an output. Widen a layer before it.
    """

    def __init__(self, layer: str, reason: str, hint: str) -> None:
        super().__init__(f"Layer '{layer}' cannot grow: {reason}. {hint}")
        self.layer = layer
        self.reason = reason
        self.hint = hint

    obstacle = renamed_attribute("obstacle", "reason")
    way_out = renamed_attribute("way_out", "hint")


class RefusalError(Exception):
    """Raised by a rule: this map cannot pass here. The planner adds the layer's name.

    Args:
        reason: Why it cannot pass, as a clause.
        hint: What the user can do instead, as a sentence. Defaults to widening another layer.
    """

    def __init__(self, reason: str, hint: str = "Widen another layer instead.") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class StructureRequest(Exception):  # noqa: N818 - a request from a rule to the planner, no failure
    """Raised by a rule: this map cannot pass, but one of the given structure could.

    Args:
        structure: The structure that the map needs.
    """

    def __init__(self, structure: Structure) -> None:
        super().__init__(str(structure))
        self.structure = structure
