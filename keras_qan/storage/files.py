"""Files that are there whole or not at all, and what is said when a disk is full.

JSON from strangers: parsed within bounds of memory, or refused.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: What a file is called until it is whole: hidden, its own name, the process that writes it.
_ASIDE = ".{name}.{pid}.aside"


_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def replace(path: Path, content: bytes | str | Sequence[bytes]) -> None:
    """Writes a file aside and renames it, so that whoever looks finds the old one or the new one.

    Args:
      path: the file; its folder exists.
      content: all of it, in one piece or several; text is written as UTF-8.

    Raises:
      OSError: it cannot be written; the old one is untouched.
    """
    aside = path.with_name(_ASIDE.format(name=path.name, pid=os.getpid()))
    pieces = [content.encode()] if isinstance(content, str) else content
    pieces = [pieces] if isinstance(pieces, bytes) else pieces
    with explained(path):
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


def append(path: Path, content: bytes | str) -> None:
    """Adds lines or bytes to a file; where that fails, what was written of them is taken back.

    Raises:
      OSError: the file cannot be written.
    """
    with explained(path):
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                file.write(content.encode() if isinstance(content, str) else content)
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, before)
            raise


def remove_leftovers(folder: Path, stem: str) -> None:
    """Removes what processes that are gone left half written of files whose names begin so."""
    pattern = re.compile(rf"\.{re.escape(stem)}.*\.\d+\.aside")
    for path in folder.glob(f".{stem}*.aside"):
        if pattern.fullmatch(path.name) and not path.name.endswith(f".{os.getpid()}.aside"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Within the block, an error of a full disk says what to do about it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise OSError(
            error.errno,
            f"{error.strerror} while {path} was written. What was there before is untouched: free "
            "some space, and go on from the last good state (scripts: --resume)",
        ) from error


#: What Python makes of each character that begins or parts something, in bytes at most: a list, a
#: dictionary, an entry of either.
_COSTS = {b"[": 88, b"{": 232, b",": 64, b":": 96}


def parse(text: bytes, room: int) -> Any:
    """Parses JSON.

    Args:
      text: UTF-8.
      room: bytes that the objects may take; text that could become more is refused unparsed.

    Raises:
      ValueError: it is not JSON, is nested beyond all measure, or could take more room.
    """
    most = 4 * len(text) + sum(cost * text.count(sign) for sign, cost in _COSTS.items())
    if most > room:
        raise ValueError(
            f"its {len(text)} bytes of JSON could take {most} bytes of memory; expected at most "
            f"{room}"
        )
    try:
        return json.loads(text.decode())
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
