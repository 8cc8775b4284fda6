"""Finished curves on disk: a line of JSON each, in a directory that processes share."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from keras_qan.early_stopping.curves import Feature, plain_feature
from keras_qan.storage.files import explain_full_disk, replace_non_finite
from keras_qan.utils.validation import check_folder


@dataclasses.dataclass(frozen=True)
class FinishedCurve:
    """One training that has ended.

    Args:
      monitor: the metric's name.
      values: of the metric after each epoch.
      features: of architecture and hyperparameters, by name.
      planned: the number of epochs planned.
      stopped: whether it was stopped by prediction; then it is not learned from. Defaults to False.
      predictions: (epochs observed, predicted end, lower and upper end of its interval) for each
        prediction. Defaults to none.
      first_epoch: the epoch that it resumed from. Defaults to 0.
    """

    monitor: str
    values: tuple[float, ...]
    features: Mapping[str, Feature]
    planned: int
    stopped: bool = False
    predictions: tuple[tuple[float, ...], ...] = ()
    first_epoch: int = 0

    def __post_init__(self) -> None:
        # NumPy's numbers have no place in a file of JSON.
        plain = {name: plain_feature(value) for name, value in dict(self.features).items()}
        object.__setattr__(self, "features", plain)
        object.__setattr__(self, "values", _numbers(self.values))
        object.__setattr__(self, "predictions", tuple(map(_numbers, self.predictions)))
        for name in ("planned", "first_epoch"):
            object.__setattr__(self, name, int(getattr(self, name)))


class CurveHistory:
    """Finished curves in a directory; several processes may add to it.

    Args:
      directory: made if missing.

    Raises:
      ValueError: a whole line in it is not a curve.
      OSError: the directory cannot be made or read.
    """

    FILE = "curves.jsonl"

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = check_folder("The history's directory", directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._path = self.directory / self.FILE
        self._read: list[FinishedCurve] = []
        self._seen_bytes = 0

    def add(self, curve: FinishedCurve) -> None:
        """Append a curve, as one line written at once.

        Args:
          curve: a training that is over.

        Raises:
          OSError: the file cannot be written.
        """
        line = json.dumps(replace_non_finite(dataclasses.asdict(curve))).encode() + b"\n"
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            cut_short = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            with explain_full_disk(self._path):
                wanted = b"\n" + line if cut_short else line
                if os.write(handle, wanted) < len(wanted):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)

    def curves(self) -> list[FinishedCurve]:
        """Return all curves so far, those of other processes included."""
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
                self._read.append(self._parse(found))
        self._seen_bytes += whole
        return list(self._read)

    def finished_curves(self, monitor: str, first_epoch: int = 0) -> list[FinishedCurve]:
        """Return the curves of a metric that ran to their end, of at least two finite values.

        Args:
          monitor: the metric's name.
          first_epoch: the epoch that they began with. Defaults to 0.
        """
        return [
            curve
            for curve in self.curves()
            if (curve.monitor, curve.first_epoch) == (monitor, first_epoch)
            and not curve.stopped
            and len(curve.values) > 1
            and all(math.isfinite(value) for value in curve.values)
        ]

    def _parse(self, found: Any) -> FinishedCurve:
        try:
            return FinishedCurve(**found)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Received a line of {self._path} that is no learning curve ({error}); expected "
                "one that CurveHistory.add wrote. Use another directory, or delete the line."
            ) from error


def _numbers(values: Any) -> tuple[float, ...]:
    """Convert a list of numbers, as of JSON, where null stands for a non-finite one."""
    return tuple(math.nan if value is None else float(value) for value in values)
