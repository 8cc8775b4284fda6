"""Architecture searches against each other: best validation error at equal time.

    python benchmarks/search/run.py --part=table --task=mnist   # trains all of a small space
    python benchmarks/search/run.py --part=replay --task=mnist  # replays searches on it, 20 seeds
    python benchmarks/search/run.py --part=live --task=mnist    # warm starts, with training
    python benchmarks/search/run.py --part=report --task=mnist

The tasks are digits and mnist, which needs the data set under `TFDS_DATA_DIR`. `table` and `live`
train; all go on where they were. `replay` takes minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("table", "replay", "live", "report"), required=True)
    parser.add_argument("--task", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--out", type=Path, default=Path("runs/search"))
    parser.add_argument("--seeds", type=int, default=0, help="20 replayed, 5 live")
    parser.add_argument(
        "--seconds", type=float, default=40.0, help="of the processor, for each live search"
    )
    asked = parser.parse_args()

    import tensorflow as tf

    from benchmarks.common.records import read_rows
    from benchmarks.search import live, replays, report, table

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    task = table.TASKS[asked.task]
    replayed = asked.out / f"replays_{asked.task}.jsonl"
    trained = table.HERE / f"live_{asked.task}.jsonl"
    if asked.part == "table":
        table.make(task)
    elif asked.part == "replay":
        replays.run(task, replayed, asked.seeds or 20)
    elif asked.part == "live":
        live.run(task, trained, asked.seeds or 5, asked.seconds)
    report.report(read_rows(replayed), "random", ("spent",))
    report.report(read_rows(trained), "plain", live.MEANS)


if __name__ == "__main__":
    main()
