"""Embedding: a table whose columns are channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from net2net.rules.base import CallView, Grown, Mapped, Rule, Weight, copied, refuse_axis, weight
from net2net.rules.dense import require_plain
from net2net.rules.registry import register_rule


class EmbeddingRule(Rule):
    """Table [words, size]: copied over `size`."""

    def width(self, layer: Any) -> int:
        """Return the size of a word's vector."""
        return int(layer.output_dim)

    def spread(self, call: CallView, mapped: Mapped) -> Iterable[Mapped]:
        """Take maps on the last axis of the output."""
        require_plain(call.layer)
        if mapped.port.side == "in" or mapped.axis != len(call.outputs[0]) - 1:
            raise refuse_axis(call, mapped)
        return []

    def configure(self, config: dict[str, Any], grown: Grown) -> dict[str, Any]:
        """Return the config with the new size."""
        return {**config, "output_dim": grown.outputs[0][-1]}

    def weights(self, grown: Grown) -> list[Weight]:
        """Return the table."""
        layer = grown.layer
        made = copied(grown.output(-1))
        return [weight(layer.embeddings, layer.embeddings_initializer, last=made)]


register_rule(keras.layers.Embedding, EmbeddingRule())
