"""The writes of a run alone, over and over, so that faults fall within a write.

A writer does what a run does after each episode: it writes the records, then the agent's
checkpoint, and reports the episode. It is killed, asked to stop, or left without disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_qan.storage import checkpoint, run_log
from keras_qan.storage.lock import DirectoryInUseError, Lock
from keras_qan.storage.signals import Stopped, StopRequests
from tests.stress import mutations

STOPPED, NO_SPACE, IN_USE = 10, 11, 12


def arrays_of(number: int) -> dict[str, np.ndarray]:
    """An agent of half a megabyte that tells which episode it is of."""
    return {"network/0": np.full((256, 512), number, np.float32), "written": np.int64(number)}


def write_forever(directory: Path, finished: int) -> None:
    """Goes on from what is there; tells each finished episode to the descriptor."""
    with Lock(directory), StopRequests() as stop:
        saved = checkpoint.read_newest(directory / "agent", "agent")
        number = 0 if saved is None else int(saved[1]["episodes"])
        log = run_log.RunLog(directory)
        log.keep_finished(number)
        while True:
            with stop.hold():
                log.context = {"arm": "qan", "phase": "train", "episode": number, "seed": number}
                for decision in range(20):
                    log.record("decisions", decision=decision, rate=0.1)
                log.record("episodes", steps=20)
                log.write()
                number += 1
                checkpoint.write_next(
                    directory / "agent", "agent", arrays_of(number), {"episodes": number}
                )
                os.write(finished, number.to_bytes(4, "little"))


def start_writer(directory: Path) -> tuple[int, int]:
    """A writer in a process of its own: its number, and where it tells what it finished."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    code = 99
    try:
        warnings.simplefilter("ignore")
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        write_forever(directory, writing)
    except Stopped:
        code = STOPPED
    except DirectoryInUseError:
        code = IN_USE
    except OSError as error:
        code = NO_SPACE if error.errno == errno.ENOSPC else 99
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def wait_for(child: int, reading: int, before: int) -> tuple[int, int]:
    """Waits for its end; the exit code, and the last episode that it finished."""
    with os.fdopen(reading, "rb") as source:
        told = source.read()
    _, status = os.waitpid(child, 0)
    last = int.from_bytes(told[-4:], "little") if told else before
    return os.waitstatus_to_exitcode(status), last


def newest_episode(directory: Path) -> int:
    """The episode that the newest checkpoint is of; 0 without one."""
    saved = checkpoint.series(directory / "agent", "agent")
    return int(checkpoint.read(saved[-1])[1]["episodes"]) if saved else 0


def check(directory: Path, last: int) -> list[str]:
    """Lists what a fault has spoiled, where `last` episodes were finished."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = checkpoint.read_newest(directory / "agent", "agent")
        number = 0 if saved is None else int(saved[1]["episodes"])
        wrong = []
        # One more where it was killed between the checkpoint and its telling.
        if number not in (last, last + 1):
            wrong.append(f"{last} episodes were finished, and the checkpoint knows {number}")
        if saved is not None and any(
            (a != number).any() for a in map(np.asarray, saved[0].values())
        ):
            wrong.append("the checkpoint's arrays are another episode's")
        log = run_log.RunLog(directory)
        log.keep_finished(number)
        for file, each in (("episodes", 1), ("decisions", 20)):
            found = [record["episode"] for record in run_log.read(directory, file)]
            if found != [n for n in range(number) for _ in range(each)]:
                wrong.append(f"{file} has gaps or duplicates")
    return wrong


def interrupt(
    directory: Path, times: int, sign: signal.Signals, rng: random.Random
) -> tuple[Counter[str], list[str]]:
    """Writers that are killed, or asked to stop, at random moments."""
    directory.mkdir(parents=True, exist_ok=True)
    injected: Counter[str] = Counter()
    wrong: list[str] = []
    last = 0
    for _ in range(times):
        child, reading = start_writer(directory)
        time.sleep(rng.uniform(0.05, 0.6))
        if rng.random() < 0.3 and (directory / ".lock").exists():
            second, other = start_writer(directory)
            time.sleep(0.1)
            with contextlib.suppress(ProcessLookupError):
                os.kill(second, signal.SIGTERM)
            code, _ = wait_for(second, other, 0)
            if code == IN_USE:
                injected["second run on a directory"] += 1
            elif code != -signal.SIGTERM:
                wrong.append(f"a second writer ended with {code}")
        os.kill(child, sign)
        code, last = wait_for(child, reading, last)
        expected = (-sign,) if sign == signal.SIGKILL else (STOPPED, -sign)
        if code not in expected:
            wrong.append(f"a writer ended with {code}")
        injected[f"{sign.name} of a writer"] += 1
        wrong += check(directory, last)
        last = newest_episode(directory)
    return injected, wrong


def damage_checkpoints(
    directory: Path, times: int, rng: random.Random
) -> tuple[Counter[str], list[str]]:
    """The newest checkpoint of three is damaged; the one before it must be gone back to."""
    injected: Counter[str] = Counter()
    wrong: list[str] = []
    ways: dict[str, Callable[[bytes], bytes]] = {
        "cut short": lambda content: mutations.cut_short(content, rng),
        "bits flipped": lambda content: mutations.flip_bits(content, rng),
        "emptied": lambda content: b"",
    }
    for time_ in range(times):
        folder = directory / str(time_)
        for number in range(1, 4):
            path = checkpoint.write_next(folder, "agent", arrays_of(number), {"episodes": number})
        way = rng.choice(sorted(ways))
        content = path.read_bytes()
        changed = ways[way](content)
        if changed == content:
            continue
        path.write_bytes(changed)
        injected[f"checkpoint {way}"] += 1
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = checkpoint.read_newest(folder, "agent")
        if found is None or found[1] != {"episodes": 2} or (found[0]["network/0"] != 2).any():
            wrong.append(f"{way}: the one before was not used")
        if not any(path.name in str(each.message) for each in told):
            wrong.append(f"{way}: the damaged one was not named")
    return injected, wrong


def fill_disk(disk: Path, times: int, rng: random.Random) -> tuple[Counter[str], list[str]]:
    """Writers on a small disk that somebody fills up at random moments."""
    directory = disk / "run"
    directory.mkdir(parents=True, exist_ok=True)
    injected: Counter[str] = Counter()
    wrong: list[str] = []
    last = 0
    for _ in range(times):
        child, reading = start_writer(directory)
        time.sleep(rng.uniform(0.05, 0.5))
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 512)
        code, last = wait_for(child, reading, last)
        filler.unlink()
        if code != NO_SPACE:
            wrong.append(f"a writer without disk ended with {code}")
        injected["disk full"] += 1
        wrong += check(directory, last)
        last = newest_episode(directory)
    return injected, wrong
