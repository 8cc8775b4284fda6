"""Untrusted files: mutated at random, loaded or refused, and nothing else.

    python -m tests.stress.fuzz --mutations=10000

Policies, checkpoints of runs, states of trainings, logs and flag files are changed: bits and bytes,
archives' headers, bombs, types, shapes and values, data nested without end, with the checksum as it
was or made right again. Each is opened as a user would open it, in a process of its own for each
batch, which would be seen to crash; what is run, written or unpickled meanwhile is seen by an audit
hook, memory by tracemalloc. Writes one row a kind of file to the results.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags

from keras_qan import CheckpointError, Policy
from keras_qan.experiments.flags import to_text
from keras_qan.experiments.learning_rate import LearningRateExperiment
from keras_qan.qan import policy
from keras_qan.qan.agent_state import AgentState
from keras_qan.qan.config import CallbackConfig
from keras_qan.storage import checkpoint, run_log
from tests.stress import mutations as m

#: Audit events that no loaded file may cause.
FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class")

#: Bytes beyond twice a file's size that Python's own objects may take.
ALLOWANCE = {"policy": 1 << 20, "checkpoint": 16 << 20, "log": 1 << 20, "flags": 1 << 20}

_seen: list[str] = []
_is_watching = False


def watch() -> None:
    """Records forbidden audit events of this process from now on."""

    def hook(event: str, arguments: Any) -> None:
        if _is_watching and event in FORBIDDEN:
            _seen.append(event)

    sys.addaudithook(hook)


class Case:
    """A kind of file: how it is changed and opened.

    Args:
      folder: where to write.
    """

    kind = "checkpoint"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mutated(self, rng: random.Random) -> bytes:
        """Another mutation."""
        raise NotImplementedError

    def open(self, path: Path) -> None:
        """Opens a file as a user would."""
        raise NotImplementedError

    #: Errors that a refusal may raise.
    refusals: tuple[type[Exception], ...] = (CheckpointError,)


class Sealed(Case):
    """A checkpoint in any use."""

    def __init__(self, folder: Path, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
        super().__init__(folder)
        self.arrays, self.data = arrays, data
        path = folder / "whole"
        checkpoint.write(path, arrays, data)
        self.content = path.read_bytes()

    def mutated(self, rng: random.Random) -> bytes:
        """Another mutation."""
        kind = rng.random()
        if kind < 0.2:
            return rng.choice(m.BYTES)(self.content, rng)
        if kind < 0.6:
            body = rng.choice(m.BODY)(self.content[m.HEADER :], rng)
            return m.seal(body)
        arrays, data = self.arrays, self.data
        if kind < 0.7:
            text = m.data_text(data, rng)
            contents = {name: m.npy(np.asarray(array)) for name, array in arrays.items()}
            contents[m.DATA] = m.npy(np.frombuffer(text, np.uint8))
            return m.seal(m.members(contents))
        if kind < 0.9:
            data = m.change_data(data, rng)
        if kind > 0.85:
            arrays = m.change_arrays(arrays, rng)
        path = self.folder / "changed"
        checkpoint.write(path, arrays, data)
        return path.read_bytes()


class APolicy(Sealed):
    """`Policy.load`."""

    kind = "policy"

    def open(self, path: Path) -> None:
        """Opens it."""
        Policy.load(path)


class ARun(Sealed):
    """A run's newest checkpoint, opened as `QANCallback.load(..., explore=False)` does."""

    def open(self, path: Path) -> None:
        """Opens it."""
        folder = path.parent / "agent"
        folder.mkdir(exist_ok=True)
        (folder / "agent-00000001.ckpt").write_bytes(path.read_bytes())
        AgentState.load(path.parent, CallbackConfig(), writable=False)


class ALog(Case):
    """A run's JSON lines, read for figures and cleared up for a resumed run."""

    kind = "log"
    refusals = ()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        log = run_log.RunLog(folder / "source")
        for number in range(20):
            log.context = {"arm": "qan", "phase": "train", "episode": number, "seed": number}
            log.record("episodes", val_loss=0.5, steps=24, decisions=4, diverged=False)
            log.write()
        self.content = (folder / "source" / "episodes.jsonl").read_bytes()

    def mutated(self, rng: random.Random) -> bytes:
        """Another mutation."""
        return m.lines(self.content, rng)

    def open(self, path: Path) -> None:
        """Opens it."""
        folder = path.parent / "log"
        folder.mkdir(exist_ok=True)
        (folder / "episodes.jsonl").write_bytes(path.read_bytes())
        run_log.read(folder, "episodes")
        run_log.RunLog(folder).keep_finished(12)


class Flags(Case):
    """A run's flag file, as `--resume` reads it."""

    kind = "flags"
    refusals = (ValueError, FileNotFoundError)

    def mutated(self, rng: random.Random) -> bytes:
        """Another mutation."""
        return rng.choice(m.BYTES)(to_text(LearningRateExperiment()).encode(), rng)

    def open(self, path: Path) -> None:
        """Opens it."""
        folder = path.parent / "flags"
        folder.mkdir(exist_ok=True)
        (folder / "flags.txt").write_bytes(path.read_bytes())
        LearningRateExperiment(directory=str(folder), resume=True)._open(folder)


