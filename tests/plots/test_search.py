"""Figures of a search and of learning curves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from keras_qan.plots import EmptyRunError, draw_search, search

MODELS = [
    {"score": score, "epsilon": epsilon}
    for score, epsilon in [(0.2, 1.0), (0.4, 1.0), (None, 1.0), (0.6, 0.5), (0.8, 0.5), (0.9, 0.1)]
]
VALUES = {
    "0:start:8:0": {"C(8,3,1)": 0.5},
    "1:C(8,3,1):8:0": {"SM": 0.2, "P(2,2)": 0.6},
    "1:C(16,3,1):8:0": {"SM": 0.4},
}
CURVES = [
    {
        "monitor": "val_loss", "values": [0.9, 0.5, 0.4, 0.3], "planned": 4, "stopped": False,
        "predictions": [[1, 0.35, 0.2, None], [2, 0.31, 0.25, 0.4]],
    },
    {
        "monitor": "val_loss", "values": [0.9, 0.8], "planned": 4, "stopped": True,
        "predictions": [[2, 0.7, 0.6, 0.8]],
    },
]  # fmt: skip


def write(folder, models=MODELS, values=VALUES, curves=CURVES):
    (folder / "curves").mkdir(parents=True)
    for path, rows in [("models.jsonl", models), ("curves/curves.jsonl", curves)]:
        (folder / path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "q_values.json").write_text(json.dumps(values))
    return folder


def test_the_rolling_mean_looks_back_only_and_stages_follow_epsilon():
    found = search.exploration(MODELS)
    assert found.score.tolist() == [0.2, 0.4, 0.6, 0.8, 0.9]
    assert found.window == 5
    np.testing.assert_allclose(found.mean, [0.2, 0.3, 0.4, 0.5, 0.58])
    assert [stage[:3] for stage in found.stages] == [(1.0, 0, 2), (0.5, 2, 2), (0.1, 4, 1)]
    assert [stage[3] for stage in found.stages] == pytest.approx([0.3, 0.7, 0.9])
    assert search.exploration([{"score": None, "epsilon": 1.0}]) is None


def test_the_rolling_window_is_a_tenth_of_a_long_search():
    rows = [{"score": float(n), "epsilon": 1.0} for n in range(100)]
    found = search.exploration(rows)
    assert found.window == 10
    assert found.mean[-1] == pytest.approx(np.mean(range(90, 100)))


def test_action_values_are_means_over_the_states_of_a_depth():
    found = search.layer_values(VALUES)
    assert found.layers == ("C(8,3,1)", "P(2,2)", "SM")
    assert found.depths == (1, 2)
    np.testing.assert_allclose(found.value, [[0.5, np.nan], [np.nan, 0.6], [np.nan, 0.3]])
    assert search.layer_values({}) is None


def test_predictions_after_a_quarter_are_set_against_known_ends_only():
    found = search.predicted_ends(CURVES)
    assert (found.truth.tolist(), found.predicted.tolist()) == ([0.3], [0.35])
    assert (found.low.tolist(), found.high.tolist()) == ([0.2], [0.35])  # null: no upper end
    assert found.num_stopped == 1
    assert search.predicted_ends(CURVES, share=0.5).predicted.tolist() == [0.31]
    assert search.predicted_ends(CURVES[1:]) is None


def test_epochs_are_summed_up():
    found = search.epochs_saved(CURVES)
    assert (found.spent.tolist(), found.planned.tolist()) == ([4, 6], [4, 8])
    assert search.epochs_saved([]) is None


def test_a_search_gets_all_its_figures(tmp_path):
    written = draw_search(write(tmp_path / "run"))
    names = ["exploration", "action_values", "predicted_ends", "epochs_saved"]
    assert [path.name for path in written] == [f"{name}.png" for name in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_what_has_no_data_is_left_out(tmp_path):
    write(tmp_path / "run", curves=[])
    written = draw_search(tmp_path / "run", output=tmp_path / "out")
    assert [path.stem for path in written] == ["exploration", "action_values"]
    assert all(path.parent == tmp_path / "out" for path in written)


def test_a_history_alone_is_drawn_and_a_cut_line_left_out(tmp_path):
    path = tmp_path / "curves.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in CURVES) + '{"monitor": "va')
    assert [one.stem for one in draw_search(tmp_path)] == ["predicted_ends", "epochs_saved"]


def test_where_nothing_is_it_says_what_was_expected(tmp_path):
    with pytest.raises(EmptyRunError, match=r"models\.jsonl"):
        draw_search(tmp_path)
    with pytest.raises(NotADirectoryError, match="a search has written"):
        draw_search(tmp_path / "none")
