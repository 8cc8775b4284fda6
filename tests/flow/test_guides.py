"""The snippets of the guides that have no room of their own to test them: selection, drmad."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

ROOT = Path(__file__).parents[2]


def snippets(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(r"^( *)```python\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(snippet) for _, snippet in found]


def shortened(snippet: str, **numbers: str) -> str:
    """The snippet with other numbers, each of which has to be there."""
    for name, number in numbers.items():
        snippet, found = re.subn(rf"\b{name}=[\d_]+", f"{name}={number}", snippet)
        assert found, name
    return snippet


def classes(num_examples: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    y = np.arange(num_examples) % 10
    x = generator.normal(size=(num_examples, 12)).astype("float32")
    x[np.arange(num_examples), y] += 2.0
    return x, y


def build_model(optimizer: str = "adam") -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(8, "relu", name="hidden"),
            keras.layers.Dense(10, name="logits"),
        ]
    )
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.slow
def test_selections_snippets_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = keras.Model.fit
    monkeypatch.setattr(
        keras.Model, "fit", lambda *a, **named: whole(*a, **{**named, "verbose": 0})
    )
    x, y = classes(320)
    names = {
        "x": x,
        "y": y,
        "model": build_model(),
        "validation": tf.data.Dataset.from_tensor_slices(classes(40)).batch(20),
        "train_on": lambda batch: tf.ones(len(batch[1])),
    }
    found = snippets("selection.md")
    assert len(found) == 5
    for snippet in found:
        snippet = snippet.replace("1_000", "6")
        exec(compile(snippet, "selection.md", "exec"), names)
    assert Path("selection.png").stat().st_size > 0
    decisions = Path("runs", "mine", "decisions.jsonl").read_text(encoding="utf-8")
    assert "PushHardest" in decisions


@pytest.mark.slow
def test_drmads_snippets_run_one_after_the_other(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    names = {
        "build_model": lambda: build_model("sgd"),
        "train": classes(96),
        "validation": classes(40),
    }
    first, second = snippets("drmad.md")
    exec(compile(shortened(first, outer_steps="2"), "drmad.md", "exec"), names)
    assert len(names["tuner"].history) >= 2
    assert names["model"].layers[0].name == "hidden"
    exec(compile(shortened(second, trials="2", outer_steps="1"), "drmad.md", "exec"), names)
    assert (tmp_path / "runs" / "both").is_dir()
