"""Modules under their former names, for one version.

`keras_qan.__path__` ends with this folder, so that `keras_qan/_moved/episodes.py` is imported as
`keras_qan.episodes`. Each of its names warns and leads to its new place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_qan.utils.deprecation import moved_names


def lead_to(former: str, home: str, *names: str, **renamed: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a former module.

    Args:
      former: the former module, `__name__`.
      home: the module that its names are in now.
      names: that stayed as they were.
      renamed: former name = new one.
    """
    moved = dict(zip(names, names, strict=True)) | renamed
    return moved_names(former, {old: f"{home}:{new}" for old, new in moved.items()})
