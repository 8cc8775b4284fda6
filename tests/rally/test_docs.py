"""The snippets of docs/rally.md."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rally.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.slow
def test_snippets_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    whole = keras.Model.fit
    quiet = {"verbose": 0, "shuffle": False}
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **named: whole(*a, **{**named, **quiet}))
    # Without XLA, whose compilation would take most of the time.
    plain = functools.partialmethod(keras.Model.compile, jit_compile=False)
    monkeypatch.setattr(keras.Model, "compile", plain)
    names: dict = {}
    for snippet in SNIPPETS:
        for long, short in (("epochs=8", "epochs=1"), ("epochs=4", "epochs=1"), ("(3)", "(2)")):
            snippet = snippet.replace(long, short)
        exec(compile(snippet, "rally.md", "exec"), names)
    assert [stage["examples"] for stage in names["report"].stages] == [601, 902, 1202]
    assert names["pull"].teacher.episodes == 2
    assert capsys.readouterr().out.startswith("1 601 ")


def test_every_flag_file_of_the_page_exists():
    there = {path.stem for path in (ROOT / "configs").glob("*_rally*.flags")}
    assert set(re.findall(r"configs/(\w+)\.flags", PAGE)) == there
