"""Faults, at random moments of small runs, which have to go on and end as if there had been none.

    python benchmarks/faults/run.py

A run lives until it is killed, asked to stop, out of disk, or broken by its data; before it is gone
on with, what it left behind may be damaged. When it has come to its end, its records and its agent
are compared, bit for bit, with those of a run that nothing happened to. Lives are forked from this
process, which has imported TensorFlow and never uses it. Rows go to `faults.jsonl` as they come;
what is there already is not done again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from absl import app, flags  # noqa: E402

from benchmarks.faults import mutations, small_run, writers  # noqa: E402
from keras_qan import checkpoint, run_log  # noqa: E402
from keras_qan.agents.door import open_tf_agents  # noqa: E402
from keras_qan.episodes import Stopped  # noqa: E402
from keras_qan.lock import DirectoryInUseError  # noqa: E402
from keras_qan.midway import FOLDER  # noqa: E402

#: How a life may end; anything else is an error of ours.
FINISHED, STOPPED, NO_SPACE, IN_USE, RAISED = 0, 10, 11, 12, 13


class InjectedError(Exception):
    """What a data pipeline raises."""


# One life.


def live(directory: Path, setup: Callable[[], dict[str, Any]], log: Path) -> int:
    """Starts a life in a forked process; its process number."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        with log.open("a") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        code = _lived(directory, setup)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _lived(directory: Path, setup: Callable[[], dict[str, Any]]) -> int:
    import warnings

    warnings.simplefilter("ignore")
    try:
        small_run.go(directory, **setup())
    except Stopped as stopped:
        print(stopped)
        return STOPPED
    except DirectoryInUseError as error:
        print(error)
        return IN_USE
    except OSError as error:
        print(error)
        return NO_SPACE if error.errno in (errno.ENOSPC, errno.EFBIG) else 99
    except Exception as error:
        if "InjectedError" in str(error):
            return RAISED
        raise
    return FINISHED


