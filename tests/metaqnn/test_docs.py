"""The snippets of docs/metaqnn.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keras_qan import metaqnn
from keras_qan.metaqnn import MetaQNN
from keras_qan.metaqnn.trial import TrialOutcome

PAGE = (Path(__file__).parents[2] / "docs" / "metaqnn.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


class ConstantExecutor:
    is_here = False
    workers = 1

    def map(self, calls):
        return [TrialOutcome("trained", 0.5, 0.5, (0.5,)) for _ in calls]


def test_snippets_run_but_for_the_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = MetaQNN.__init__
    monkeypatch.setattr(
        MetaQNN, "__init__", lambda *a, **named: whole(*a, **named, engine=ConstantExecutor())
    )
    names: dict = {}
    training = SNIPPETS[0].index("ensemble = ")
    exec(compile(SNIPPETS[0][:training], "metaqnn.md", "exec"), names)
    assert names["search"].num_models == 60
    assert len(names["search"].best(5)) == 5
    names["data"] = names["search"].task
    exec(compile(SNIPPETS[1], "metaqnn.md", "exec"), names)
    assert (tmp_path / "runs" / "other" / "settings.json").exists()


def test_every_flag_file_of_the_page_exists():
    there = {path.stem for path in (Path(__file__).parents[2] / "configs").glob("*_metaqnn*.flags")}
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)) == there


def test_old_names_lead_to_the_new_ones():
    with pytest.warns(DeprecationWarning, match="QLearning"):
        assert metaqnn.Learning is metaqnn.QLearning
    with pytest.warns(DeprecationWarning, match="StateSpace"):
        assert metaqnn.Grammar is metaqnn.StateSpace
    with pytest.warns(DeprecationWarning, match="takes an executor itself"):
        assert metaqnn.trials_on(ConstantExecutor).workers == 1
