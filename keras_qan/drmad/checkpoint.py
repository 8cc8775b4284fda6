"""A search in its directory: settings, checkpoints, and a log for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_qan.storage import checkpoint, files
from keras_qan.storage.settings import require_same_settings

_STEM = "search"
_LOG = "outer_steps.jsonl"


def resume(
    directory: Path, settings: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Return the newest whole state of the search in the directory; None for a new one.

    Raises:
      ValueError: the search there has other settings.
      CheckpointError: its files are damaged.
    """
    known = require_same_settings(directory, settings, "search")
    return checkpoint.read_newest(directory, _STEM) if known else None


def write(directory: Path, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
    """Write the state after an outer step, and the whole log."""
    checkpoint.write_next(directory, _STEM, arrays, files.replace_non_finite(data))
    lines = [json.dumps(files.replace_non_finite(record)) for record in data["history"]]
    files.replace(directory / _LOG, "".join(f"{line}\n" for line in lines))
