"""Whole runs, interrupted again and again, that must end as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_qan.storage import checkpoint
from tests.stress import between, lives, small_run, within

#: Faults of a life, with their weights.
KINDS = {
    "kill": 8,
    "SIGTERM": 3,
    "data that raise": 2,
    "disk full": 3,
    "clock jumps": 2,
    "second run refused": 2,
}

#: Megabytes of the disk that a run is on: a whole run takes less than half of it.
DISK = 3

#: Lives in which a run must have come to its end once nothing is injected any more.
PATIENCE = 3


class Reference:
    """The run that nothing happens to, and how long it takes.

    Args:
      folder: where it is kept; a run that is there is made again.
    """

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "reference"
        shutil.rmtree(self.directory, ignore_errors=True)
        began = time.monotonic()
        child = lives.start(self.directory, lives.plain, folder / "reference.log")
        before, code = traces(self.directory), None
        while code is None and traces(self.directory) == before:
            time.sleep(0.01)
            code = lives.poll(child)
        self.start = time.monotonic() - began
        code = lives.wait_for(child) if code is None else code
        if code != lives.FINISHED:
            raise RuntimeError(f"The reference ended with {code}; see {folder}/reference.log.")
        self.work = time.monotonic() - began - self.start


def traces(directory: Path) -> list[int]:
    """Modification times that change whenever a run saves something."""
    found = []
    for folder in ("agent", "midway"):
        with contextlib.suppress(OSError):
            found.append((directory / folder).stat().st_mtime_ns)
    return found


class WholeRun:
    """One run, on a small disk of its own, and what is done to it.

    Args:
      name: what its row and its log are called.
      folder: where its log is.
      disk: where it lives; it may be filled up.
      is_small: whether that is a disk of its own.
      reference: what it has to end as.
      rng: what is done to it, and when.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        disk: Path,
        is_small: bool,
        reference: Reference,
        rng: random.Random,
    ) -> None:
        self.directory, self.disk, self.rng = disk / "run", disk, rng
        self.reference = reference
        self.log, self.jumps = folder / f"{name}.log", folder / f"{name}.jumps"
        self.jumps.unlink(missing_ok=True)
        self.kinds = {k: n for k, n in KINDS.items() if is_small or k != "disk full"}
        self.injected: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.was_damaged = False

    def interrupt(self, most: int) -> None:
        """Injects faults until the run is over, or there were so many, and lets it end."""
        while sum(self.injected.values()) < most:
            kind = self.rng.choices(list(self.kinds), list(self.kinds.values()))[0]
            if self.one_life(kind):
                break
            for extra in (between.damage, between.cut_log):
                found = extra(self.directory, self.rng) if self.rng.random() < 0.3 else None
                if found:
                    self.injected[found] += 1
                    self.was_damaged = True
        self.end()

    def one_life(self, kind: str) -> bool:
        """A life that something happens to; whether the run was over before."""
        finished = between.count_finished(self.directory)
        before, jumps = traces(self.directory), self.count_jumps()
        child = lives.start(self.directory, self.setup(kind), self.log)
        expected = (lives.RAISED,)
        code = None
        if kind != "data that raise":
            code = self.wait_for_moment(child, before)
            if code is None:
                code, expected = self.strike(kind, child)
        code = lives.wait_for(child) if code is None else code
        self.injected["clock jumps"] += self.count_jumps() > jumps
        if code == lives.FINISHED:
            return True
        if code in expected:
            self.injected["kill" if code == -signal.SIGKILL else kind] += 1
        else:
            self.wrong.append(f"{kind} ended with {code}, expected {expected}")
        # After damage, episodes that the damaged checkpoint knew are played again.
        if between.count_finished(self.directory) < finished and not self.was_damaged:
            self.wrong.append(f"{kind}: finished episodes are lost")
        self.was_damaged = False
        return False

    def setup(self, kind: str) -> lives.Setup:
        """The set-up of a life."""
        if kind == "data that raise":
            return within.raising(self.rng.randrange(1, 120))
        if kind == "clock jumps":
            return within.with_jumping_clock(self.rng.getrandbits(32), self.jumps)
        return lives.plain

    def wait_for_moment(self, child: int, before: list[int]) -> int | None:
        """Waits for a random moment; how the life ended, if it did before.

        A quarter of all moments are before the life has saved anything: while it reads what is
        there, builds and compiles.
        """
        code = None
        if self.rng.random() < 0.25:
            end = time.monotonic() + self.rng.uniform(0.0, self.reference.start)
        else:
            wait = self.rng.uniform(0.0, 0.4 * self.reference.work)
            while code is None and traces(self.directory) == before:
                time.sleep(0.005)
                code = lives.poll(child)
            end = time.monotonic() + wait
        while code is None and time.monotonic() < end:
            time.sleep(0.005)
            code = lives.poll(child)
        return code

    def strike(self, kind: str, child: int) -> tuple[int, tuple[int, ...]]:
        """Does it; how the life ended, and how it may."""
        if kind == "disk full":
            filler = between.fill(self.disk, self.rng.randrange(0, 60_000))
            code = lives.wait_for(child)
            filler.unlink(missing_ok=True)
            return code, (lives.NO_SPACE,)
        if kind == "SIGTERM":
            os.kill(child, signal.SIGTERM)
            # A request before anybody listens ends the process as it always does.
            return lives.wait_for(child), (lives.STOPPED, -signal.SIGTERM)
        if kind == "second run refused" and (self.directory / ".lock").exists():
            code = self.second(child)
            if code is not None:
                return code, ()
        os.kill(child, signal.SIGKILL)
        return lives.wait_for(child), (-signal.SIGKILL,)

    def second(self, child: int) -> int | None:
        """Another life on the directory of one that lives; how that ended, if it did meanwhile."""
        other = lives.wait_for(lives.start(self.directory, lives.plain, self.log))
        code = lives.poll(child)
        if other == lives.IN_USE:
            self.injected["second run refused"] += 1
        elif other != lives.FINISHED or code is None:  # unless the first one was over
            self.wrong.append(f"a second run ended with {other}")
        return code

    def count_jumps(self) -> int:
        """Jumps of its clock so far."""
        return self.jumps.stat().st_size if self.jumps.exists() else 0

    def end(self) -> None:
        """Lets it come to its end, half the time with a clock that jumps, and compares."""
        kind = self.rng.choice(["clock jumps", "nothing"])
        jumps = self.count_jumps()
        for _ in range(PATIENCE):
            code = lives.wait_for(lives.start(self.directory, self.setup(kind), self.log))
            if code == lives.FINISHED:
                break
            self.wrong.append(f"could not go on: {code}")
        self.injected["clock jumps"] += self.count_jumps() > jumps
        problem = between.difference(self.reference.directory, self.directory)
        self.wrong += [problem] if problem else []


