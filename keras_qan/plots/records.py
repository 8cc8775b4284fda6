"""Records of a run's logs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILES = ("decisions", "epochs", "episodes")

Record = dict[str, Any]


class EmptyRunError(ValueError):
    """The directory holds no logs of a run."""


@dataclass(frozen=True)
class Records:
    """All records of a run.

    Args:
        decisions: a record for each decision.
        epochs: a record for each epoch of each episode.
        episodes: a record for each finished episode.
        num_unreadable: the number of lines that are not records; a kill leaves one cut line.
            Defaults to 0.
    """

    decisions: tuple[Record, ...]
    epochs: tuple[Record, ...]
    episodes: tuple[Record, ...]
    num_unreadable: int = 0

    def arms(self) -> list[str]:
        """Return the names of all arms in alphabetical order.

        Example:
            >>> Records((), ({"arm": "qan"},), ({"arm": "constant"},)).arms()
            ['constant', 'qan']
        """
        everything = (*self.decisions, *self.epochs, *self.episodes)
        return sorted({str(record["arm"]) for record in everything if "arm" in record})


def read_records(run_directory: Path) -> Records:
    """Read the logs of a run, skipping lines that cannot be read.

    Args:
        run_directory: folder with `decisions.jsonl`, `epochs.jsonl` and `episodes.jsonl`, or some
            of them.

    Raises:
        NotADirectoryError: if there is no such folder.
        EmptyRunError: if it holds none of the files, or nothing readable in them.
    """
    if not run_directory.is_dir():
        raise NotADirectoryError(
            f"Received the run directory {run_directory}; expected a folder that a run has "
            "written. Check the path, or start a run with --directory."
        )
    found = {name: list(_lines(run_directory / f"{name}.jsonl")) for name in FILES}
    readable = {
        name: tuple(record for record in records if record is not None)
        for name, records in found.items()
    }
    if not any(readable.values()):
        raise EmptyRunError(
            f"Received the run directory {run_directory}; expected at least one record in "
            f"{', '.join(f'{name}.jsonl' for name in FILES)}. Wait for the first episode to end, "
            "or pass the directory that a run was given."
        )
    num_unreadable = sum(len(found[name]) - len(readable[name]) for name in FILES)
    return Records(**readable, num_unreadable=num_unreadable)


def read_lines(path: Path) -> list[Record]:
    """Read the records of a JSON lines file, without cut lines; none where there is no file."""
    return [record for record in _lines(path) if record is not None]


def _lines(path: Path) -> Iterator[Record | None]:
    if not path.is_file():
        return
    # A line may be cut in the middle of a letter; the letter's remains spoil that line alone.
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:
                yield None
            else:
                yield record if isinstance(record, dict) else None
