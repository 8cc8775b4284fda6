"""Records of a run, for people and figures: JSON lines and TensorBoard events."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

from keras_qan.storage import files
from keras_qan.storage.event_file import EventFile, has_tensorboard

#: The files of a run directory, one JSON object a line. An episode's own record comes last: where
#: it stands, the others are complete.
FILES = ("decisions", "epochs", "episodes")

#: Bytes of Python objects that a line may become, beyond eight times its length.
_MAX_LINE_BYTES = 1 << 16


class RunLog:
    """Collects an episode's records and writes them when it is over.

    A line is there whole or not at all, and an episode's lines come together, so that a run that
    was killed is resumed without gaps or duplicates.

    Args:
      directory: the run directory; made if it is missing.

    Attributes:
      context: the values that every record starts with (arm, phase, episode, seed).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.context: dict[str, Any] = {}
        self._lines: dict[str, list[str]] = {name: [] for name in FILES}
        self._scalars: list[tuple[str, float, int]] = []
        self._event_files: dict[str, EventFile] = {}

    def record(self, file: str, **values: Any) -> None:
        """Add a record to one of `FILES`; non-finite numbers become null."""
        self._lines[file].append(json.dumps(files.replace_non_finite(self.context | values)))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Add a TensorBoard scalar; a non-finite one is left out."""
        if math.isfinite(value):
            self._scalars.append((name, value, step))

    def drop(self) -> None:
        """Drop the records since the last `write`: their episode has no end."""
        self._lines = {name: [] for name in FILES}
        self._scalars = []

    def write(self) -> None:
        """Write the records since the last `write`.

        Raises:
          OSError: the directory cannot be written.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        for name, lines in self._lines.items():
            if lines:
                files.append(self._path(name), "\n".join(lines) + "\n")
        if self._scalars and has_tensorboard():
            self._event_file().write(self._scalars)
        self.drop()

    def state(self) -> dict[str, Any]:
        """Return the records since the last `write`, as plain data."""
        return {
            "context": dict(self.context),
            "lines": {name: list(lines) for name, lines in self._lines.items()},
            "scalars": [list(scalar) for scalar in self._scalars],
        }

    def restore(self, state: dict[str, Any], first_step: int = 0) -> None:
        """Take over the records of another log, in place of its own.

        Args:
          state: of the other log.
          first_step: added to the steps of its scalars. Defaults to 0.
        """
        self.context = dict(state["context"])
        self._lines = {name: list(state["lines"].get(name, ())) for name in FILES}
        self._scalars = [
            (name, value, int(step) + first_step) for name, value, step in state["scalars"]
        ]

    def _event_file(self) -> EventFile:
        arm = "/".join(str(self.context[k]) for k in ("arm", "phase") if k in self.context) or "qan"
        if arm not in self._event_files:
            self._event_files[arm] = EventFile(self.directory / "tensorboard" / arm)
        return self._event_files[arm]

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.jsonl"

    def keep_finished(self, num_train_episodes: int) -> set[tuple[str, str, int]]:
        """Remove the records of unfinished episodes, so that a run resumes without duplicates.

        Args:
          num_train_episodes: training episodes that the agent's checkpoint knows; later ones
            will be run again.

        Returns:
          (arm, phase, episode) of the episodes that stay.
        """
        found = (_key(record) for record in read(self.directory, "episodes"))
        finished = {
            key
            for key in found
            if key is not None and (key[1] != "train" or key[2] < num_train_episodes)
        }
        for name in FILES:
            path = self._path(name)
            if not path.exists():
                continue
            kept = [r for r in read(self.directory, name) if _key(r) in finished]
            text = "".join(json.dumps(record) + "\n" for record in kept)
            files.remove_leftovers(self.directory, name)
            if text.encode() != path.read_bytes():
                files.replace(path, text)
        return finished


class InMemoryRunLog(RunLog):
    """A log without a directory.

    Attributes:
      kept: the `state` at the last `write`.
    """

    def __init__(self) -> None:
        super().__init__(Path())
        self.kept: dict[str, Any] = self.state()

    def write(self) -> None:
        """Keep the records in memory."""
        self.kept = self.state()
        self.drop()


def _key(record: dict[str, Any]) -> tuple[str, str, int] | None:
    """Return the arm, phase and number of a record's episode; None where it does not say."""
    arm, phase, episode = (record.get(name) for name in ("arm", "phase", "episode"))
    if isinstance(arm, str) and isinstance(phase, str) and type(episode) is int:
        return arm, phase, episode
    return None


def read(directory: Path, file: str) -> list[dict[str, Any]]:
    """Return the records of one of `FILES`.

    A last line that was cut short is left out; a warning names other lines that are no records.
    """
    path = directory / f"{file}.jsonl"
    records, damaged = [], []
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            record = files.parse_json(line, 8 * len(line) + _MAX_LINE_BYTES)
        except ValueError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        elif number < len(lines):
            damaged.append(number)
    if damaged:
        warnings.warn(
            f"{path} holds {len(damaged)} damaged lines, which are left out: "
            f"{', '.join(map(str, damaged[:5]))}{' …' * (len(damaged) > 5)}. They were changed "
            "after they had been written; look at the disk.",
            RuntimeWarning,
            stacklevel=2,
        )
    return records
