"""Files that are there whole or not at all, and JSON within bounds of memory."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: Name of a file until it is whole: hidden, its own name, the process that writes it.
_ASIDE = ".{name}.{pid}.aside"

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

#: Bytes at most that Python makes of each character that begins or parts something: a list, a
#: dictionary, an entry of either.
_JSON_COSTS = {b"[": 88, b"{": 232, b",": 64, b":": 96}


def replace(path: Path, content: bytes | str | Sequence[bytes]) -> None:
    """Write a file aside and rename it, so that a reader finds the old one or the new one.

    Args:
      path: the file; its folder exists.
      content: all of it, in one piece or several; text is written as UTF-8.

    Raises:
      OSError: it cannot be written; the old one is untouched.
    """
    aside = path.with_name(_ASIDE.format(name=path.name, pid=os.getpid()))
    pieces = [content.encode()] if isinstance(content, str) else content
    pieces = [pieces] if isinstance(pieces, bytes) else pieces
    with explain_full_disk(path):
        try:
            with aside.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise


def append(path: Path, content: bytes | str, *, waits: bool = False) -> None:
    """Add lines or bytes to a file; where that fails, the part that was written is removed.

    Args:
      path: the file; its folder exists.
      content: what is added.
      waits: whether to wait until it is on the disk. Defaults to False.

    Raises:
      OSError: the file cannot be written.
    """
    with explain_full_disk(path):
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                if waits:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, before)
            raise


def remove_leftovers(folder: Path, stem: str) -> None:
    """Remove half-written files whose names begin so, of processes that are gone."""
    pattern = re.compile(rf"\.{re.escape(stem)}.*\.\d+\.aside")
    for path in folder.glob(f".{stem}*.aside"):
        if pattern.fullmatch(path.name) and not path.name.endswith(f".{os.getpid()}.aside"):
            path.unlink(missing_ok=True)


def parse_json(text: bytes, max_bytes: int) -> Any:
    """Parse JSON from a file that anybody may have written.

    Args:
      text: UTF-8.
      max_bytes: that the objects may take; text that could become more is refused unparsed.

    Raises:
      ValueError: it is not JSON, is nested beyond all measure, or could take more memory.
    """
    most = 4 * len(text) + sum(cost * text.count(sign) for sign, cost in _JSON_COSTS.items())
    if most > max_bytes:
        raise ValueError(
            f"its {len(text)} bytes of JSON could take {most} bytes of memory; expected at most "
            f"{max_bytes}"
        )
    try:
        return json.loads(text.decode())
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error


def replace_non_finite(value: Any) -> Any:
    """Return plain data with null for every number that JSON does not know.

    Example:
      >>> replace_non_finite({"loss": (1.0, float("nan"))})
      {'loss': [1.0, None]}
    """
    if isinstance(value, dict):
        return {key: replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_non_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextlib.contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Let an error of a full disk say what to do about it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise OSError(
            error.errno,
            f"{error.strerror} while {path} was written. What was there before is untouched: free "
            "some space, and go on from the last good state (scripts: the same --directory, and "
            "--resume where they have it)",
        ) from error
