"""The habits of people who train Keras models, with and without the bare callback.

    TFDS_DATA_DIR=… python benchmarks/habits/run.py
    python benchmarks/habits/run.py --situations="rare class, 1 in 200" --seeds=0 --at_once=1

Both arms have the same initial weights and the same batches for a seed. Each arm has a process and
a thread of its own. Every training is a line in without.jsonl or with.jsonl, and what is there is
not done again: with the callback as long as its code is the same. RESULTS.md is written from them.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

# Said before Keras is imported: an arm has a thread of its own.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from situations import SITUATIONS, Fits

from benchmarks.common.code import without_words
from benchmarks.common.machine import describe
from benchmarks.common.records import Records, Row
from benchmarks.common.tables import format_header, format_interval, format_row

_HERE = Path(__file__).resolve().parent
_SITUATIONS = flags.DEFINE_multi_string("situations", [], "which; all if none is given")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "a pair of trainings for each")
_FOLDER = flags.DEFINE_string("folder", str(_HERE), "where lines and table are kept")
_AT_ONCE = flags.DEFINE_integer("at_once", 2, "arms at a time", lower_bound=1, upper_bound=2)
_ARM = flags.DEFINE_enum("arm", "", ["", "without", "with"], "used by the script itself")

#: By how much the callback may be worse: nats, and points in a hundred.
LARGEST_LOSS, MOST_POINTS = 0.02, 0.5

#: What a steered training's outcome depends on, within the package.
CODE = ("actions", "agents", "observations", "policies", "qan")

ARMS = ("without", "with")

HEAD = """# The habits of people who train Keras models, with and without `QANCallback()`

    TFDS_DATA_DIR=… python benchmarks/habits/run.py

{machine}, Keras {keras}; {pairs} pairs of trainings in {seconds:.0f} processor seconds,
code `{code}` of the callback. Written by the script from [without.jsonl](without.jsonl) and
[with.jsonl](with.jsonl).

Small trainings on real data (digits, MNIST at 8 x 8 pixels) and made-up data:
[situations.py](situations.py). Pairs have the same initial weights and batches. Scores are of
held-out data: log loss in nats (regression: half the log of the mean squared error), and the share
that is right in points (rare class: the area under precision and recall). *Difference*: with the
callback minus without; mean over seeds, bootstrap 95 % interval, worst seed. A bootstrap over five
seeds is too narrow: read it as a range. Aim: on average in none worse by more than {largest_loss}
in log loss or {most_points} points. *Step backs* of all seeds; *rates*: lowest and
highest of any step.

"""

COLUMNS = (
    "situation", "pairs", "log loss without", "with", "difference", "95 %", "worst",
    "points: difference", "95 %", "worst", "step backs", "rates", "aim",
)  # fmt: skip


def code_of_callback() -> str:
    """A fingerprint of the code that steers."""
    found = hashlib.sha256()
    for folder in CODE:
        for path in sorted((_HERE.parents[1] / "keras_qan" / folder).rglob("*.*")):
            if path.suffix == ".py":
                found.update(without_words(path.read_text(encoding="utf-8")).encode())
            elif path.suffix == ".qan":
                found.update(path.read_bytes())
    return found.hexdigest()[:8]


def records_of(arm: str) -> Records:
    """The trainings of an arm."""
    return Records(Path(_FOLDER.value) / f"{arm}.jsonl", "situation", "seed", "code")


def train(situation: str, seed: int, code: str | None) -> Row:
    """One training, as a row; with the callback where its code is given."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    fits = Fits(steered=code is not None)
    start = time.process_time()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", RuntimeWarning)
        scores = SITUATIONS[situation](fits, seed)
    row = {"situation": situation, "seed": seed, "code": code, "scores": scores}
    row["seconds"] = round(time.process_time() - start, 2)
    said = sorted({str(one.message) for one in heard if "QAN" in str(one.message)})
    return row | fits.facts() | ({"warnings": said} if said else {})


def train_missing(arm: str, chosen: Sequence[str]) -> None:
    """Do the trainings of an arm that have no line."""
    records = records_of(arm)
    code = code_of_callback() if arm == "with" else None
    wanted = [(name, seed, code) for seed in map(int, _SEEDS.value) for name in chosen]
    for situation, seed, _ in records.missing(wanted):
        records.add(train(situation, seed, code))


