"""What a run leaves behind for people and figures: JSON lines and TensorBoard events."""

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
_ROOM_FOR_A_LINE = 1 << 16


class RunLog:
    """Gathers an episode's records and writes them when it is over.

    What is written is written whole: a line is there or it is not, and an episode's lines come
    together, so that a run that is broken off can go on without gaps or duplicates.

    Args:
      directory: the run directory; made if it is missing.

    Attributes:
      context: what every record starts with (arm, phase, episode, seed).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.context: dict[str, Any] = {}
        self._lines: dict[str, list[str]] = {name: [] for name in FILES}
        self._scalars: list[tuple[str, float, int]] = []
        self._event_files: dict[str, EventFile] = {}

    def record(self, file: str, **values: Any) -> None:
        """Adds a record to one of `FILES`; numbers that are none become null."""
        self._lines[file].append(json.dumps(plain(self.context | values)))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds a TensorBoard scalar; what is not a number is left out."""
        if math.isfinite(value):
            self._scalars.append((name, value, step))

    def drop(self) -> None:
        """Forgets what was gathered since the last `write`: its episode has no end."""
        self._lines = {name: [] for name in FILES}
        self._scalars = []

    def write(self) -> None:
        """Writes what was gathered.

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

    def gathered(self) -> dict[str, Any]:
        """What was gathered since the last `write`, as plain data."""
        return {
            "context": dict(self.context),
            "lines": {name: list(lines) for name, lines in self._lines.items()},
            "scalars": [list(scalar) for scalar in self._scalars],
        }

    def take_up(self, gathered: dict[str, Any], first_step: int = 0) -> None:
        """Takes over what another log had gathered, in place of its own.

        Args:
          gathered: what `gathered` gave.
          first_step: added to the steps of its scalars.
        """
        self.context = dict(gathered["context"])
        self._lines = {name: list(gathered["lines"].get(name, ())) for name in FILES}
        self._scalars = [
            (name, value, int(step) + first_step) for name, value, step in gathered["scalars"]
        ]

    def _event_file(self) -> EventFile:
        arm = "/".join(str(self.context[k]) for k in ("arm", "phase") if k in self.context) or "qan"
        if arm not in self._event_files:
            self._event_files[arm] = EventFile(self.directory / "tensorboard" / arm)
        return self._event_files[arm]

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.jsonl"

    def keep_finished(self, num_train_episodes: int) -> set[tuple[str, str, int]]:
        """Takes out what belongs to no finished episode, so that a run goes on without duplicates.

        Args:
          num_train_episodes: how many training episodes the agent's checkpoint knows; records of
            later ones are of episodes that will be run again.

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
    """A log without a directory: keeps what the last episode would have written.

    Attributes:
      kept: what `gathered` gave at the last `write`.
    """

    def __init__(self) -> None:
        super().__init__(Path())
        self.kept: dict[str, Any] = self.gathered()

    def write(self) -> None:
        """Keeps what was gathered."""
        self.kept = self.gathered()
        self.drop()


def _key(record: dict[str, Any]) -> tuple[str, str, int] | None:
    """Which episode a record is of; None where it does not say so."""
    arm, phase, episode = (record.get(name) for name in ("arm", "phase", "episode"))
    if isinstance(arm, str) and isinstance(phase, str) and type(episode) is int:
        return arm, phase, episode
    return None


def read(directory: Path, file: str) -> list[dict[str, Any]]:
    """Reads the records of one of `FILES`.

    A last line that was cut short is left out; of other lines that are no records a warning tells.
    """
    path = directory / f"{file}.jsonl"
    records, damaged = [], []
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            record = files.parse(line, 8 * len(line) + _ROOM_FOR_A_LINE)
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


def plain(value: Any) -> Any:
    """The value with null for every number that JSON does not know."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
