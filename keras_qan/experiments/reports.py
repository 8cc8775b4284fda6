"""`report.html` of a run, from its directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from keras_qan.experiments import origin
from keras_qan.experiments.flags import FLAG_FILE
from keras_qan.plots.report import ReportTable, write_report

#: The file in a run's directory.
REPORT_FILE = "report.html"


def write(
    directory: str | Path,
    script: str,
    title: str,
    *,
    tables: Sequence[ReportTable] = (),
    figures: Sequence[Path] = (),
    summary: Sequence[str] = (),
) -> Path:
    """Write the report of a run into its directory.

    Args:
      directory: of the run; its flags and its origin are read.
      script: name of the script that repeats it, without `.py`.
      title: what was run.
      tables: in their order. Defaults to none.
      figures: PNG files. Defaults to none.
      summary: paragraphs below the title. Defaults to none.

    Returns:
      The file.
    """
    folder = Path(directory)
    flags = folder / FLAG_FILE
    known = flags.exists()
    return write_report(
        folder / REPORT_FILE,
        title=title,
        summary=summary,
        tables=tables,
        figures=figures,
        facts=_facts(folder),
        settings=flags.read_text(encoding="utf-8", errors="replace") if known else "",
        repeat=f"python scripts/{script}.py --flagfile={flags} --directory=runs/another"
        if known
        else "",
    )


def _facts(folder: Path) -> dict[str, str]:
    path = folder / origin.ORIGIN_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = origin.here()
    facts: dict[str, str] = {}
    for name, value in found.items():
        parts = value if isinstance(value, dict) else {name: value}
        facts |= {str(part).replace("_", " "): str(one) for part, one in parts.items()}
    return facts