def code_of(child: int) -> int:
    """How a life ended: its code, or the negative number of the signal."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def is_over(child: int) -> int | None:
    """How it ended, if it has."""
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def plain() -> dict[str, Any]:
    """Nothing is injected."""
    return {}


def raising(rng: random.Random) -> Callable[[], dict[str, Any]]:
    """The data raise at some batch."""
    left = rng.randrange(1, 60)

    def setup() -> dict[str, Any]:
        seen = [0]

        def batch(x: np.ndarray, y: np.ndarray) -> Any:
            seen[0] += 1
            if seen[0] == left:
                raise InjectedError(f"InjectedError at batch {left}")
            return x, y

        return {"task": small_run.make_task(batch)}

    return setup


def with_jumping_clock(rng: random.Random, jumps: int) -> Callable[[], dict[str, Any]]:
    """The wall clock jumps by up to ten days, back and forth."""
    seed = rng.getrandbits(32)

    def setup() -> dict[str, Any]:
        own, offset, left = random.Random(seed), [0.0], [jumps]
        real = time.time

        def batch(x: np.ndarray, y: np.ndarray) -> Any:
            if left[0] and own.random() < 0.1:
                left[0] -= 1
                offset[0] = own.uniform(-864_000, 864_000)
            return x, y

        time.time = lambda: real() + offset[0]
        return {"task": small_run.make_task(batch)}

    return setup


# Between lives.


def damage(directory: Path, rng: random.Random) -> str | None:
    """Damages the newest state that a run left behind; which way, or None where there is none."""
    kinds = {"agent": "agent", FOLDER: "training"}
    found = [
        path
        for folder, stem in kinds.items()
        for path in checkpoint.series(directory / folder, stem)[-1:]
        # The one before it is what is to be gone back to.
        if folder == FOLDER or len(checkpoint.series(directory / folder, stem)) > 1
    ]
    if not found:
        return None
    path = rng.choice(found)
    content = path.read_bytes()
    way = rng.choice(["cut short", "bits flipped", "emptied"])
    changed = {
        "cut short": lambda: mutations.cut_short(content, rng),
        "bits flipped": lambda: mutations.flip_bits(content, rng),
        "emptied": lambda: b"",
    }[way]()
    path.write_bytes(changed)
    return f"checkpoint {way}" if changed != content else None


def cut_log(directory: Path, rng: random.Random) -> str | None:
    """Leaves part of a line behind, as a kill in the middle of a write would."""
    path = directory / f"{rng.choice(run_log.FILES)}.jsonl"
    if not path.exists() or not path.stat().st_size:
        return None
    line = path.read_bytes().splitlines()[-1]
    with path.open("ab") as file:
        file.write(line[: rng.randint(1, len(line) - 1)])
    return "log with half a line"


# Whole runs.


class Harness:
    """Lets runs live and die.

    Args:
      folder: where the runs are.
      results: where rows go.
      seed: when and how follows from it.
    """

    def __init__(self, folder: Path, results: Path, seed: int) -> None:
        self.folder, self.results = folder, results
        self.rng = random.Random(seed)
        self.reference = folder / "reference"
        self.seconds = 10.0
        self.has_reference = False
        self.was_damaged = False

    def make_reference(self) -> None:
        """The run that nothing happens to; how long it takes says when to kill."""
        shutil.rmtree(self.reference, ignore_errors=True)
        started = time.time()
        code = code_of(live(self.reference, plain, self.folder / "reference.log"))
        assert code == FINISHED, f"the reference ended with {code}"
        self.seconds = max(time.time() - started, 4.0)
        self.has_reference = True

    def note(self, **row: Any) -> None:
        """Writes a row."""
        with self.results.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def run(self, name: str, kinds: list[str]) -> None:
        """Injects the faults into one run, in order, then lets it end, and compares."""
        directory = self.folder / name
        shutil.rmtree(directory, ignore_errors=True)
        log = self.folder / f"{name}.log"
        injected: Counter[str] = Counter()
        wrong: list[str] = []
        for kind in kinds:
            self._inject(kind, directory, log, injected, wrong)
        for _ in range(3):
            code = code_of(live(directory, plain, log))
            if code == FINISHED:
                break
            wrong.append(f"could not go on: {code}")
        problem = difference(self.reference, directory)
        if problem:
            wrong.append(problem)
        self.note(run=name, injected=dict(injected), wrong=wrong)
        if not wrong:
            shutil.rmtree(directory)

    def _inject(
        self, kind: str, directory: Path, log: Path, injected: Counter[str], wrong: list[str]
    ) -> None:
        rng = self.rng
        if kind in ("damage", "cut log"):
            found = damage(directory, rng) if kind == "damage" else cut_log(directory, rng)
            if found:
                injected[found] += 1
                self.was_damaged = True
            return
        setup = raising(rng) if kind == "raise" else plain
        if kind == "clock":
            setup = with_jumping_clock(rng, 5)
        finished = count_finished(directory)
        child = live(directory, setup, log)
        wanted = {"raise": RAISED, "sigterm": STOPPED, "kill": -9}.get(kind)
        if kind in ("kill", "sigterm", "second", "clock"):
            end = time.time() + rng.uniform(0.0, 0.9 * self.seconds)
            code = None
            while code is None and time.time() < end:
                time.sleep(0.02)
                code = is_over(child)
            if code is None and kind == "second":
                self._second(directory, log, injected, wrong)
                code = code_of(child)
                wanted = FINISHED
            elif code is None:
                sign = signal.SIGTERM if kind == "sigterm" else signal.SIGKILL
                if kind == "clock":
                    injected["clock jumps"] += 5
                    wanted = -9
                os.kill(child, sign)
                code = code_of(child)
                # A request before anybody listens ends the process as it always does.
                wanted = code if kind == "sigterm" and code == -signal.SIGTERM else wanted
        else:
            code = code_of(child)
        if code == FINISHED:
            return  # it was over before the fault
        if code != wanted:
            wrong.append(f"{kind} ended with {code}, expected {wanted}")
        elif kind not in ("second", "clock"):
            injected[kind] += 1
        # After damage, episodes that the damaged checkpoint knew are played again.
        if count_finished(directory) < finished and not self.was_damaged:
            wrong.append(f"{kind}: finished episodes are lost")
        self.was_damaged = False

    def _second(self, directory: Path, log: Path, injected: Counter[str], wrong: list[str]) -> None:
        if not (directory / ".lock").exists():
            return
        for _ in range(3):
            code = code_of(live(directory, plain, log))
            if code == IN_USE:
                injected["second run"] += 1
            elif code != FINISHED:  # the first one was over
                wrong.append(f"second run ended with {code}")


def count_finished(directory: Path) -> int:
    """Episodes that are written down."""
    with contextlib.suppress(OSError):
        text = (directory / "episodes.jsonl").read_bytes()
        return text.count(b"\n")
    return 0


def records(directory: Path, file: str) -> list[dict[str, Any]]:
    """A run's records without the time they took, episode by episode.

    An episode that is played again, its checkpoint being damaged, is written down later.
    """
    found = run_log.read(directory, file)
    found = [{k: v for k, v in record.items() if k != "seconds"} for record in found]
    return sorted(found, key=lambda record: (record["phase"], record["episode"], record["arm"]))


def difference(one: Path, other: Path) -> str | None:
    """What tells two runs apart, bit for bit; None where nothing does."""
    for file in run_log.FILES:
        if records(one, file) != records(other, file):
            return f"{file} differ"
    agents = [checkpoint.read_newest(each / "agent", "agent") for each in (one, other)]
    if any(agent is None for agent in agents):
        return "no agent"
    (mine, my_data), (theirs, their_data) = agents  # type: ignore[misc]
    if mine.keys() != theirs.keys() or my_data["episodes"] != their_data["episodes"]:
        return "agents differ in what they hold"
    for name, array in mine.items():
        if array.tobytes() != theirs[name].tobytes():
            return f"agents differ in {name}"
    return None


# Faults that a run lives through.


def with_no_numbers(rng: random.Random, count: int) -> dict[str, Any]:
    """Batches of not-a-number, here and there."""
    places = set(rng.sample(range(20, 200), count))
    seen = [0]

    def batch(x: np.ndarray, y: np.ndarray) -> Any:
        seen[0] += 1
        return (np.full_like(x, np.nan), y) if seen[0] in places else (x, y)

    return {"task": small_run.make_task(batch)}


def with_broken_students(rng: random.Random, what: str, count: int) -> dict[str, Any]:
    """Weights that become no number, or losses that are none, in some episodes."""
    import dataclasses

    import keras

    task = small_run.make_task()
    chosen = set(rng.sample(range(small_run.EPISODES), count))

    def build_model(seed: int) -> keras.Model:
        model = task.build_model(seed)
        if seed not in chosen:
            return model
        if what == "weight":
            kernel = model.trainable_variables[0]
            value = np.array(kernel)
            value[0, 0] = np.nan
            kernel.assign(value)
            return model
        model.compile(model.optimizer, lambda _, p: keras.ops.log(keras.ops.sum(p, -1) - 1e9))
        return model

    return {"task": dataclasses.replace(task, build_model=build_model)}


def survive(harness: Harness, name: str, kind: str, count: int) -> None:
    """A run with numbers that are none has to come to its end with an agent of numbers."""
    directory = harness.folder / name
    shutil.rmtree(directory, ignore_errors=True)
    rng = random.Random(harness.rng.getrandbits(32))

    def setup() -> dict[str, Any]:
        if kind == "batch":
            return with_no_numbers(rng, count)
        return with_broken_students(rng, kind, count)

    code = code_of(live(directory, setup, harness.folder / f"{name}.log"))
    wrong = [] if code == FINISHED else [f"ended with {code}"]
    if code == FINISHED:
        found = checkpoint.read_newest(directory / "agent", "agent")
        assert found is not None
        if not all(np.isfinite(array).all() for array in found[0].values()):
            wrong.append("the agent holds what is no number")
        if len(records(directory, "episodes")) != small_run.EPISODES + 2:
            wrong.append("episodes are missing")
    harness.note(run=name, injected={f"NaN in {kind}": count}, wrong=wrong)


# Workers.

WORKERS = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from benchmarks.faults import small_run
from keras_qan.engine import engine_by_name
with engine_by_name(sys.argv[1], 2) as engine:
    print("ready", flush=True)
    small_run.go(Path(sys.argv[2]), small_run.make_task(slowly=0.02), engine)
"""


