"""Runs with workers, of which some are killed, and now and then whoever they work for."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from tests.stress import between

ROOT = Path(__file__).parents[2]

#: Seconds after which a run that has not ended is taken to hang.
LIMIT = 900

PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from tests.stress import small_run
from keras_qan.parallel import make_executor
from keras_qan.storage.signals import Stopped
try:
    with make_executor(sys.argv[1], 2, threads=1) as engine:
        small_run.go(Path(sys.argv[2]), small_run.make_task(slowly=0.02), engine)
except Stopped:
    sys.exit(143)
"""


def start(engine: str, directory: Path, log: Path) -> subprocess.Popen[bytes]:
    """A run of two workers in a session of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, engine, str(directory)]
    with log.open("ab") as out:
        return subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True
        )


def find_workers(process: int, engine: str) -> list[int]:
    """Process numbers of its workers."""
    sign = "keras_qan.parallel.worker_main" if engine == "local" else "ray::_RayWorker"
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(sign in part for part in child.cmdline()):
                    found.append(child.pid)
    return found


def end_remaining(session: int, patience: float = 150.0) -> list[str]:
    """Processes of a session whose leader is gone; they are given a while to go too, then ended."""
    end = time.monotonic() + patience
    while True:
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(each.pid) == session and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
        if not found or time.monotonic() > end:
            break
        time.sleep(0.5)
    names = []
    for each in found:
        with contextlib.suppress(psutil.Error):
            names.append(each.name())
            each.kill()
    return names


def interrupt(
    name: str,
    folder: Path,
    engine: str,
    rng: random.Random,
    worker_kills: int,
    learner_faults: int,
) -> dict[str, object]:
    """Kills the workers and learners of a run, which must end as the engine's own; the row.

    Args:
      name: of the row and the log.
      folder: where the run and its reference are.
      engine: whose workers.
      rng: when, and who.
      worker_kills: of all workers together.
      learner_faults: kills of the learner; every third is a SIGTERM.
    """
    reference, directory = folder / f"reference-{engine}", folder / name
    log = folder / f"{name}.log"
    if not (reference / "evaluation.json").exists():
        shutil.rmtree(reference, ignore_errors=True)
        if start(engine, reference, log).wait(LIMIT):
            raise RuntimeError(f"The reference of {engine} failed; see {log}.")
    shutil.rmtree(directory, ignore_errors=True)
    injected: Counter[str] = Counter()
    wrong: list[str] = []
    kinds = [f"{engine} worker killed"] * worker_kills
    for number in range(learner_faults):
        kinds.append(f"learner with {engine} workers {'SIGTERM' if number % 3 == 2 else 'killed'}")
    rng.shuffle(kinds)
    finished, code = 0, None
    while code != 0:
        process = start(engine, directory, log)
        before = time.monotonic()
        code = _disturb(process, engine, kinds, injected, rng)
        wrong += [f"left behind: {each}" for each in end_remaining(process.pid)]
        if code not in (0, 143, -signal.SIGKILL, -signal.SIGTERM):
            wrong.append(f"ended with {code}")
            if time.monotonic() - before > LIMIT or len(wrong) > 5:
                break
        now = between.count_finished(directory)
        if now < finished:
            wrong.append(f"finished episodes are lost: {finished}, then {now}")
        finished = now
    problem = between.difference(reference, directory)
    wrong += [problem] if problem else []
    return {"run": name, "injected": dict(injected), "wrong": wrong}


def _disturb(
    process: subprocess.Popen[bytes],
    engine: str,
    kinds: list[str],
    injected: Counter[str],
    rng: random.Random,
) -> int:
    """Takes faults from the list while the run lives; how that ended."""
    end = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < end:
        pids = find_workers(process.pid, engine)
        if not pids or not kinds:
            time.sleep(0.2)
            continue
        time.sleep(rng.uniform(0.0, 5.0))
        if process.poll() is not None:
            break
        kind = kinds.pop()
        injected[kind] += 1
        if "worker killed" in kind:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(find_workers(process.pid, engine) or pids), signal.SIGKILL)
            continue
        process.send_signal(signal.SIGTERM if "SIGTERM" in kind else signal.SIGKILL)
        break
    try:
        return process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return 99
