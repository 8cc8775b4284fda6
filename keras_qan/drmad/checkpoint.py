"""A search in its directory: settings, checkpoints, and a log for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_qan.storage import checkpoint, files
from keras_qan.storage.run_log import plain

_STEM = "search"
_LOG = "outer_steps.jsonl"
_SETTINGS = "settings.json"


def resume(
    directory: Path, settings: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The newest whole state of the search in the directory; None where one begins.

    Raises:
      ValueError: the search there has other settings.
      CheckpointError: its files are damaged.
    """
    path = directory / _SETTINGS
    present = json.loads(json.dumps(plain(settings)))
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        _replace(path, json.dumps(present, indent=1) + "\n")
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise checkpoint.CheckpointError(
            f"{path} is not whole: {error}. Start anew in another directory."
        ) from error
    differing = sorted(k for k in present.keys() | saved.keys() if saved.get(k) != present.get(k))
    if differing:
        raise ValueError(
            f"{directory} holds a search with other {', '.join(differing)}; expected the same, so "
            "that it can go on. Use another directory, or give what it was made with: "
            + "; ".join(f"{key}={json.dumps(saved.get(key))[:200]}" for key in differing)
        )
    return checkpoint.read_newest(directory, _STEM)


def write(directory: Path, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
    """Writes the state after an outer step, and the log anew."""
    checkpoint.write_next(directory, _STEM, arrays, plain(data))
    lines = [json.dumps(plain(record)) for record in data["history"]]
    _replace(directory / _LOG, "".join(f"{line}\n" for line in lines))


def _replace(path: Path, text: str) -> None:
    files.replace(path, text)
