"""The rally, and the pull toward the best student of earlier episodes.

    python benchmarks/rally/run.py --part=growth --task=mnist
    python benchmarks/rally/run.py --part=growth --task=cifar10
    python benchmarks/rally/run.py --part=growth --task=mnist_within_budget
    python benchmarks/rally/run.py --part=growth --task=cifar10_within_budget
    python benchmarks/rally/run.py --part=teachers
    python benchmarks/rally/run.py --part=report

`growth` needs the data sets under `TFDS_DATA_DIR`. Rows go to growth.jsonl and teachers.jsonl as
they are found; an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))


_TASKS = ("mnist", "cifar10", "mnist_within_budget", "cifar10_within_budget")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("growth", "teachers", "report"), required=True)
    parser.add_argument("--task", choices=_TASKS, action="append")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="*", default=())
    parser.add_argument("--threads", type=int, default=0, help="of TensorFlow; 0 for all cores")
    parser.add_argument("--output", type=Path, default=HERE)
    asked = parser.parse_args()
    import growth
    import tensorflow as tf

    from benchmarks.common.records import read_rows
    from benchmarks.common.tables import replace_table

    tf.config.threading.set_intra_op_parallelism_threads(asked.threads)
    tf.config.threading.set_inter_op_parallelism_threads(asked.threads)
    tasks = asked.task or list(growth.TASKS)
    if asked.part == "growth":
        path = asked.output / "growth.jsonl"
        growth.run(path, tasks, asked.seeds, list(asked.arms))
        results = asked.output / "RESULTS.md"
        for task in tasks:
            table = growth.report(read_rows(path), task)
            if results.exists():
                text = results.read_text(encoding="utf-8")
                text = replace_table(text, growth.HEADINGS[task], table)
                results.write_text(text, encoding="utf-8")
        return
    import teachers

    path = asked.output / "teachers.jsonl"
    if asked.part == "teachers":
        teachers.run(path, asked.seeds, list(asked.arms or teachers.ARMS))
    else:
        for task in tasks:
            growth.report(read_rows(asked.output / "growth.jsonl"), task)
        growth.draw(read_rows(asked.output / "growth.jsonl"), asked.output / "figures")
    teachers.report(read_rows(path))


if __name__ == "__main__":
    main()
