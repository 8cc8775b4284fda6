"""Writes the figures of README and docs/results.md from the tables of the benchmarks.

    python benchmarks/pages.py

What stands between `<!--name-->` and `<!--/name-->` is replaced. The tables are those of
`benchmarks/*/RESULTS.md`, which the benchmarks' own scripts give.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common.records import Row, read_rows
from benchmarks.common.scores import log_score
from benchmarks.common.tables import replace_block

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"

#: Arms of README's table → what readers call them.
NAMES = {
    "qan": "`QANCallback()`",
    "slope": '`QANCallback(policy="slope")`',
    "adamw_cosine": "AdamW 4.17e-3, cosine",
    "schedule_free": "ScheduleFreeAdamW",
    "plateau": "ReduceLROnPlateau",
    "none": "constant rate",
    "cosine": "cosine",
}

#: Steps of the trainings that README's table is of, and those of the line below it.
STEPS, SHORT_STEPS = 400, 240

Table = list[dict[str, str]]


def read_table(benchmark: str, first_column: str, heading: str = "") -> Table:
    """Return a table of a benchmark's results, column → cell for each row.

    Args:
      benchmark: its folder.
      first_column: the name of the table's first column.
      heading: the heading that the table comes after. Defaults to any.

    Raises:
      ValueError: there is no such table.
    """
    path = BENCHMARKS / benchmark / "RESULTS.md"
    text = path.read_text(encoding="utf-8")
    lines = iter(text[text.find(f"\n## {heading}") if heading else 0 :].splitlines())
    for line in lines:
        if line.startswith(f"| {first_column} |"):
            columns = _cells(line)
            next(lines)
            rows = []
            for row in lines:
                if not row.startswith("|"):
                    break
                # Of columns of one name the first counts.
                pairs = list(zip(columns, _cells(row), strict=True))
                rows.append(dict(reversed(pairs)))
            return rows
    raise ValueError(f"{path} has no table that begins with | {first_column} | after {heading!r}.")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip()[1:-1].split("|")]


def minus(text: str) -> str:
    """Return the text with the typographer's minus in place of the keyboard's."""
    return re.sub(r"-(?=\d)", "−", text)


def _ranks() -> dict[str, dict[str, str]]:
    """The table of ranks, arm → its row."""
    return {row["arm"]: row for row in read_table("versus_schedules", "arm", f"{STEPS} steps")}


def ranks() -> str:
    """README's table: the callback beside what people use."""
    rows = _ranks()
    losses = {arm: float(rows[arm]["mean log test loss"]) for arm in NAMES}
    lines = [
        f"| from 0.1, 1 and 10 times Keras's default rate | mean rank of {len(rows)} (95 %) | mean "
        "log test loss |",
        "|---|---|---|",
    ]
    means = {arm: float(rows[arm]["mean rank"].split()[0]) for arm in NAMES}
    for arm in sorted(NAMES, key=means.__getitem__):
        numbers = re.findall(r"[\d.]+", rows[arm]["mean rank"])
        mean, low, high = (f"{float(number):.1f}" for number in numbers)
        mean = f"**{mean}**" if means[arm] == min(means.values()) else mean
        loss = minus(f"{losses[arm]:.2f}")
        loss = f"**{loss}**" if losses[arm] == min(losses.values()) else loss
        lines.append(f"| {NAMES[arm]} | {mean} ({low} … {high}) | {loss} |")
    return "\n".join(lines)


def gap(beside: str) -> dict[str, str]:
    """The row of the callback's differences over all tasks.

    Args:
      beside: what the cell of that column begins with.
    """
    for row in read_table("versus_schedules", "policy", f"{STEPS} steps"):
        if (row["policy"], row["tasks"]) == ("qan", "all") and row["beside"].startswith(beside):
            return row
    raise ValueError(f"versus_schedules/RESULTS.md has no differences of qan to {beside!r}.")


def _size() -> str:
    """Tasks and seeds of the kept lines, in words."""
    rows = read_rows(BENCHMARKS / "versus_schedules" / "zero_shot.jsonl")
    rows = [row for row in rows if (row["steps"], row["arm"]) == (STEPS, "qan")]
    seeds = [len({row["seed"] for row in rows if row["task"] == name}) for name in _tasks(rows)]
    few, most = min(seeds), max(seeds)
    return f"{len(seeds)} tasks, {few if few == most else f'{few} to {most}'} seeds"


def _tasks(rows: list[Row]) -> list[str]:
    return sorted({row["task"] for row in rows})


def _mean_loss(rows: list[Row]) -> float:
    return statistics.mean(log_score(row["test_loss"]) for row in rows)


def zero_shot_gaps(steps: int = SHORT_STEPS) -> dict[str, float]:
    """The callback minus no callback from the default rate, log test loss, by task."""
    gaps = {}
    rows = read_rows(BENCHMARKS / "versus_schedules" / "zero_shot.jsonl")
    rows = [row for row in rows if row["steps"] == steps]
    for task in sorted({row["task"] for row in rows}):
        plain = [row for row in rows if (row["task"], row["arm"]) == (task, "none")]
        at = [(row["rate"], row["seed"]) for row in plain]
        own = [row for row in rows if (row["task"], row["arm"]) == (task, "qan")]
        own = [row for row in own if (row["rate"], row["seed"]) in at]
        seeds = {row["seed"] for row in own}
        if own:
            plain = [row for row in plain if row["seed"] in seeds]
            gaps[task] = _mean_loss(own) - _mean_loss(plain)
    return gaps