def start_workers(engine: str, directory: Path, log: Path) -> subprocess.Popen[bytes]:
    """A run of two workers in a session of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKERS, engine, str(directory)]
    with log.open("ab") as out:
        return subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True
        )


def workers_of(process: int, engine: str) -> list[int]:
    """Process numbers of its workers."""
    import psutil

    sign = "keras_qan.engine.serve" if engine == "local" else "ray::_Performer"
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(sign in part for part in child.cmdline()):
                    found.append(child.pid)
    return found


def with_workers(harness: Harness, engine: str, worker_kills: int, learner_kills: int) -> None:
    """Kills workers and learners of one run; its end is that of the engine's own reference."""
    reference = harness.folder / f"reference-{engine}"
    name = f"workers-{engine}"
    directory, log = harness.folder / name, harness.folder / f"{name}.log"
    if not (reference / "evaluation.json").exists():
        shutil.rmtree(reference, ignore_errors=True)
        assert start_workers(engine, reference, log).wait(900) == 0
    shutil.rmtree(directory, ignore_errors=True)
    injected: Counter[str] = Counter()
    wrong: list[str] = []
    for _ in range(learner_kills + 1):
        process = start_workers(engine, directory, log)
        is_last = injected["learner killed"] == learner_kills
        share = -(-worker_kills // (learner_kills + 1))
        while process.poll() is None:
            pids = workers_of(process.pid, engine)
            time.sleep(harness.rng.uniform(1.0, 8.0))
            if share and pids and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(harness.rng.choice(pids), signal.SIGKILL)
                    injected[f"{engine} worker killed"] += 1
                    share -= 1
            elif not share and not is_last and pids:
                process.kill()
                injected["learner killed"] += 1
                break
        code = process.wait()
        if code not in (0, -9):
            wrong.append(f"ended with {code}")
        if code == 0:
            break
    for _ in range(2):
        if not (directory / "evaluation.json").exists():
            code = start_workers(engine, directory, log).wait(900)
    problem = difference(reference, directory)
    wrong += [problem] if problem else []
    harness.note(run=name, injected=dict(injected), wrong=wrong)


# A real full disk.


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path | None]:
    """A folder on a disk of its own, of so many megabytes; None where nothing may be mounted."""
    with tempfile.TemporaryDirectory() as name:
        options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", name]
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            yield None
            return
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)


