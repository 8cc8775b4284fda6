"""The front door's promises: snippets run, commands, files and links exist, and it is short."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from helpers.students import data, student

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "docs/tutorial.md", "docs/command_line.md", "docs/index.md")
}
README = PAGES["README.md"]


def build_model() -> keras.Model:
    return student(name="stem")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_snippets_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = data()
    y[::8] = 1 - y[::8]  # never learned to a loss of exactly zero
    train = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    names = {"build_model": build_model, "train": train, "val": train}
    monkeypatch.setattr(keras.Model, "fit", _quiet(keras.Model.fit))
    snippets = re.findall(r"```python\n(.*?)```", PAGES[page], flags=re.DOTALL)
    assert snippets
    for snippet in snippets:
        # The number of episodes only says how long it takes.
        short = re.sub(r"\brange\(\d+\)", "range(3)", snippet)
        exec(compile(short, page, "exec"), names)
    if page == "docs/tutorial.md":
        assert (tmp_path / "runs" / "mine" / "episodes.jsonl").read_text().count("\n") == 3
    build_model().fit(x, y, epochs=1, callbacks=[names["qan"]])


def _quiet(fit):
    return lambda *arguments, **named: fit(*arguments, **{"shuffle": False, "verbose": 0, **named})


def test_the_readme_has_no_more_than_six_hundred_words():
    assert len(README.split()) <= 600


def test_every_flag_file_of_the_guide_exists_and_every_one_is_named():
    guide = PAGES["docs/command_line.md"]
    in_commands = set(re.findall(r"configs/(\w+)\.flags", README + guide))
    in_table = set(re.findall(r"^\| `(\w+)` \|", guide, flags=re.MULTILINE))
    there = {path.stem for path in (ROOT / "configs").glob("*.flags")}
    assert in_commands | in_table == there


@pytest.mark.parametrize(
    "path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.stem
)
def test_every_script_is_named(path):
    assert f"scripts/{path.name}" in PAGES["docs/command_line.md"]


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.stem)
def test_every_guide_is_in_the_index(path):
    assert path.name == "index.md" or f"]({path.name})" in PAGES["docs/index.md"]


def test_every_make_target_of_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"`?make ([\w-]+)", README)
    assert {"demo", "test", "test-fast", "check"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


LINKING = [
    "README.md",
    "CHANGELOG.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", LINKING)
def test_every_link_leads_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{page} → {target}"


def test_ci_runs_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
