"""Files that hold arrays and plain data: written aside and renamed, with a checksum, never code."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from keras_qan.storage import files

_MAGIC = b"keras_qan 1 sha256 "
_HEADER_BYTES = len(_MAGIC) + 64 + 1
_NAME = re.compile(r"^(?P<stem>.+)-(?P<number>\d{8})\.ckpt$")
_DATA = "__data__"

#: Bytes of Python objects that the data of a file may become, beyond the file's own size.
MAX_DATA_BYTES = 16 << 20

#: Bytes that are read at a time.
_PIECE = 1 << 18


class CheckpointError(ValueError):
    """A file is not a whole checkpoint of this package."""


def write(path: Path, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
    """Write a file so that it is there whole or not at all.

    Args:
      path: the file; its folder exists.
      arrays: NumPy arrays of plain numbers, by name.
      data: plain data that JSON can hold.

    Raises:
      OSError: the file cannot be written; an older one of that name is untouched.
    """
    content = _pack({_DATA: np.frombuffer(json.dumps(data).encode(), np.uint8)} | arrays)
    digest = hashlib.sha256(content).hexdigest().encode()
    files.replace(path, [_MAGIC + digest + b"\n", content])


def read(
    path: Path, max_data_bytes: int = MAX_DATA_BYTES
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the data of a file. Nothing in it is ever run.

    At no time more memory is taken than twice the file's size and `max_data_bytes`.

    Args:
      path: the file.
      max_data_bytes: bytes of Python objects that its data may become beyond the file's own size.
        Defaults to 16 MiB.

    Raises:
      CheckpointError: the file is cut short, changed, or not one of this package's.
      FileNotFoundError: there is no such file.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        _check_sum(path, file)
        try:
            _check_directory(file, size)
            arrays = _unpack(file, size)
            text = arrays.pop(_DATA).tobytes()
            data = files.parse_json(text, size + max_data_bytes)
        except Exception as error:  # whatever a parser trips over is the file's fault
            raise CheckpointError(f"{path} cannot be read as arrays and data: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds {type(data).__name__} where a JSON object belongs.")
    return arrays, data


def _check_sum(path: Path, file: IO[bytes]) -> None:
    head = file.read(_HEADER_BYTES)
    if not head.startswith(_MAGIC):
        what = "is empty" if not head else "does not begin as one"
        raise CheckpointError(f"{path} is not a checkpoint of keras_qan: it {what}.")
    expected = head[len(_MAGIC) : _HEADER_BYTES - 1]
    digest, length = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        length += len(piece)
    found = digest.hexdigest().encode()
    if found != expected:
        raise CheckpointError(
            f"{path} is damaged: its {length} bytes have the checksum {found[:12].decode()}…, "
            f"expected {expected[:12].decode(errors='replace')}…. It was cut short or changed; use "
            "an older one, or start anew in another directory."
        )


def _pack(arrays: dict[str, np.ndarray]) -> bytes:
    """Return an archive as `np.savez` writes it, which has reserved names."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return body.getvalue()


def _check_directory(file: IO[bytes], size: int) -> None:
    """Refuse an archive whose table of contents alone would take too much memory.

    `zipfile` makes some 700 bytes of objects of each entry, which takes 46 bytes in the file.
    """
    file.seek(max(size - 98, 0))
    tail = file.read()
    end = tail[-22:]
    if len(tail) < 98 or end[:4] != b"PK\x05\x06":
        raise ValueError("it does not end as an archive of this package does")
    table = int(struct.unpack("<I", end[12:16])[0])
    if tail[-42:-38] == b"PK\x06\x07":  # beyond four gigabytes
        table = max(table, int(struct.unpack("<Q", tail[-58:-50])[0]))
    if table > (1 << 16) + size // 32:
        raise ValueError(f"its table of contents has {table} of its {size} bytes")


def _unpack(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > size or any(m.compress_type != zipfile.ZIP_STORED for m in members):
            raise ValueError(
                f"it holds {size} bytes that would unpack to {unpacked}; checkpoints of this "
                "package are not compressed"
            )
        for member in members:
            _check_array(archive, member)
            with archive.open(member) as content:
                array = np.lib.format.read_array(content, allow_pickle=False)
            arrays[member.filename.removesuffix(".npy")] = array
    return arrays


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse an array of anything but numbers, or of another size than its member's."""
    with archive.open(member) as content:
        version = np.lib.format.read_magic(content)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(content)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(content)
        else:
            raise ValueError(f"{member.filename!r} is an array of version {version}")
        rest = member.file_size - content.tell()
    if dtype.kind not in "biufc":
        raise ValueError(f"{member.filename!r} holds {dtype}, expected numbers (no allow_pickle)")
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != rest:
        raise ValueError(f"{member.filename!r} of shape {shape} and {dtype} has {rest} bytes")


def write_next(
    folder: Path, stem: str, arrays: dict[str, np.ndarray], data: dict[str, Any]
) -> Path:
    """Write the next of a series of checkpoints, and keep the last three that are whole.

    Returns:
      The new file, `<folder>/<stem>-<number>.ckpt`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    older = series(folder, stem)
    number = _number(older[-1]) + 1 if older else 1
    path = folder / f"{stem}-{number:08d}.ckpt"
    files.remove_leftovers(folder, stem)
    write(path, arrays, data)
    _whole[path] = _mark(path)
    whole = [old for old in older if _is_whole(old)]
    for old in older[: older.index(whole[-2])] if len(whole) > 1 else []:
        old.unlink(missing_ok=True)
        _whole.pop(old, None)
    return path


#: Files that this process knows to be whole: when each was written, and its length.
_whole: dict[Path, tuple[int, int]] = {}


def _mark(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _is_whole(path: Path) -> bool:
    """Return whether the checksum is right; computed once, unless the file changes."""
    if _whole.get(path) == _mark(path):
        return True
    try:
        with path.open("rb") as file:
            _check_sum(path, file)
    except CheckpointError:
        return False
    _whole[path] = _mark(path)
    return True


def series(folder: Path, stem: str) -> list[Path]:
    """Return the checkpoints of a series, oldest first."""
    matches = [(path, _NAME.match(path.name)) for path in folder.glob(f"{stem}-*.ckpt")]
    return sorted([path for path, match in matches if match and match["stem"] == stem], key=_number)


def _number(path: Path) -> int:
    match = _NAME.match(path.name)
    return int(match["number"]) if match else 0


def read_newest(folder: Path, stem: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Return arrays and data of the newest whole checkpoint of a series; None where it is empty.

    A warning names damaged ones that are newer.

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
