"""The versions, the seeds and the machine that a run was begun with."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from keras_qan import __version__
from keras_qan.storage import files

#: The file in a run's directory.
ORIGIN_FILE = "run.json"

_PACKAGES = ("keras", "tensorflow", "tf-agents", "tf-keras", "numpy")


def write(directory: Path, first_evaluation_seed: int, seed: int = 0) -> None:
    """Write the origin of a run into its directory, once.

    Args:
      directory: of the run.
      first_evaluation_seed: the seed of the first evaluated training.
      seed: what everything random follows from. Defaults to 0.
    """
    path = directory / ORIGIN_FILE
    if path.exists():
        return
    found = {"seed": seed, "first_evaluation_seed": first_evaluation_seed} | here()
    files.replace(path, json.dumps(files.replace_non_finite(found), indent=1))


def here() -> dict[str, Any]:
    """Return the versions of this process, and its machine."""
    versions = {"python": platform.python_version(), "keras_qan": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that this run does without
    machine = {"system": platform.platform(), "cpu_cores": os.cpu_count()}
    return {"versions": versions, "machine": machine}