def interrupt(
    name: str, folder: Path, reference: Reference, rng: random.Random, most: int
) -> dict[str, object]:
    """Interrupts one run up to `most` times; returns the row."""
    with between.small_disk(DISK) as disk:
        place = disk or folder / name
        shutil.rmtree(place / "run", ignore_errors=True)
        one = WholeRun(name, folder, place, disk is not None, reference, rng)
        one.interrupt(most)
        if one.wrong:
            kept = folder / f"{name}-wrong"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(one.directory, kept)
    injected = {kind: count for kind, count in one.injected.items() if count}
    return {"run": name, "injected": injected, "jumps": one.count_jumps(), "wrong": one.wrong}


def inject_non_finite(
    name: str, folder: Path, rng: random.Random, kind: str, count: int
) -> dict[str, object]:
    """Runs with non-finite numbers, which must end with a finite agent; returns the row."""
    directory = folder / name
    shutil.rmtree(directory, ignore_errors=True)
    seed = rng.getrandbits(32)
    if kind == "batch":
        setup: Callable[[], dict[str, object]] = lambda: within.non_finite_batches(  # noqa: E731
            random.Random(seed), count
        )
    else:
        setup = lambda: within.non_finite_models(random.Random(seed), kind, count)  # noqa: E731
    code = lives.wait_for(lives.start(directory, setup, folder / f"{name}.log"))
    wrong = [] if code == lives.FINISHED else [f"ended with {code}"]
    if code == lives.FINISHED:
        found = checkpoint.read_newest(directory / "agent", "agent")
        if found is None or not all(np.isfinite(array).all() for array in found[0].values()):
            wrong.append("the agent holds non-finite numbers")
        expected = small_run.EPISODES + len(small_run.EVALUATION.arms)
        if len(between.records(directory, "episodes")) != expected:
            wrong.append("episodes are missing")
    return {"run": name, "injected": {f"NaN in {kind}": count}, "wrong": wrong}
