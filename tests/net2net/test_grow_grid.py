"""The script that repeats the blog's grid."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def script():
    path = ROOT / "scripts" / "grow_grid.py"
    found = importlib.util.spec_from_file_location("grow_grid", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_widths_are_pairs_and_others_are_refused():
    assert script().parsed_widths(["100-100", "150-20"]) == [(100, 100), (150, 20)]
    for wrong in ("100", "a-b", "10-", "0-5", "1-2-3"):
        with pytest.raises(ValueError, match=r"Write for example --widths=100-100"):
            script().parsed_widths([wrong])


@pytest.mark.slow
def test_growing_keeps_the_loss_and_the_flags_repeat_the_run(tmp_path):
    command = [sys.executable, "scripts/grow_grid.py"]
    first = [*command, "--flagfile=configs/digits_grow_grid.flags", "--scale=0.05", "--seeds=1"]
    first.append("--widths=20-20,30-20,30-30")
    tables = []
    for flags, folder in (
        ([*first, f"--directory={tmp_path / 'one'}"], "one"),
        ([*command, f"--flagfile={tmp_path / 'one' / 'flags.txt'}",
          f"--directory={tmp_path / 'two'}"], "two"),
    ):  # fmt: skip
        subprocess.run(flags, cwd=ROOT, check=True, capture_output=True)
        tables.append((tmp_path / folder / "grid.csv").read_text())
    assert tables[0] == tables[1]
    losses = [float(line.split(",")[3]) for line in tables[0].splitlines()[1:]]
    assert len(losses) == 3
    assert max(losses) - min(losses) <= 1e-5
