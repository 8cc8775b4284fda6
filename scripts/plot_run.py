"""Draws the figures of a run again, from its logs.

Example:
    python scripts/plot_run.py --run=runs/mine
"""

import sys

from absl import app, flags

from keras_qan.plots import EmptyRunError, draw

_RUN = flags.DEFINE_string("run", None, "Directory of the run, with its *.jsonl logs.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for the figures; by default `figures` in the run directory."
)


def main(argv: list[str]) -> None:
    """Draws the figures and prints where they are."""
    if len(argv) > 1:
        raise app.UsageError(f"Received {argv[1:]}; expected flags only, as in --run=runs/mine.")
    try:
        written = draw(_RUN.value, output=_OUTPUT.value)
    except (OSError, EmptyRunError) as error:
        sys.exit(f"plot_run: {error}")
    for path in written:
        print(path)


if __name__ == "__main__":
    flags.mark_flag_as_required("run")
    app.run(main)