def full_disk(harness: Harness, times: int) -> None:
    """A run on a small disk that is filled up, emptied, filled up again, and so on."""
    with small_disk(1) as disk:
        if disk is None:
            harness.note(run="full-disk", injected={}, wrong=[], left_out="nothing may be mounted")
            return
        directory, log = disk / "run", harness.folder / "full-disk.log"
        injected: Counter[str] = Counter()
        wrong: list[str] = []
        for _ in range(times):
            filler = disk / "filler"
            child = live(directory, plain, log)
            time.sleep(harness.rng.uniform(0.0, 0.6 * harness.seconds))
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"\0" * 512)
            code = code_of(child)
            filler.unlink()
            if code == NO_SPACE:
                injected["disk full"] += 1
            elif code == FINISHED:
                break
            else:
                wrong.append(f"ended with {code}")
        code = code_of(live(directory, plain, log))
        wrong += [] if code == FINISHED else [f"could not go on: {code}"]
        problem = difference(harness.reference, directory)
        wrong += [problem] if problem else []
        harness.note(run="full-disk", injected=dict(injected), wrong=wrong)


def only_writing(harness: Harness) -> None:
    """Faults in the middle of writes, many of them."""
    folder, rng = harness.folder / "writers", harness.rng
    shutil.rmtree(folder, ignore_errors=True)
    parts = [
        writers.broken_off(folder / "killed", 60, signal.SIGKILL, rng),
        writers.broken_off(folder / "stopped", 25, signal.SIGTERM, rng),
        writers.damaged(folder / "damaged", 45, rng),
    ]
    with small_disk(8) as disk:
        if disk is not None:
            parts.append(writers.out_of_disk(disk, 15, rng))
    injected: Counter[str] = Counter()
    wrong: list[str] = []
    for counts, problems in parts:
        injected.update(counts)
        wrong += problems
    harness.note(run="writers", injected=dict(injected), wrong=wrong)


