"""Draw the figures of a run again, from its logs.

python scripts/plot_run.py --run=runs/mine
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from keras_qan.utils.quiet import without_tensorflow_noise

with without_tensorflow_noise():
    from keras_qan import plots
    from keras_qan.experiments.flags import flag, run_script
    from keras_qan.utils.validation import check


@dataclass(frozen=True)
class Figures:
    """Figures to draw; each field is a flag."""

    run: str = flag("Directory of the run, with its *.jsonl logs.", "")
    output: str = flag("Folder for the figures; by default `figures` in the run directory.", "")

    def __post_init__(self) -> None:
        check(bool(self.run), "run", self.run, "a directory", "Write for example --run=runs/mine.")


def main(figures: Figures, _: Console) -> None:
    """Draw the figures and print where they are."""
    drawn = plots.draw(figures.run, output=figures.output or None)
    for path in drawn:
        print(path)


if __name__ == "__main__":
    run_script(Figures, main)
