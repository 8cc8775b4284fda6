"""Faults at random moments of small runs, which must resume and end as if there had been none.

    python -m tests.stress.faults

A run lives until it is killed, asked to stop, out of disk, or broken by its data; before it is
resumed, its files may be damaged. At its end, its records and its agent are compared, bit for bit,
with those of an undisturbed run. Rows go to `faults.jsonl` as they come; a part that has a row is
not repeated. The faults and their moments follow from the seed and the row's name.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

from keras_qan.agents.tf_agents import import_tf_agents
from tests.stress import between, host_runs, whole_runs, worker_runs, writers

Part = Callable[[random.Random], dict[str, Any]]


def interrupt_writers(name: str, folder: Path, rng: random.Random) -> dict[str, Any]:
    """Faults in the middle of writes, many of them."""
    shutil.rmtree(folder / name, ignore_errors=True)
    parts = [
        writers.interrupt(folder / name / "killed", 60, signal.SIGKILL, rng),
        writers.interrupt(folder / name / "stopped", 25, signal.SIGTERM, rng),
        writers.damage_checkpoints(folder / name / "damaged", 45, rng),
    ]
    with between.small_disk(8) as disk:
        if disk is not None:
            parts.append(writers.fill_disk(disk, 15, rng))
    injected: Counter[str] = Counter()
    wrong: list[str] = []
    for counts, problems in parts:
        injected.update(counts)
        wrong += problems
    return {"run": name, "injected": dict(injected), "wrong": wrong}


def requested_parts(given: flags.FlagValues, folder: Path) -> dict[str, Part]:
    """The requested parts, by the name of the row."""
    found: dict[str, Part] = {}
    reference: list[whole_runs.Reference] = []

    def whole(name: str) -> Part:
        def part(rng: random.Random) -> dict[str, Any]:
            if not reference:
                reference.append(whole_runs.Reference(folder))
            return whole_runs.interrupt(name, folder, reference[0], rng, given.most)

        return part

    if "writers" in given.parts:
        found["writers"] = lambda rng: interrupt_writers("writers", folder, rng)
    if "numbers" in given.parts:
        for kind, count in (("batch", 10), ("weight", 4), ("loss", 4)):
            name = f"nan-{kind}"
            found[name] = lambda rng, n=name, k=kind, c=count: whole_runs.inject_non_finite(  # type: ignore[misc]
                n, folder, rng, k, c
            )
    runs = {
        f"run-{n}": whole(f"run-{n}") for n in range(given.runs if "runs" in given.parts else 0)
    }
    # A few whole runs first, then those that take longer, then the rest.
    found |= dict(list(runs.items())[:4])
    if "hosts" in given.parts:
        found["hosts"] = lambda rng: host_runs.interrupt("hosts", folder, rng, given.host_kills)
    for engine in ("local", "ray"):
        if engine in given.parts:
            found[f"workers-{engine}"] = lambda rng, e=engine: worker_runs.interrupt(  # type: ignore[misc]
                f"workers-{e}", folder, e, rng, given.worker_kills, given.learner_faults
            )
    return found | runs


def read(results: Path) -> list[dict[str, Any]]:
    """The rows so far."""
    if not results.exists():
        return []
    return [json.loads(line) for line in results.read_text().splitlines()]


def table(rows: list[dict[str, Any]]) -> str:
    """Faults by kind, as Markdown: those of writers, and those of whole runs."""
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for row in rows:
        counts[row["run"].startswith("writers")].update(row["injected"])
    lines = ["| fault | writers | whole runs |", "|---|---|---|"]
    for kind in sorted(counts[True] | counts[False]):
        lines.append(f"| {kind} | {counts[True][kind] or '–'} | {counts[False][kind] or '–'} |")
    total = f"| **all** | **{counts[True].total()}** | **{counts[False].total()}** |"
    jumps = sum(row.get("jumps", 0) for row in rows)
    wrong = [(row["run"], problem) for row in rows for problem in row["wrong"]]
    ended = sum(not row["run"].startswith("writers") for row in rows)
    return "\n".join([*lines, total, f"\n{ended} runs, {jumps} jumps of a clock; wrong: {wrong}"])


def main(arguments: list[str]) -> None:
    """Injects the faults that the flags ask for, and prints the table."""
    del arguments
    given = flags.FLAGS
    began = time.monotonic()
    folder, results = Path(given.folder), Path(given.results)
    folder.mkdir(parents=True, exist_ok=True)
    import_tf_agents()  # imported once, for all lives
    done = {row["run"] for row in read(results)}
    for name, part in requested_parts(given, folder).items():
        if name in done:
            continue
        if time.monotonic() - began > 60.0 * given.minutes:
            print(f"{given.minutes} minutes are over; {name} and what comes after it is left out.")
            break
        row = part(random.Random(f"{given.seed}/{name}"))
        row["load"] = round(os.getloadavg()[0], 1)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)
    print(table(read(results)))


if __name__ == "__main__":
    flags.DEFINE_list(
        "parts", ["writers", "numbers", "runs", "hosts", "local", "ray"], "which parts run"
    )
    flags.DEFINE_integer("runs", 40, "whole runs that are broken off again and again")
    flags.DEFINE_integer("most", 15, "faults in one of them")
    flags.DEFINE_integer("worker_kills", 5, "kills of workers, of each engine")
    flags.DEFINE_integer("learner_faults", 3, "of the learner whose workers they are")
    flags.DEFINE_integer("host_kills", 5, "kills of one of two tf.distribute workers")
    flags.DEFINE_float("minutes", 120.0, "after which nothing more is begun")
    flags.DEFINE_integer("seed", 0, "when and how follows from it")
    flags.DEFINE_string("folder", "runs/stress", "where the runs are kept")
    flags.DEFINE_string("results", str(Path(__file__).parent / "faults.jsonl"), "where rows go")
    app.run(main)
