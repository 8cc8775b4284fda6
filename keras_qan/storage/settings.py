"""The settings of a directory: written at its first use, required to be the same ever after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keras_qan.storage import files
from keras_qan.storage.checkpoint import CheckpointError

_FILE = "settings.json"


def require_same_settings(directory: Path, settings: dict[str, Any], kind: str) -> bool:
    """Write the settings of a new directory, or require those that it was made with.

    Args:
      directory: a folder; made if it is missing.
      settings: by name; plain data, where non-finite numbers count as null.
      kind: what the directory holds, for messages, such as "search".

    Returns:
      Whether the directory had settings before, so that there may be something to resume.

    Raises:
      ValueError: the directory was made with other settings; the message says which.
      CheckpointError: its settings cannot be read.
    """
    path = directory / _FILE
    present = json.loads(json.dumps(files.replace_non_finite(settings)))
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        files.replace(path, json.dumps(present, indent=1) + "\n")
        return False
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{path} is not whole: {error}. Start anew in another directory."
        ) from error
    differing = sorted(k for k in present.keys() | saved.keys() if saved.get(k) != present.get(k))
    if differing:
        raise ValueError(
            f"{directory} holds a {kind} with other {', '.join(differing)}; expected the same, so "
            "that it can be resumed. Use another directory, or give what it was made with: "
            + "; ".join(f"{key}={json.dumps(saved.get(key))[:300]}" for key in differing)
        )
    return True