def zero_shot_line() -> str:
    """README's line on other kinds of networks."""
    gaps = zero_shot_gaps()
    count = {10: "Ten"}.get(len(gaps), str(len(gaps)))
    median, worst = -statistics.median(gaps.values()), max(gaps.values())
    at_worst = f"{abs(worst):.2f} {'behind' if worst > 0.0 else 'ahead'} at worst"
    return (
        f"*{count} of them, {SHORT_STEPS} steps, from Keras's default rate: [{median:.2f} ahead of "
        f"no callback in the median,\n{at_worst}](docs/results.md#where-it-does-harm).*"
    )


def _habits() -> tuple[Table, Table]:
    """All rows of the habits, and those that missed the aim."""
    rows = read_table("habits", "situation")
    return rows, [row for row in rows if "missed" in row["aim"]]


def habits_line() -> str:
    """README's line on the habits."""
    rows, missed = _habits()
    said = f"in [{len(missed)}](docs/results.md#habits)" if missed else "in none"
    return (
        f"*[Habits](benchmarks/habits/RESULTS.md): {len(rows)} kinds of fits with and without it, "
        f"{rows[0]['pairs']} seeds; worse by more than 0.02 in log loss or 0.5 points {said}.*"
    )


def habits() -> str:
    """The paragraph on the habits that missed the aim."""
    rows, missed = _habits()
    told = [
        f"- *{row['situation']}*: {minus(row['difference'])} ({minus(row['95 %'])}) in log loss"
        for row in missed
    ]
    head = f"It is met in {len(rows) - len(missed)} of {len(rows)}, {rows[0]['pairs']} seeds each"
    return "\n".join([f"{head}, and missed in:\n", *told] if told else [f"{head}."])


def headline() -> str:
    """The table at the head of the results."""
    best = list(_ranks().values())
    tuned = gap("tuned cosine")
    rows, missed = _habits()
    lines = ["| benchmark | what | figure |", "|---|---|---|"]

    def add(benchmark: str, what: str, figure: str) -> None:
        link = f"[{benchmark}](../benchmarks/{benchmark}/RESULTS.md)"
        lines.append(f"| {link} | {what} | {minus(figure)} |")

    add(
        "versus_schedules",
        f"mean rank among {len(best)} arms from the same initial rates, the first four (95 %)",
        "; ".join(f"{row['arm']} {row['mean rank']}" for row in best[:4]),
    )
    add(
        "versus_schedules",
        "log test loss behind a cosine whose peak was tuned for each task, from 0.01 to 100 times "
        "the default rate",
        f"{tuned['median']} in the median, {tuned['mean']} in the mean, {tuned['worst']} at worst",
    )
    add(
        "habits",
        "kinds of fits that end worse by at most 0.02 in log loss and 0.5 points than without it",
        f"{len(rows) - len(missed)} of {len(rows)}",
    )
    for heading in ("MNIST", "CIFAR-10"):
        found = {row["arm"]: row for row in read_table("rally", "arm", heading)}["rally"]
        add(
            "rally",
            f"{heading}: a rally's cost to the accuracy that the full network ends with from "
            "nothing, with the full network in place, and test accuracy beside it",
            found["with the last network"] + "; " + found["minus from nothing's"],
        )
    return "\n".join(lines)


def far_rates() -> dict[str, str]:
    """Column → median over the tasks of what the callback ends behind itself from far rates."""
    rows = read_table("versus_schedules", "minus qan 1×", f"{STEPS} steps")
    return next(row for row in rows if row["minus qan 1×"] == "median")


def tuned_line() -> str:
    """README's note below the table."""
    tuned = {key: minus(value) for key, value in gap("tuned cosine").items()}
    far = far_rates()
    low, high = far["qan 1e-06×"], far["qan 10000×"]
    return (
        f"*{_size()}, {STEPS} steps ([all figures](benchmarks/versus_schedules/RESULTS.md)). Minus "
        "a cosine tuned for each task,\nfrom 0.01 to 100 times the default rate: "
        f"{tuned['median']} in the median, {tuned['worst']} at worst. From 10⁻⁶ and 10⁴ times "
        f"it,\nminus itself: {minus(low)}, {minus(high)}.*"
    )


#: Page → name of the block → its text.
BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {
        "ranks": ranks,
        "tuned": tuned_line,
        "zero_shot": zero_shot_line,
        "habits": habits_line,
    },
    "docs/results.md": {"headline": headline, "habits": habits},
}


def written(page: str) -> str:
    """Return the text of a page with its blocks written anew.

    Raises:
      ValueError: the page lacks the marks of a block.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, block in BLOCKS[page].items():
        text = replace_block(text, name, block(), page)
    return text


def main() -> None:
    """Write all pages, and name those that changed."""
    for page in BLOCKS:
        text = written(page)
        if text != (ROOT / page).read_text(encoding="utf-8"):
            (ROOT / page).write_text(text, encoding="utf-8")
            print(f"{page} was written anew")


if __name__ == "__main__":
    sys.exit(main())
