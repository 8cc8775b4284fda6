"""Markdown tables, and means with their bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from keras_qan.experiments.statistics import interval


def format_row(*cells: object) -> str:
    """A row of a table: `| a | b |`."""
    return f"| {' | '.join(map(str, cells))} |"


def format_header(*columns: str) -> str:
    """The first two lines of a table."""
    return f"{format_row(*columns)}\n{'|---' * len(columns)}|"


def replace_table(text: str, heading: str, table: str) -> str:
    """Markdown with the first table below a heading replaced."""
    place = text.index(f"\n## {heading}\n")
    start = text.index("\n|", place) + 1
    end = text.index("\n\n", start)
    return f"{text[:start]}{table}{text[end:]}"


def replace_block(text: str, name: str, block: str, where: str) -> str:
    """Markdown with what stands between `<!--name-->` and `<!--/name-->` replaced.

    Raises:
      ValueError: the text, of the file `where`, lacks the marks.
    """
    head, tail = f"<!--{name}-->\n\n", f"\n\n<!--/{name}-->"
    if head not in text or tail not in text.split(head, 1)[1]:
        raise ValueError(f"{where} has no place for {name!r}: <!--{name}--> … <!--/{name}-->.")
    before, rest = text.split(head, 1)
    return before + head + block + tail + rest.split(tail, 1)[1]


def format_interval(values: Iterable[float], form: str) -> str:
    """The 95 % interval of a mean: `low … high`; empty for fewer than two finite values."""
    low, high = interval([float(value) for value in values])
    return f"{low:{form}} … {high:{form}}" if math.isfinite(low) else ""


def format_mean(values: Iterable[float], form: str) -> str:
    """The mean of the finite values and its 95 % interval: `mean (low … high)`.

    The interval is left out where it has no width; without a finite value it is `–`.
    """
    finite = [float(value) for value in values if math.isfinite(value)]
    if not finite:
        return "–"
    mean = f"{np.mean(finite):{form}}"
    return f"{mean} ({format_interval(finite, form)})" if len(set(finite)) > 1 else mean
