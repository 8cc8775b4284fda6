"""Files of a search: its settings, and a row for each model."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from keras_qan.storage import files

MODELS = "models.jsonl"
SETTINGS = "settings.json"
VALUES = "q_values.json"


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """One row of a search: an architecture and the outcome of its trial.

    Args:
      number: of the row, from 0.
      architecture: as text.
      epsilon: exploration when it was sampled.
      status: see `TrialOutcome`.
      score: best validation accuracy; NaN if there is none.
      reward: that the agent learned from; NaN for none.
      curve: validation accuracy after each epoch.
      predicted: the predicted end of a stopped one; NaN for the others.
      parameters: number of weights.
      learning_rate: the first rate.
      restarts: trainings given up before.
      seconds: duration of the trial.
      repeats: numbers of the models that were sampled again before this one. Defaults to none.
      relative: number of the model whose weights it started from. Defaults to none.
      share: the part of its layers that had such weights. Defaults to 0.
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
        """True unless memory ran out; then the agent does not learn from it."""
        return self.status != "out_of_memory"

    def describe(self, is_best: bool) -> str:
        """Return what became of the model, in a line.

        Args:
          is_best: whether no model before scored as much.
        """
        best = ", the best so far" if is_best else ""
        status = "" if self.status == "trained" else f", {self.status.replace('_', ' ')}"
        if math.isfinite(self.predicted):
            status += f": predicted to end at {self.predicted:.4g}"
        epochs = f"{len(self.curve)} epoch{'s' if len(self.curve) != 1 else ''}"
        return (
            f"model {self.number}: {self.architecture}, validation accuracy {self.score:.4g} after "
            f"{epochs}{best}{status}"
        )


def append(directory: Path, model: ModelRecord) -> None:
    """Append a row and wait until it is on the disk."""
    line = json.dumps(files.replace_non_finite(dataclasses.asdict(model))) + "\n"
    files.append(directory / MODELS, line, waits=True)


def read(directory: Path) -> list[ModelRecord]:
    """Read the rows; a last one that a kill cut short is removed from the file.

    Raises:
      ValueError: another line is not a row.
    """
    path = directory / MODELS
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        files.replace(path, whole)
    return [_parse_row(path, line) for line in whole.splitlines()]


def open_directory(directory: Path, settings: dict[str, Any]) -> None:
    """Make a search's directory, or check that it holds this search.

    Raises:
      ValueError: the directory holds a search with other settings; the message says which.
      OSError: it cannot be made.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / SETTINGS
    wanted = json.loads(json.dumps(files.replace_non_finite(settings)))
    if not path.exists():
        if (directory / MODELS).exists():
            raise ValueError(
                f"{directory} holds {MODELS} without {SETTINGS}; expected a search's directory or "
                "an empty one. Choose another directory."
            )
        files.replace(path, json.dumps(wanted, indent=1) + "\n")
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


def _parse_row(path: Path, line: str) -> ModelRecord:
    try:
        found = json.loads(line)
        for name in ("score", "reward", "predicted"):
            found[name] = math.nan if found[name] is None else float(found[name])
        return ModelRecord(**found | {n: tuple(found[n]) for n in ("curve", "repeats")})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Received a line of {path} that is no row of a search ({error}). Delete it, or "
            "start anew in another directory."
        ) from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 200 else f"{text[:200]}…"
