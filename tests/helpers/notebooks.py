"""Notebooks, run in this process: `python -m helpers.notebooks ../examples/*.ipynb`."""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def run(path: Path, sizes: str = "") -> dict[str, Any]:
    """Run a notebook's cells, one after the other, and put their outputs into it.

    Args:
      path: of the notebook.
      sizes: code in place of the cell that is tagged "parameters". Defaults to that cell itself.

    Returns:
      The notebook with its outputs: printed text, and figures that a cell ends with.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__notebook__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        is_sizes = "parameters" in cell["metadata"].get("tags", ())
        code = sizes if is_sizes and sizes else "".join(cell["source"])
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            last = _execute(code, f"{path.name}[{number}]", names)
        cell["execution_count"], cell["outputs"] = number, _outputs(text.getvalue(), last)
    return notebook


def _execute(code: str, place: str, names: dict[str, Any]) -> Any:
    """Execute a cell; return the value of its last expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, place, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), place, "eval"), names)


def _outputs(text: str, value: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if text:
        found.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(True)})
    if hasattr(value, "savefig"):
        picture = io.BytesIO()
        value.savefig(picture, format="png", dpi=80)
        content = base64.b64encode(picture.getvalue()).decode()
        found.append(
            {"output_type": "display_data", "data": {"image/png": content}, "metadata": {}}
        )
    return found


if __name__ == "__main__":
    for name in sys.argv[1:]:
        target = Path(name)
        done = run(target)
        target.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(target)