def cases(folder: Path) -> dict[str, Callable[[], Case]]:
    """The kinds of files by name."""
    shipped = policy.shipped()
    small = {
        name: array[tuple(slice(0, 8) if side == 128 else slice(None) for side in array.shape)]
        for name, array in shipped.arrays.items()
    }
    config = shipped.settings.config()
    config["agent"] = dict(config["agent"]) | {"hidden": [8, 8]}
    data = {"format": policy.FORMAT, "settings": config, "provenance": {"seed": 0}}
    run = {"settings": config, "episodes": 3, "steps": 90, "num_kernels": 2, "returns": [0.5, 1.0]}
    memory = {"replay/reward": np.zeros(50, np.float32), "replay/written": np.int64(50)}
    full = shipped.settings.config()
    whole = {"format": policy.FORMAT, "settings": full, "provenance": shipped.provenance}
    return {
        "policy, small": lambda: APolicy(folder, small, data),
        "policy, shipped": lambda: APolicy(folder, shipped.arrays, whole),
        "run": lambda: ARun(folder, small | memory, run),
        "log": lambda: ALog(folder),
        "flags": lambda: Flags(folder),
    }


def fuzz(case: Case, count: int, rng: random.Random) -> dict[str, Any]:
    """Opens so many mutations.

    Returns:
      Counts of what was loaded, refused, and went wrong; examples of what went wrong; the most
      memory that was taken, as a share of the file's size and beyond twice the size.
    """
    global _is_watching
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    beyond = 0
    path = case.folder / "mutated"
    for number in range(count):
        content = case.mutated(rng)
        path.write_bytes(content)
        del _seen[:]
        tracemalloc.start()
        _is_watching = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                case.open(path)
            end = "loaded"
        except case.refusals as error:
            end = "refused" if str(error) else "wrong"
        except Exception as error:
            end = "wrong"
            wrong.append(f"{number}: {type(error).__name__}: {error}"[:300])
        _is_watching = False
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        if _seen:
            end = "wrong"
            wrong.append(f"{number}: ran {_seen}")
        over = peak - 2 * len(content)
        beyond = max(beyond, over)
        if over > ALLOWANCE[case.kind]:
            end = "wrong"
            wrong.append(f"{number}: took {peak} bytes for {len(content)}")
        counts[end] += 1
    return {"counts": dict(counts), "wrong": wrong[:10], "beyond": beyond}


def fuzz_in_child(make: Callable[[], Case], count: int, seed: int) -> dict[str, Any]:
    """The same in a process of its own; {"crashed": code} where that did not end well."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            watch()
            json.dump(fuzz(make(), count, random.Random(seed)), out)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as source:
        text = source.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if status == 0 and text else {"crashed": status}


def main(arguments: list[str]) -> None:
    """Runs the batches and writes the results."""
    del arguments
    rows, started = [], time.time()
    total = flags.FLAGS.mutations
    shares = {
        "policy, small": 0.4,
        "policy, shipped": 0.05,
        "run": 0.35,
        "log": 0.15,
        "flags": 0.05,
    }
    with tempfile.TemporaryDirectory() as name:
        for kind, make in cases(Path(name)).items():
            if flags.FLAGS.only and kind not in flags.FLAGS.only:
                rows.append({})
                continue
            left, batch = round(total * shares[kind]), 0
            counts: Counter[str] = Counter()
            row: dict[str, Any] = {"file": kind, "crashed": 0, "beyond": 0, "wrong": []}
            while left > 0:
                size = min(left, 500)
                seed = hash((flags.FLAGS.seed, len(rows), batch)) & 0xFFFFFFFF
                found = fuzz_in_child(make, size, seed)
                if "crashed" in found:
                    row["crashed"] += 1
                    row["wrong"].append(f"batch of seed {seed} ended with {found['crashed']}")
                else:
                    counts.update(found["counts"])
                    row["wrong"] += found["wrong"]
                    row["beyond"] = max(row["beyond"], found["beyond"])
                left, batch = left - size, batch + 1
            rows.append(row | {"counts": dict(counts)})
            print(json.dumps(rows[-1], indent=1), flush=True)
    path = Path(flags.FLAGS.results)
    if flags.FLAGS.only and path.exists():  # the other rows stay
        before = json.loads(path.read_text())["rows"]
        rows = [new or old for new, old in zip(rows, before, strict=True)]
    found = {"seed": flags.FLAGS.seed, "seconds": time.time() - started, "rows": rows}
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("mutations", 10_000, "in all", lower_bound=10)
    flags.DEFINE_list("only", [], "kinds of files; by default all")
    flags.DEFINE_integer("seed", 0, "what is mutated follows from it")
    flags.DEFINE_string("results", str(Path(__file__).parent / "fuzz.json"), "where they go")
    app.run(main)
