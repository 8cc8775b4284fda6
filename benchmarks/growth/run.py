"""The cost of growth, and its savings: one part a question.

    python benchmarks/growth/run.py --part resnet
    python benchmarks/growth/run.py --part families
    python benchmarks/growth/run.py --part students --dataset mnist --seeds 5
    python benchmarks/growth/run.py --part prices --dataset mnist

`students` and `prices` need the data set under `TFDS_DATA_DIR`. Every part prints a table and,
with `--json FILE`, writes the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--part", choices=("resnet", "families", "students", "prices"), required=True
    )
    parser.add_argument("--dataset", choices=("mnist", "cifar10"), default="mnist")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600, help="training steps of a student")
    parser.add_argument("--teacher_steps", type=int, default=400)
    parser.add_argument(
        "--only", nargs="*", default=(), help="models to sweep, or arms to race; all if empty"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.part == "resnet":
        import resnet

        rows = resnet.measure()
    elif options.part == "families":
        import families

        rows = families.sweep(options.only)
    elif options.part == "prices":
        import students

        rows = [students.time_steps(options.dataset)]
    else:
        import students

        rows = students.race(
            options.dataset,
            options.seeds,
            options.teacher_steps,
            options.steps,
            tuple(options.only),
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
