"""Flags as a command line gives them, and scripts as processes of their own.

Scripts are forked from a server in which the experiments are imported, so that none waits for
the imports of TensorFlow and TF-Agents, and nothing was computed yet.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from keras_qan.experiments.flags import define_flags, from_flags

ROOT = Path(__file__).parents[2]

#: Seconds after which a script is given up; it takes a tenth of it on a quiet machine.
LIMIT = 300

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["keras_qan.experiments.tables", "keras_qan.experiments.policy", "helpers.preloaded"]
)


def parse(kind: type, *lines: str) -> Any:
    """Return the experiment that command-line arguments describe."""
    holder = flags.FlagValues()
    define_flags(kind, holder)
    holder(["script", *lines])
    return from_flags(kind, holder)


class Script:
    """A script that was started.

    Args:
      name: of the script, without `.py`.
      arguments: of its command line.
      output: the file for its output and its errors; made if it is missing.
      before: importable function that is called first, in its process. Defaults to none.
    """

    def __init__(
        self,
        name: str,
        *arguments: str,
        output: Path,
        before: Callable[[], None] | None = None,
    ) -> None:
        self._output = output
        path = str(ROOT / "scripts" / f"{name}.py")
        self.process = _context.Process(
            target=_run, args=([path, *arguments], str(output), before), daemon=False
        )
        self.process.start()

    @property
    def output(self) -> str:
        """All that it printed so far."""
        return self._output.read_text() if self._output.exists() else ""

    def wait_for(self, path: Path) -> None:
        """Wait until a file is there; fail if the script ends without it."""
        end = time.monotonic() + LIMIT
        while not path.exists():
            assert self.process.is_alive(), self.output
            assert time.monotonic() < end, f"{path} is still missing\n{self.output}"
            time.sleep(0.005)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit status."""
        self.process.join(LIMIT)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"It did not end within {LIMIT} s.\n{self.output}")
        return self.process.exitcode


def _run(command: list[str], output: str, before: Callable[[], None] | None) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = open(1, "w", buffering=1)  # noqa: SIM115 - for as long as the process
    sys.stderr = open(2, "w", buffering=1)  # noqa: SIM115
    if before is not None:
        before()
    os.chdir(ROOT)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
