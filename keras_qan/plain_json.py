"""JSON from strangers: parsed within bounds of memory, or refused."""

from __future__ import annotations

import json
from typing import Any

#: What Python makes of each character that begins or parts something, in bytes at most: a list, a
#: dictionary, an entry of either.
_COSTS = {b"[": 88, b"{": 232, b",": 64, b":": 96}


def parse(text: bytes, room: int) -> Any:
    """Parses JSON.

    Args:
      text: UTF-8.
      room: bytes that the objects may take; text that could become more is refused unparsed.

    Raises:
      ValueError: it is not JSON, is nested beyond all measure, or could take more room.
    """
    most = 4 * len(text) + sum(cost * text.count(sign) for sign, cost in _COSTS.items())
    if most > room:
        raise ValueError(
            f"its {len(text)} bytes of JSON could take {most} bytes of memory; expected at most "
            f"{room}"
        )
    try:
        return json.loads(text.decode())
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
