"""Numbers and snippets of docs/early_stopping.md."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.curves import saturating
from helpers.students import data, student
from scipy.stats import norm

PAGE = (Path(__file__).parents[2] / "docs" / "early_stopping.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_example_against_the_slides_formula():
    certainty = norm.cdf((0.80 - 0.70) / 0.02)
    assert f"{certainty:.7f}" == "0.9999997"
    assert f"Φ = {certainty:.7f}" in PAGE


@pytest.mark.slow
def test_snippets_run_as_they_stand(tmp_path, monkeypatch):
    optuna = pytest.importorskip("optuna", reason="Optuna is not installed")
    monkeypatch.chdir(tmp_path)
    x, y = data(8)
    curves, features = saturating(110, epochs=4)
    quiet = keras.Model.fit
    monkeypatch.setattr(keras.Model, "fit", lambda *a, **n: quiet(*a, **{**n, "verbose": 0}))
    shared = student()
    names = {
        "x": x, "y": y, "val": (x, y), "model": shared, "optuna": optuna,
        "build": lambda configuration: shared,
        "sample": lambda rng: {"rate": rng.uniform()},
    }  # fmt: skip
    for snippet in SNIPPETS[:2]:
        exec(compile(snippet, "early_stopping.md", "exec"), names)
    exec(SNIPPETS[2].replace("max_epochs=27", "max_epochs=3"), names)
    assert names["result"].epochs_spent > 0
    names |= {"curves": curves, "features": features}
    names["partial_curves"] = curves[:, :2]
    exec(SNIPPETS[3], names)
    assert np.isfinite(names["end"]).all()
