"""The rally by names and numbers, its flags, the script, and its figure."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.scripts import ROOT, Script, parse
from rich.console import Console

from keras_qan import data, models
from keras_qan.experiments.rally import RallyComparison, RallyExperiment
from keras_qan.experiments.tables import print_rally
from keras_qan.models.plain import layer_names, network
from keras_qan.plots import EmptyRunError, draw_rally
from keras_qan.plots.rally import cost_curve, mean_curve
from keras_qan.rally import Rally, RallyReport, Stage


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("digits_rally.flags", (16, 32, 64)),
        ("mnist_rally.flags", (64, 128, 256)),
        ("cifar10_rally.flags", (64, 128, 256)),
    ],
)
def test_the_flag_files_are_experiments_that_end_with_everything(name, full):
    found = parse(RallyExperiment, f"--flagfile={ROOT / 'configs' / name}")
    assert found.dataset == name.split("_")[0]
    last = found.stages()[-1]
    names = ("conv_1", "conv_2", "hidden")
    assert (last.examples, last.widths) == (1.0, dict(zip(names, full, strict=True)))


@pytest.mark.parametrize(
    ("name", "alone"), [("mnist_rally.flags", 0.002), ("cifar10_rally.flags", 0.001)]
)
def test_the_rate_falls_through_all_stages_and_from_nothing_has_its_own(name, alone, monkeypatch):
    found = parse(RallyExperiment, f"--flagfile={ROOT / 'configs' / name}")
    made = []

    def run(self, build_model, *_):
        made.append((self, float(build_model(0).optimizer.learning_rate.numpy())))
        return RallyReport(None, [], LOOKS, {})

    monkeypatch.setattr(Rally, "run", run)
    monkeypatch.setattr(RallyExperiment, "_splits", lambda _: data.load("digits"))
    found._run(ROOT / "nowhere")
    (whole, rate), (nothing, _) = made
    assert (rate, whole.final_learning_rate) == (pytest.approx(0.002), 0.00004)
    assert all(one.learning_rate is one.final_learning_rate is None for one in whole.stages)
    stage = nothing.stages[0]
    assert (stage.learning_rate or rate) == pytest.approx(alone)
    assert stage.final_learning_rate == pytest.approx(alone / 50)


def test_the_lists_are_the_stages():
    asked = RallyExperiment(
        shares=("0.5", "1.0"), widths=("4-8", "8-8"), epochs=("1", "2"), deepen=("-", "conv_1"),
        rates=("0.1", "0.01"), final_rates=("-", "0.001"), noise=("0", "0.2"), automatic=True,
        look_every=7, compare_epochs=2.5, compare_final_rate=0.002,
    )  # fmt: skip
    assert asked.stages() == [
        Stage(0.5, 1, {"conv_1": 4, "hidden": 8}, [], 0.1),
        Stage(1.0, 2, {"conv_1": 8, "hidden": 8}, ["conv_1"], 0.01, 0.001, 0.2),
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": ("4-8", "8-8")}, "one for each stage in both"),
        ({"widths": ("4-8", "8", "8-8")}, "as many widths in each stage"),
        ({"widths": ("4-8", "8-x", "8-8")}, "whole numbers with dashes"),
        ({"rates": ("0.1",)}, "one for each of the 3 stages"),
        ({"noise": ("0.1",)}, "one for each of the 3 stages"),
        ({"shares": ("half", "0.5", "1.0")}, "shares is half,0.5,1.0; .* 'half' is none"),
        ({"epochs": ("1", "2", "many")}, "epochs is .* 'many' is none"),
        ({"rates": ("0.1", "x", "0.1")}, "rates is .* 'x' is none"),
        ({"final_rates": ("-", "-", "0")}, "final_learning_rate is 0.0"),
        ({"final_rate": -1.0}, "final_rate is -1.0; expected .* at least 0"),
        ({"compare_final_rate": -1.0}, "compare_final_rate is -1.0; expected .* at least 0"),
        ({"keep_budget": True}, "keep_budget is True; expected it with automatic alone"),
        ({"optimizer": "lion"}, "expected one of adam, sgd"),
        ({"qan": "yes"}, "expected shipped, learn, or nothing"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; expected .* above 0"),
        ({"shares": ("0.5", "0.5", "1.5")}, "examples is 1.5"),
    ],
)
def test_bad_fields_are_refused_with_what_to_do(fields, message):
    with pytest.raises(ValueError, match=message):
        RallyExperiment(**fields)


def test_the_network_is_the_cnn_of_the_models_where_its_widths_are():
    own, known = network((8, 8, 1), 10, [16, 32, 64], 3), models.build("cnn", (8, 8, 1), 10, seed=3)
    assert [layer.name for layer in own.layers] == [layer.name for layer in known.layers]
    for one, other in zip(own.get_weights(), known.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert network((5,), 3, [7], 0).count_params() == 5 * 7 + 7 + 7 * 3 + 3
    assert layer_names([4, 5]) == ["conv_1", "hidden"]


@pytest.mark.slow
def test_the_script_trains_compares_draws_and_goes_on(tmp_path, monkeypatch):
    run, output = tmp_path / "run", tmp_path / "output.txt"
    lines = [
        "--shares=0.5,1.0", "--widths=2-4,3-6", "--deepen=-,hidden", "--epochs=1,1",
        "--compare_epochs=1", f"--directory={run}", "--qan=shipped",
    ]  # fmt: skip
    first = Script("rally", *lines, output=output)
    assert first.wait() == 0, first.output
    assert "from nothing" in first.output
    assert (run / "figures" / "accuracy_by_cost.png").stat().st_size > 10_000
    flags = f"--flagfile={run / 'flags.txt'}", f"--directory={run}"
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", None)  # nothing is left to be trained
        comparison = parse(RallyExperiment, *flags).run()
    assert comparison.from_nothing.model.count_params() == comparison.rally.model.count_params()
    before = (run / "flags.txt").read_text()
    other = Script("rally", *flags, "--epochs=1,2", output=output)
    assert other.wait() == 1
    assert re.search(r"rally: .*holds a rally with other", other.output)
    assert (run / "flags.txt").read_text() == before


def looks(*rows):
    names = ("stage", "look", "multiply_adds", "val_accuracy")
    return [dict(zip(names, row, strict=True)) for row in rows]


LOOKS = looks((1, 0, 0, 0.1), (1, 1, 100, 0.5), (2, 0, 100, 0.4), (2, 1, 300, 0.9))


def test_the_ratio_is_of_the_costs_to_what_from_nothing_ends_with():
    nothing = looks((1, 0, 0, 0.1), (1, 1, 500, 0.5), (1, 2, 1000, 0.65))
    reports = [RallyReport(None, [], found, {}) for found in (LOOKS, nothing)]
    comparison = RallyComparison(reports[0], reports[1], Path())
    assert comparison.target == 0.65
    # Half of the way from 0.4 to 0.9 is at 200; from nothing takes all of its 1,000.
    assert comparison.ratio() == pytest.approx(0.2)
    assert np.isnan(RallyComparison(reports[0], None, Path()).ratio())
    stage = {"stage": 1, "examples": 1, "parameters": 1, "steps": 1, "multiply_adds": 1.0,
             "seconds": 1.0, "val_accuracy": 0.5}  # fmt: skip
    for report in reports:
        report.stages.append(stage)
        report.test["accuracy"] = 0.5
    stream = io.StringIO()
    print_rally(Console(file=stream, width=200), comparison)
    assert "0.20 of the cost from nothing" in stream.getvalue()


def test_curves_mark_where_stages_begin():
    curve = cost_curve("rally", LOOKS)
    np.testing.assert_array_equal(curve.cost, [0, 100, 100, 300])
    np.testing.assert_array_equal(curve.growths, [100])
    np.testing.assert_array_equal(curve.values_there, [0.4])
    other = cost_curve("rally", looks((1, 0, 0, 0.3), (1, 1, 200, 0.5), (2, 0, 200, 0.5)))
    mean = mean_curve("rally", [curve, other], points=3)
    np.testing.assert_allclose(mean.cost, [0, 100, 200])
    np.testing.assert_allclose(mean.value, [0.2, (0.4 + 0.4) / 2, (0.65 + 0.5) / 2], atol=0.06)
    np.testing.assert_array_equal(mean.growths, [150])


def test_a_figure_needs_a_stage_that_is_finished(tmp_path):
    with pytest.raises(NotADirectoryError, match="expected one that a rally has written"):
        draw_rally({"rally": tmp_path / "none"}, tmp_path / "figure.png")
    with pytest.raises(EmptyRunError, match="Wait"):
        draw_rally({"rally": tmp_path}, tmp_path / "figure.png")
    (tmp_path / "looks.jsonl").write_text(json.dumps({"stage": 1, "val_loss": 0.5}) + "\n")
    with pytest.raises(EmptyRunError, match="none with 'val_accuracy'"):
        draw_rally({"rally": tmp_path}, tmp_path / "figure.png")
    (tmp_path / "looks.jsonl").write_text("".join(json.dumps(look) + "\n" for look in LOOKS))
    path = draw_rally({"rally": tmp_path}, tmp_path / "figures" / "figure.png")
    assert path.read_bytes().startswith(b"\x89PNG")
