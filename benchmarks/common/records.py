"""JSON lines of finished measurements, from which an interrupted benchmark resumes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Key = tuple[Any, ...]


def read_rows(path: Path) -> list[Row]:
    """Reads the rows of a file; none where there is no file.

    A last line without its end, as a kill leaves it behind, is ignored.
    """
    if not path.exists():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def keep_rows(path: Path, rows: Iterable[Row], *key: str) -> list[Row]:
    """Write rows into a file, in the place of those of the same key, and return all of it.

    Args:
      path: of the JSON lines.
      rows: to keep.
      key: names of the values that tell one measurement from another.
    """
    found = {tuple(row[name] for name in key): row for row in (*read_rows(path), *rows)}
    path.write_text("".join(json.dumps(row) + "\n" for row in found.values()), encoding="utf-8")
    return list(found.values())


class Records:
    """The rows of a file, each written as it is found.

    Args:
      path: of the JSON lines; its folder is made with the first row.
      key: names of the values that tell one measurement from another. Defaults to none, for rows
        that are never looked up.
    """

    def __init__(self, path: Path | str, *key: str) -> None:
        self.path = Path(path)
        self.key = key
        self.rows = read_rows(self.path)

    def key_of(self, row: Row) -> Key:
        """The values of a row that tell it from others."""
        return tuple(row.get(name) for name in self.key)

    def missing(self, keys: Iterable[Key]) -> Iterator[Key]:
        """Yields the keys that have no row when their turn comes."""
        for key in keys:
            if not any(self.key_of(row) == key for row in self.rows):
                yield key

    def add(self, row: Row) -> None:
        """Appends a row to the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            whole = self.path.read_bytes()
            if whole and not whole.endswith(b"\n"):
                self.path.write_bytes(whole[: whole.rfind(b"\n") + 1])
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows.append(json.loads(json.dumps(row)))
