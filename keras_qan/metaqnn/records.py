"""What a search leaves in its directory."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

from keras_qan.storage import files
from keras_qan.storage.run_log import plain

MODELS = "models.jsonl"
SETTINGS = "settings.json"
VALUES = "q_values.json"


@dataclasses.dataclass(frozen=True)
class Model:
    """One row of a search: an architecture and what came of it.

    Args:
      number: of the row, from 0.
      architecture: as text.
      epsilon: how much was explored when it was sampled.
      status: see `Outcome`.
      score: best validation accuracy; NaN if there is none.
      reward: what the agent learned from; NaN for none.
      curve: validation accuracy after each epoch.
      predicted: the end that a stopped one was predicted to have; NaN for the others.
      parameters: its weights.
      learning_rate: the first rate.
      restarts: how many trainings were given up before.
      seconds: that it took.
      repeats: numbers of the models that were sampled once more before this one.
      relative: number of the model whose weights it grew from; None for none.
      share: which part of it that covered.
    """

    number: int
    architecture: str
    epsilon: float
    status: str
    score: float
    reward: float
    curve: tuple[float, ...]
    predicted: float
    parameters: int
    learning_rate: float
    restarts: int
    seconds: float
    repeats: tuple[int, ...] = ()
    relative: int | None = None
    share: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether the agent learns from it; what was out of memory is as if never sampled."""
        return self.status != "out_of_memory"


def append(directory: Path, model: Model) -> None:
    """Adds a row, whole or not at all."""
    with (directory / MODELS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain(dataclasses.asdict(model))) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(directory: Path) -> list[Model]:
    """Reads the rows; a last one that a kill cut short is taken out of the file.

    Raises:
      ValueError: another line is no row.
    """
    path = directory / MODELS
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_aside(path, whole)
    return [_model(path, line) for line in whole.splitlines()]


def open_directory(directory: Path, settings: dict[str, Any]) -> None:
    """Makes a search's directory, or makes sure that it is this search's.

    Raises:
      ValueError: the directory holds a search with other settings; it says which differ.
      OSError: it cannot be made.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / SETTINGS
    wanted = json.loads(json.dumps(plain(settings)))
    if not path.exists():
        if (directory / MODELS).exists():
            raise ValueError(
                f"{directory} holds {MODELS} without {SETTINGS}; expected a search's directory or "
                "an empty one. Choose another directory."
            )
        write_aside(path, json.dumps(wanted, indent=1) + "\n")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    differing = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if differing:
        shown = "; ".join(
            f"{name} is {_short(found.get(name))} there and {_short(wanted.get(name))} here"
            for name in differing
        )
        raise ValueError(
            f"{directory} holds a search with another {', '.join(differing)}: {shown}. Use the "
            "same to go on with it, or another directory."
        )


def write_aside(path: Path, text: str) -> None:
    """Writes a file aside and renames it, so that it is there whole or not at all."""
    files.replace(path, text)


def _model(path: Path, line: str) -> Model:
    try:
        found = json.loads(line)
        for name in ("score", "reward", "predicted"):
            found[name] = math.nan if found[name] is None else float(found[name])
        return Model(**found | {n: tuple(found[n]) for n in ("curve", "repeats")})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Received a line of {path} that is no row of a search ({error}). Take it out, or "
            "start anew in another directory."
        ) from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 200 else f"{text[:200]}…"
