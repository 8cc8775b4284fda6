"""Trainings spread over processes of this machine, each on a core of its own."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

#: What a worker's answer begins with; everything else that it prints is passed by.
MARK = "ROW "


class Workers:
    """Gives keys to worker processes, and their rows to a function.

    A worker stays with a task while it has trainings, since its network is compiled there.

    Args:
      command: of a worker, which answers a line of JSON by one that begins with `MARK`.
      count: how many.
    """

    def __init__(self, command: Sequence[str], count: int) -> None:
        self._command, self._count = [sys.executable, *command], count
        self._changed = threading.Condition()
        self._under_way = 0

    def run(self, keys: list[tuple[Any, ...]], done: Callable[[dict[str, Any]], None]) -> None:
        """Have all keys trained; `done` is called with each row in this thread.

        Raises:
          RuntimeError: a worker died. The others finish.
        """
        self._waiting = list(keys)
        rows: queue.Queue[dict[str, Any] | None] = queue.Queue()
        cores = sorted(os.sched_getaffinity(0))
        for number in range(self._count):
            core = cores[number % len(cores)]
            threading.Thread(target=self._serve, args=(core, rows)).start()
        for _ in range(self._count):
            while (row := rows.get()) is not None:
                done(row)
        if self._waiting:
            raise RuntimeError(
                f"Every worker died, {len(self._waiting)} trainings are left; what they said is "
                "above. Run the command again: it goes on with those."
            )

    def _next(self, task: str | None) -> tuple[Any, ...] | None:
        """The next key of the same task, or the first of the task that has most.

        None once all are done: one that is under way comes back where its worker dies.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._under_way)
            names = [key[0] for key in self._waiting]
            if not names:
                return None
            self._under_way += 1
            chosen = task if task in names else max(set(names), key=names.count)
            return self._waiting.pop(names.index(chosen))

    def _serve(self, core: int, rows: queue.Queue[dict[str, Any] | None]) -> None:
        pipe = subprocess.PIPE
        command = ["taskset", "-c", str(core), *self._command]
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            task = None
            while (key := self._next(task)) is not None:
                task = key[0]
                print(json.dumps(key), file=worker.stdin, flush=True)
                answer = next((line for line in worker.stdout if line.startswith(MARK)), None)
                with self._changed:
                    self._under_way -= 1
                    if answer is None:
                        self._waiting.insert(0, key)
                    self._changed.notify_all()
                if answer is None:
                    break
                rows.put(json.loads(answer[len(MARK) :]))
            worker.stdin.close()
        rows.put(None)
