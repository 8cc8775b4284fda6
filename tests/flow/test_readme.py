"""The README's promises: its snippets run, its commands and files exist."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.students import data, student

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)

#: Numbers of the snippets that only say how long they take, and smaller ones.
SHORTER = {r"\brange\(\d+\)": "range(3)", r"\bouter_steps=\d+": "outer_steps=2"}


def build_model() -> keras.Model:
    return student(name="stem")


@pytest.mark.slow
def test_snippets_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = data()
    y[::8] = 1 - y[::8]  # never learned to a loss of exactly zero

    train = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    names = {"build_model": build_model, "train": train, "val": train}
    names["dataset"] = train.unbatch().apply(tf.data.experimental.assert_cardinality(len(y)))
    names["model"] = student()
    monkeypatch.setattr(keras.Model, "fit", _quiet(keras.Model.fit))
    assert len(SNIPPETS) >= 2
    for long in SHORTER:
        assert any(re.search(long, snippet) for snippet in SNIPPETS), long
    for snippet in SNIPPETS:
        for long, short in SHORTER.items():
            snippet = re.sub(long, short, snippet)
        exec(compile(snippet, "README.md", "exec"), names)
    assert (tmp_path / "runs" / "mine" / "episodes.jsonl").read_text().count("\n") == 3
    build_model().fit(x, y, epochs=1, callbacks=[names["qan"]])


def _quiet(fit):
    return lambda *arguments, **named: fit(*arguments, **{"shuffle": False, "verbose": 0, **named})


def test_every_flag_file_of_the_readme_exists_and_every_one_is_named():
    in_commands = set(re.findall(r"configs/(\w+)\.flags", README))
    in_table = set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE))
    there = {path.stem for path in (ROOT / "configs").glob("*.flags")}
    assert in_commands | in_table == there


@pytest.mark.parametrize(("folder", "ending"), [("scripts", "py"), ("docs", "md")])
def test_every_script_and_every_guide_is_named(folder, ending):
    for path in (ROOT / folder).glob(f"*.{ending}"):
        assert f"{folder}/{path.name}" in README, path.name


def test_every_make_target_of_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


PAGES = ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{page} → {target}"


def test_ci_runs_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert np.all([f"make {name}" in README for name in ("demo", "test", "test-fast")])
