"""TensorBoard's event files, written with the package `tensorboard` alone, on any backend."""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import socket
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_qan.storage import files


@functools.cache
def has_tensorboard() -> bool:
    """Return whether TensorBoard is installed; where it is not, warn of it once."""
    if importlib.util.find_spec("tensorboard") is not None:
        return True
    warnings.warn(
        "TensorBoard is not installed, so no events are written for it; the same numbers are in "
        "the directory's .jsonl files. Install it with `pip install 'keras-qan[tensorboard]'`.",
        UserWarning,
        stacklevel=2,
    )
    return False


class EventFile:
    """A new event file in a folder, which is made if it is missing.

    Args:
      folder: where TensorBoard finds it.
    """

    _number = 0

    def __init__(self, folder: Path) -> None:
        EventFile._number += 1
        name = f"{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{EventFile._number}"
        self._path = folder / f"events.out.tfevents.{name}.v2"

    def write(self, scalars: Sequence[tuple[str, float, int]]) -> None:
        """Append scalars: name, value, step.

        Raises:
          OSError: they cannot be written.
        """
        self.write_summaries((_summary(name, value), step) for name, value, step in scalars)

    def write_summaries(self, summaries: Iterable[tuple[Any, int]]) -> None:
        """Append summaries, protocol buffers of TensorBoard's: summary, step.

        Raises:
          OSError: they cannot be written.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        now = time.time()
        events = [] if self._path.exists() else [Event(wall_time=now, file_version="brain.Event:2")]
        events += [Event(wall_time=now, step=step, summary=summary) for summary, step in summaries]
        content = io.BytesIO()
        writer = RecordWriter(content)
        for event in events:
            writer.write(event.SerializeToString())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files.append(self._path, content.getvalue())


def write_trial(
    folder: Path, hyperparameters: Mapping[str, bool | float | str], metrics: Mapping[str, float]
) -> None:
    """Write a search's trial for TensorBoard's HParams; nothing where it is not installed.

    Args:
      folder: of this trial alone.
      hyperparameters: name → value.
      metrics: name → value at the trial's end.

    Raises:
      OSError: it cannot be written.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    started = hparams_pb(dict(hyperparameters), trial_id=folder.name)
    ended = [(_summary(name, value), 0) for name, value in metrics.items()]
    EventFile(folder).write_summaries([(started, 0), *ended])


def _summary(name: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_FLOAT
    from tensorboard.plugins.scalar.metadata import create_summary_metadata

    tensor = TensorProto(dtype=DT_FLOAT, float_val=[value])
    metadata = create_summary_metadata(display_name="", description="")
    return Summary(value=[Summary.Value(tag=name, tensor=tensor, metadata=metadata)])
