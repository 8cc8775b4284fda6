"""A run's report: tables, figures and settings in one HTML file, for any screen."""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_qan.storage import files

#: Sentences below the figures, by the name of the file.
_CAPTIONS = {
    "accuracy_by_epoch": "Validation accuracy after each epoch, by arm; bands are 95 % bootstrap "
    "intervals over seeds.",
    "learning_rate": "Learning rate by optimizer step; a line for each fit, one of them strong.",
    "learning_rate_detail": "A stretch of one fit's learning rate, with the actions taken there.",
    "actions": "Actions over time.",
    "learning": "What the training episodes came to.",
    "selection": "Groups of examples in the batches over time.",
    "validation_loss": "Validation loss by outer step of the search.",
    "penalties": "Learned penalties.",
    "learning_rates": "Learned learning rates over the training.",
    "exploration": "Validation accuracy of the sampled models as exploration falls.",
    "action_values": "Mean action values by layer and depth.",
    "predicted_ends": "Predicted against true ends of the trainings.",
    "epochs_saved": "Epochs spent and planned, summed up.",
    "accuracy_by_cost": "Validation accuracy against cumulative cost.",
}

_STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --soft: #5a5a5a; --line: #d8d8d8;
  --back: #ffffff; --panel: #f5f6f7; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6e6; --soft: #a5a5a5; --line: #3c3f43;
  --back: #16181a; --panel: #212427; }
  figure img { filter: invert(0.9) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--back);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid var(--line); color: var(--soft); font-weight: 600; }
td { border-bottom: 1px solid var(--line); }
td.text, th.text { text-align: left; }
tr.new td { border-top: 2px solid var(--line); }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; height: auto; }
@media (max-width: 40rem) { figure img { max-width: none; width: 38rem; } }
figcaption, .note { color: var(--soft); font-size: 0.9rem; }
pre { background: var(--panel); padding: 0.8rem; border-radius: 0.3rem; overflow-x: auto;
  font-size: 0.85rem; }
"""


@dataclass(frozen=True)
class ReportTable:
    """A table as text, for a terminal and for a report.

    Args:
        title: what it shows.
        headings: of the columns, C of them.
        rows: the cells, each row C of them.
        text_columns: headings of columns that hold words; the others hold numbers, to the right.
            Defaults to none.
        note: a sentence below it. Defaults to none.
        groups: rows with the same value in the first column belong together. Defaults to False.
        minor: headings of columns that a narrow terminal does without. Defaults to none.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: tuple[str, ...] = ()
    note: str = ""
    groups: bool = False
    minor: tuple[str, ...] = ()


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    summary: Sequence[str] = (),
    tables: Sequence[ReportTable] = (),
    figures: Sequence[Path] = (),
    facts: Mapping[str, str] | None = None,
    settings: str = "",
    repeat: str = "",
) -> Path:
    """Write a report as one self-contained HTML file.

    Args:
        path: the file to write; its folder is made if need be.
        title: what was run.
        summary: paragraphs below the title. Defaults to none.
        tables: in their order. Defaults to none.
        figures: PNG files, which are put into the report. Defaults to none.
        facts: versions, seeds and the like, by name. Defaults to none.
        settings: the run's flags. Defaults to none.
        repeat: the command that repeats the run. Defaults to none.

    Returns:
        The file.

    Raises:
        OSError: a figure cannot be read, or the file cannot be written.
    """
    parts = [f"<h1>{html.escape(title)}</h1>"]
    parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in summary]
    parts += [_table(table) for table in tables]
    if figures:
        parts += ["<h2>Figures</h2>", *(_figure(Path(figure)) for figure in figures)]
    if facts:
        rows = tuple((name, value) for name, value in facts.items())
        headings = ("what", "value")
        parts.append(_table(ReportTable("Versions and seeds", headings, rows, headings)))
    if settings:
        parts.append(f"<h2>Configuration</h2><pre>{html.escape(settings.strip())}</pre>")
    if repeat:
        parts.append(f"<h2>Repeat it</h2><pre>{html.escape(repeat)}</pre>")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    files.replace(
        target,
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n",
    )
    return target


def _table(table: ReportTable) -> str:
    kinds = ["text" if heading in table.text_columns else "number" for heading in table.headings]

    def row(cells: Sequence[str], tag: str, kind: str = "") -> str:
        found = "".join(
            f'<{tag} class="{of_column}">{html.escape(cell)}</{tag}>'
            for of_column, cell in zip(kinds, cells, strict=True)
        )
        return f'<tr class="{kind}">{found}</tr>'

    rows, last = [], table.rows[0][0] if table.rows else ""
    for cells in table.rows:
        rows.append(row(cells, "td", "new" if table.groups and cells[0] != last else ""))
        last = cells[0]
    note = f'<p class="note">{html.escape(table.note)}</p>' if table.note else ""
    return (
        f'<h2>{html.escape(table.title)}</h2><div class="scroll"><table>'
        f"<thead>{row(table.headings, 'th')}</thead><tbody>{chr(10).join(rows)}</tbody>"
        f"</table></div>{note}"
    )


def _figure(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    name = re.sub(r"[_-]+", " ", path.stem)
    caption = html.escape(_CAPTIONS.get(path.stem, f"{name[:1].upper()}{name[1:]}."))
    return (
        f'<figure><div class="scroll"><img alt="{caption}" src="data:image/png;base64,{content}">'
        f"</div><figcaption>{caption}</figcaption></figure>"
    )