def run_arms() -> None:
    """Run each arm in a process: this script, called again."""
    children: list[subprocess.Popen[bytes]] = []
    for number, arm in enumerate(ARMS):
        children.append(subprocess.Popen([sys.executable, *sys.argv, f"--arm={arm}"]))
        for child in children if number + 1 >= _AT_ONCE.value else ():
            if child.wait():
                raise SystemExit(f"An arm ended with status {child.returncode}; see above.")


def pairs_of(rows: dict[str, list[Row]], situation: str, code: str) -> list[tuple[Row, Row]]:
    """Rows without and with the callback, by seed."""
    without, steered = (
        {
            row["seed"]: row
            for row in rows[arm]
            if row["situation"] == situation and row["code"] in (None, code)
        }
        for arm in ARMS
    )
    return [(without[seed], steered[seed]) for seed in sorted(without) if seed in steered]


def values(pairs: list[tuple[Row, Row]], part: str, name: str) -> np.ndarray:
    """Scores of a name, `[pairs, 2]`; empty where there are none."""
    if name not in pairs[0][0]["scores"][part]:
        return np.zeros((0, 2))
    return np.array([[arm["scores"][part][name] for arm in pair] for pair in pairs])


def line(situation: str, part: str, pairs: list[tuple[Row, Row]]) -> str:
    """A row of the table."""
    loss, points = (values(pairs, part, name) for name in ("loss", "points"))
    loss_differences, point_differences = (found[:, 1] - found[:, 0] for found in (loss, points))
    is_met = np.mean(loss_differences) <= LARGEST_LOSS
    of_points = ["", "", ""]
    if len(points):
        is_met &= np.mean(point_differences) >= -MOST_POINTS
        of_points = [
            f"{np.mean(point_differences):+.2f}",
            format_interval(point_differences, "+.2f"),
            f"{np.min(point_differences):+.2f}",
        ]
    lowest, highest = zip(*(steered["rates"] for _, steered in pairs), strict=True)
    return format_row(
        f"{situation}: {part}" if part else situation,
        len(pairs),
        *(f"{mean:.4f}" for mean in np.mean(loss, axis=0)),
        f"{np.mean(loss_differences):+.4f}",
        format_interval(loss_differences, "+.4f"),
        f"{np.max(loss_differences):+.4f}",
        *of_points,
        sum(steered["step_backs"] for _, steered in pairs),
        f"{min(lowest):.1e} … {max(highest):.1e}",
        "met" if is_met else "**missed**",
    )


def report(rows: dict[str, list[Row]], code: str) -> str:
    """The text of RESULTS.md."""
    lines, used, said = [], [], []
    for situation in SITUATIONS:
        pairs = pairs_of(rows, situation, code)
        if not pairs:
            continue
        used += [row for pair in pairs for row in pair]
        lines += [line(situation, part, pairs) for part in pairs[0][0]["scores"]]
        heard = itertools.chain(*(steered.get("warnings", []) for _, steered in pairs))
        said += [f"- *{situation}*: {text}" for text in sorted(set(heard))]
    head = HEAD.format(
        machine=describe(),
        keras=keras.__version__,
        seconds=math.fsum(row["seconds"] for row in used),
        pairs=len(used) // 2,
        code=code,
        largest_loss=LARGEST_LOSS,
        most_points=MOST_POINTS,
    )
    tail = "\n\n## Warnings\n\n" + "\n".join(said) if said else ""
    return head + "\n".join([format_header(*COLUMNS), *lines]) + tail + "\n"


def main(_: list[str]) -> None:
    """Train what is missing; write and print the table."""
    chosen = _SITUATIONS.value or list(SITUATIONS)
    unknown = [name for name in chosen if name not in SITUATIONS]
    if unknown:
        known = "; ".join(SITUATIONS)
        raise app.UsageError(f"There is no situation {unknown[0]!r}; expected one of: {known}.")
    if _ARM.value:
        train_missing(_ARM.value, chosen)
        return
    run_arms()
    text = report({arm: records_of(arm).rows for arm in ARMS}, code_of_callback())
    (Path(_FOLDER.value) / "RESULTS.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    app.run(main)
