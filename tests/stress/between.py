"""Damage to the files of a run between two lives, and the comparison of two runs."""

from __future__ import annotations

import contextlib
import random
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_qan.experiments.fit_checkpoint import FOLDER
from keras_qan.storage import checkpoint, run_log
from tests.stress import mutations


def damage(directory: Path, rng: random.Random) -> str | None:
    """Damages the newest saved state of a run; returns how, or None where there is none."""
    kinds = {"agent": "agent", FOLDER: "training"}
    found = [
        path
        for folder, stem in kinds.items()
        for path in checkpoint.series(directory / folder, stem)[-1:]
        # The one before it is what is to be gone back to.
        if folder == FOLDER or len(checkpoint.series(directory / folder, stem)) > 1
    ]
    if not found:
        return None
    path = rng.choice(found)
    content = path.read_bytes()
    way = rng.choice(["cut short", "bits flipped", "emptied"])
    changed = {
        "cut short": lambda: mutations.cut_short(content, rng),
        "bits flipped": lambda: mutations.flip_bits(content, rng),
        "emptied": lambda: b"",
    }[way]()
    path.write_bytes(changed)
    return f"checkpoint {way}" if changed != content else None


def cut_log(directory: Path, rng: random.Random) -> str | None:
    """Leaves part of a line behind, as a kill in the middle of a write would."""
    path = directory / f"{rng.choice(run_log.FILES)}.jsonl"
    if not path.exists() or not path.stat().st_size:
        return None
    line = path.read_bytes().splitlines()[-1]
    with path.open("ab") as file:
        file.write(line[: rng.randint(1, len(line) - 1)])
    return "log with half a line"


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path | None]:
    """A folder on a disk of its own, of so many megabytes; None where nothing may be mounted."""
    with tempfile.TemporaryDirectory() as name:
        options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", name]
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            yield None
            return
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)


def fill(disk: Path, free: int) -> Path:
    """Fills a disk up but for so many bytes; the file that does it."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    with contextlib.suppress(OSError), filler.open("r+b") as file:
        file.truncate(max(0, filler.stat().st_size - free))
    return filler


def count_finished(directory: Path) -> int:
    """Episodes that a run must not lose: those its agent has learned from, and evaluated ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged ones and half lines are named there
        saved = checkpoint.read_newest(directory / "agent", "agent")
        evaluated = [r for r in run_log.read(directory, "episodes") if r["phase"] == "evaluate"]
    return (0 if saved is None else int(saved[1]["episodes"])) + len(evaluated)


def records(directory: Path, file: str) -> list[dict[str, Any]]:
    """A run's records without the time they took, episode by episode.

    An episode that is played again, its checkpoint being damaged, is written down later.
    """
    found = run_log.read(directory, file)
    found = [{k: v for k, v in record.items() if k != "seconds"} for record in found]
    return sorted(found, key=lambda record: (record["phase"], record["episode"], record["arm"]))


def difference(one: Path, other: Path) -> str | None:
    """The first difference of two runs, bit for bit; None where there is none."""
    for file in run_log.FILES:
        if records(one, file) != records(other, file):
            return f"{file} differ"
    agents = [checkpoint.read_newest(each / "agent", "agent") for each in (one, other)]
    if any(agent is None for agent in agents):
        return "no agent"
    (mine, my_data), (theirs, their_data) = agents  # type: ignore[misc]
    if mine.keys() != theirs.keys() or my_data["episodes"] != their_data["episodes"]:
        return "agents differ in what they hold"
    for name, array in mine.items():
        if array.tobytes() != theirs[name].tobytes():
            return f"agents differ in {name}"
    return None
