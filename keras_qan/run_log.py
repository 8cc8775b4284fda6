"""What a run leaves behind for people and figures: JSON lines and TensorBoard events."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import tensorflow as tf

#: The files of a run directory, one JSON object a line. An episode's own record comes last: where
#: it stands, the others are complete.
FILES = ("decisions", "epochs", "episodes")


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
        self._writers: dict[str, Any] = {}

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
                with self._path(name).open("a", encoding="utf-8") as file:
                    file.write("\n".join(lines) + "\n")
        if self._scalars:
            with self._writer().as_default():
                for name, value, step in self._scalars:
                    tf.summary.scalar(name, value, step=step)
            self._writer().flush()
        self.drop()

    def _writer(self) -> Any:
        arm = "/".join(str(self.context[k]) for k in ("arm", "phase") if k in self.context) or "qan"
        if arm not in self._writers:
            folder = self.directory / "tensorboard" / arm
            self._writers[arm] = tf.summary.create_file_writer(str(folder))
        return self._writers[arm]

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

        def key(record: dict[str, Any]) -> tuple[str, str, int]:
            return record.get("arm", ""), record.get("phase", ""), record.get("episode", -1)

        finished = {
            key(record)
            for record in read(self.directory, "episodes")
            if record.get("phase") != "train" or record.get("episode", -1) < num_train_episodes
        }
        for name in FILES:
            path = self._path(name)
            if not path.exists():
                continue
            kept = [r for r in read(self.directory, name) if key(r) in finished]
            text = "".join(json.dumps(record) + "\n" for record in kept)
            if text != path.read_text(encoding="utf-8"):
                aside = path.with_suffix(".aside")
                aside.write_text(text, encoding="utf-8")
                aside.replace(path)
        return finished


def read(directory: Path, file: str) -> list[dict[str, Any]]:
    """Reads the records of one of `FILES`; a last line that was cut short is left out."""
    path = directory / f"{file}.jsonl"
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
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
