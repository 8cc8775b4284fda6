"""Architecture searches against each other: best validation error at equal time.

    python benchmarks/search/run.py --part table     # trains all of a small space
    python benchmarks/search/run.py --part replay    # replays searches on it, 20 seeds
    python benchmarks/search/run.py --part live        # warm starts, with training
    python benchmarks/search/run.py --part report

`table` and `live` train; both go on where they were. `replay` takes a minute.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

TABLE = Path(__file__).resolve().parent / "digits_table.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("table", "replay", "live", "report"), required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/search"))
    parser.add_argument("--seeds", type=int, default=0, help="20 replayed, 5 live")
    parser.add_argument("--dataset", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--models", type=int, default=20, help="of each live search")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.part == "table":
        import table

        table.make(TABLE)
    elif asked.part == "live":
        import live

        live.run(asked.out / f"live_{asked.dataset}", asked.dataset, asked.seeds or 5, asked.models)
    else:
        import replays

        if asked.part == "replay":
            replays.run(TABLE, asked.out / "replays.jsonl", asked.seeds or 20)
        replays.report(asked.out / "replays.jsonl")


if __name__ == "__main__":
    main()