def table(rows: list[dict[str, Any]]) -> str:
    """Faults by kind, as Markdown."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row["injected"])
    lines = ["| fault | injected |", "|---|---|"]
    lines += [f"| {kind} | {count} |" for kind, count in sorted(counts.items())]
    wrong = [problem for row in rows for problem in row["wrong"]]
    total = f"| **all** | **{sum(counts.values())}** |"
    return "\n".join([*lines, total, f"\nwrong: {wrong}"])


def main(arguments: list[str]) -> None:
    """Injects what the flags ask for, and prints the table."""
    del arguments
    open_tf_agents()  # imported once, for all lives
    folder = Path(flags.FLAGS.folder)
    folder.mkdir(parents=True, exist_ok=True)
    results = Path(flags.FLAGS.results)
    done = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    names = {row["run"] for row in done}
    harness = Harness(folder, results, flags.FLAGS.seed + len(done))
    parts: dict[str, Callable[[], None]] = {"writers": lambda: only_writing(harness)}
    for kind, count in (("batch", 10), ("weight", 4), ("loss", 4)):
        name = f"nan-{kind}-{len(parts)}"
        parts[name] = lambda name=name, kind=kind, count=count: survive(harness, name, kind, count)
    parts["full-disk"] = lambda: full_disk(harness, 3)
    for number in range(flags.FLAGS.runs):
        name = f"run-{number}"
        parts[name] = lambda name=name: harness.run(name, plan(harness.rng))
    for engine in flags.FLAGS.engines:
        parts[f"workers-{engine}"] = lambda engine=engine: with_workers(harness, engine, 4, 1)
    for name, part in parts.items():
        if name not in names:
            if name != "writers" and not harness.has_reference:
                harness.make_reference()
            part()
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    print(table(rows))


def plan(rng: random.Random) -> list[str]:
    """The faults of one run, in a random order: those between lives stand behind one of those."""
    lives = ["kill"] * 3 + ["sigterm", "sigterm", "raise", "clock", "second"]
    rng.shuffle(lives)
    found = []
    for kind in lives:
        found.append(kind)
        found += [extra for extra in ("damage", "cut log") if rng.random() < 0.6]
    return found


if __name__ == "__main__":
    flags.DEFINE_integer("runs", 2, "runs that are broken off again and again")
    flags.DEFINE_integer("seed", 0, "when and how follows from it")
    flags.DEFINE_list("engines", ["local", "ray"], "whose workers are killed")
    flags.DEFINE_string("folder", "runs/benchmarks/faults", "where the runs are kept")
    flags.DEFINE_string("results", str(Path(__file__).parent / "faults.jsonl"), "where rows go")
    app.run(main)
