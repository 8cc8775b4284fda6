"""Where finished curves are kept: a line of JSON each, in a directory that searches share."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_qan.early_stopping.curves import Feature
from keras_qan.storage.run_log import plain


@dataclasses.dataclass(frozen=True)
class FinishedCurve:
    """One training that is over.

    Args:
      monitor: the metric's name.
      values: of the metric after each epoch.
      features: of architecture and hyperparameters, by name.
      planned: how many epochs were planned.
      stopped: whether it was stopped by prediction; then nothing is learned from it.
      predictions: (epochs observed, predicted end, lower and upper end of its interval), each time
        that it was predicted.
      first_epoch: the epoch that it went on from, 0 for one from the start.
    """

    monitor: str
    values: tuple[float, ...]
    features: Mapping[str, Feature]
    planned: int
    stopped: bool = False
    predictions: tuple[tuple[float, ...], ...] = ()
    first_epoch: int = 0


class CurveHistory:
    """Finished curves in a directory.

    Several processes may add to one directory: a curve is one line, written at once.

    Args:
      directory: made if missing, read if not.

    Raises:
      ValueError: a whole line in it is no curve.
      OSError: the directory cannot be made or read.
    """

    FILE = "curves.jsonl"

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._path = self.directory / self.FILE
        self._read: list[FinishedCurve] = []
        self._seen_bytes = 0

    def add(self, curve: FinishedCurve) -> None:
        """Appends a curve.

        Raises:
          OSError: the file cannot be written.
        """
        line = json.dumps(plain(dataclasses.asdict(curve))).encode() + b"\n"
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            cut_short = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, b"\n" + line if cut_short else line)
        finally:
            os.close(handle)

    def curves(self) -> list[FinishedCurve]:
        """All curves so far, those that other processes added included."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._seen_bytes)
            fresh = file.read()
        whole = fresh.rfind(b"\n") + 1
        for line in fresh[:whole].split(b"\n"):
            try:
                found = json.loads(line) if line.strip() else None
            except ValueError:
                continue  # cut short by a kill; its training is not known to have ended
            if found is not None:
                self._read.append(self._curve(found))
        self._seen_bytes += whole
        return list(self._read)

    def finished(self, monitor: str, first_epoch: int = 0) -> list[FinishedCurve]:
        """The curves of a metric that ran to their end, of at least two finite values.

        Args:
          monitor: the metric's name.
          first_epoch: which epoch they began with.
        """
        return [
            curve
            for curve in self.curves()
            if (curve.monitor, curve.first_epoch) == (monitor, first_epoch)
            and not curve.stopped
            and len(curve.values) > 1
            and all(math.isfinite(value) for value in curve.values)
        ]

    def _curve(self, found: Any) -> FinishedCurve:
        try:
            one = FinishedCurve(**found)
            return dataclasses.replace(
                one,
                values=_numbers(one.values),
                features=dict(one.features),
                predictions=tuple(_numbers(row) for row in one.predictions),
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Received a line of {self._path} that is no learning curve ({error}); expected "
                "what CurveHistory.add wrote. Use another directory, or take the line out."
            ) from error


def _numbers(values: Any) -> tuple[float, ...]:
    """Numbers of a JSON list, where null stands for what JSON has no number for."""
    return tuple(math.nan if value is None else float(value) for value in values)
