"""Files that hold arrays and plain data: written aside and renamed, with a checksum, never code."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_MAGIC = b"keras_qan 1 sha256 "
_HEADER_BYTES = len(_MAGIC) + 64 + 1
_NAME = re.compile(r"^(?P<stem>.+)-(?P<number>\d{8})\.ckpt$")
_DATA = "__data__"


class CheckpointError(ValueError):
    """A file is not a whole checkpoint of this package."""


def write(path: Path, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
    """Writes a file so that it is there whole or not at all.

    Args:
      path: the file; its folder exists.
      arrays: NumPy arrays of plain numbers, by name.
      data: whatever JSON can hold.

    Raises:
      OSError: the file cannot be written; an older one of that name is untouched.
    """
    text = np.frombuffer(json.dumps(data).encode(), np.uint8)
    body = io.BytesIO()
    np.savez(body, allow_pickle=False, **{_DATA: text}, **arrays)
    content = body.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode()
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(_MAGIC + digest + b"\n" + content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `write` wrote.

    Returns:
      The arrays by name, and the data.

    Raises:
      CheckpointError: the file is cut short, changed, or not one of this package's.
      FileNotFoundError: there is no such file.
    """
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        what = "is empty" if not content else "does not begin as one"
        raise CheckpointError(f"{path} is not a checkpoint of keras_qan: it {what}.")
    body = content[_HEADER_BYTES:]
    expected = content[len(_MAGIC) : _HEADER_BYTES - 1]
    found = hashlib.sha256(body).hexdigest().encode()
    if found != expected:
        raise CheckpointError(
            f"{path} is damaged: its {len(body)} bytes have the checksum {found[:12].decode()}…, "
            f"expected {expected[:12].decode(errors='replace')}…. It was cut short or changed; use "
            "an older one, or start anew in another directory."
        )
    try:
        _check_sizes(path, body)
        with np.load(io.BytesIO(body), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        data = json.loads(arrays.pop(_DATA).tobytes().decode())
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read as arrays and data: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds {type(data).__name__} where a JSON object belongs.")
    return arrays, data


def _check_sizes(path: Path, body: bytes) -> None:
    """Refuses an archive that would unpack to more than it is."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > len(body):
        raise CheckpointError(
            f"{path} holds {len(body)} bytes that would unpack to {unpacked}; checkpoints of this "
            "package are not compressed."
        )


def write_next(
    folder: Path, stem: str, arrays: dict[str, np.ndarray], data: dict[str, Any]
) -> Path:
    """Writes the next of a series of checkpoints and keeps the last three.

    Returns:
      The new file, `<folder>/<stem>-<number>.ckpt`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    older = series(folder, stem)
    number = _number(older[-1]) + 1 if older else 1
    path = folder / f"{stem}-{number:08d}.ckpt"
    write(path, arrays, data)
    for old in older[:-2]:
        old.unlink(missing_ok=True)
    return path


def series(folder: Path, stem: str) -> list[Path]:
    """The checkpoints of a series, oldest first."""
    found = [path for path in folder.glob(f"{stem}-*.ckpt") if _NAME.match(path.name)]
    return sorted(found, key=_number)


def _number(path: Path) -> int:
    match = _NAME.match(path.name)
    return int(match["number"]) if match else 0


def read_newest(folder: Path, stem: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Reads the newest whole checkpoint of a series; warns of damaged ones on the way.

    Returns:
      Arrays and data, or None where the series is empty.

    Raises:
      CheckpointError: there are checkpoints, and none is whole.
    """
    paths = series(folder, stem)
    faults = []
    for path in reversed(paths):
        try:
            found = read(path)
        except CheckpointError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            warnings.warn(f"{fault} Going on from {path.name}.", RuntimeWarning, stacklevel=3)
        return found
    if faults:
        raise CheckpointError(
            f"None of the {len(faults)} checkpoints in {folder} is whole. " + " ".join(faults)
        )
    return None
