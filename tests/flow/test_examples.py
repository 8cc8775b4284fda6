"""Every notebook of `examples` runs, in a small form; what is kept in it came out of a run."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest
from helpers.notebooks import run

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

#: Sizes of the small form, in place of a notebook's own.
SMALL = {"FRACTION": 0.1, "EPOCHS": 2, "TRIALS": 2}

#: Sizes where a notebook needs others.
OTHERS = {
    "imbalanced_and_wrong_labels": {"FRACTION": 1.0, "EPOCHS": 1},
    "another_library": {"EPISODES": 1, "DECISIONS": 64},
    "ray_tune": {"TRIALS": 1},  # each is a process that imports Keras
}

#: What a notebook prints at its end, in any form.
LAST = {
    "quickstart": r"QANCallback\(\): validation loss \d.*rate afterwards 0\.001",
    "own_policy": r"rule of thumb: validation loss \d",
    "imbalanced_and_wrong_labels": r"LossRank, easy first: [\d.]+% right",
    "growing_a_trained_model": r"validation accuracy after training on: [\d.]+%",
    "another_library": r"the policy that ships: return [-\d.]+\n(PPO after|stable-baselines3 is)",
    "searches": r"Optuna: \{.*\} validation loss \d",
    "ray_tune": r"Ray Tune: \{.*\} validation loss \d",
    "stopping_hopeless_trials": r"\d+ epochs instead of \d+",
    "resuming": r"epochs of the second fit: \[2\]",
}


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(notebook):
    outputs = [output for cell in code(notebook) for output in cell["outputs"]]
    return "".join(line for output in outputs for line in output.get("text", ()))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_small_form(path, tmp_path, monkeypatch):
    if path.stem == "searches":
        pytest.importorskip("keras_tuner")
        pytest.importorskip("optuna")
    if path.stem == "ray_tune":
        pytest.importorskip("ray.tune", exc_type=ImportError)
        warnings.simplefilter("ignore")  # of a process that is not ours
    monkeypatch.chdir(tmp_path)
    chosen = SMALL | OTHERS.get(path.stem, {})
    sizes = "\n".join(f"{name} = {value}" for name, value in chosen.items())
    text = printed(run(path, sizes))
    assert re.search(LAST[path.stem], text)
    if "is not installed" in text:
        pytest.skip(text.splitlines()[-1])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_the_outputs_of_a_whole_run(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    counts = [cell["execution_count"] for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert re.search(LAST[path.stem].replace(r"\[2\]", r"\["), printed(notebook))
    assert (
        len([cell for cell in code(notebook) if "parameters" in cell["metadata"].get("tags", ())])
        == 1
    )


def test_every_notebook_is_in_the_guide():
    guide = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in NOTEBOOKS} == set(LAST)
    for path in NOTEBOOKS:
        assert f"]({path.name})" in guide
