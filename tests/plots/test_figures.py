"""Figures of arms from several initial rates, and of runs of a single arm."""

from __future__ import annotations

import numpy as np
import pytest

from keras_qan.plots import figures, series


def records(begun):
    """Epochs and episodes of (arm, initial rate, final accuracy), one after the other."""
    epochs, episodes = [], []
    for number, (arm, rate, accuracy) in enumerate(begun):
        context = {"arm": arm, "phase": "evaluate", "episode": number, "seed": 1}
        epochs.append(context | {"epoch": 0, "val_accuracy": accuracy})
        episodes.append(context | {"initial_learning_rate": rate})
    return epochs, episodes


def test_accuracies_from_different_rates_are_not_pooled():
    found = series.accuracy_by_rate(
        *records(
            [("qan", 0.1, 0.5), ("qan", 0.2, 0.75), ("cosine", 0.1, 0.25), ("cosine", 0.2, 1.0)]
        )
    )
    assert {
        rate: {band.arm: band.mean.tolist() for band in bands} for rate, bands in found.items()
    } == {0.1: {"qan": [0.5], "cosine": [0.25]}, 0.2: {"qan": [0.75], "cosine": [1.0]}}


def test_an_arm_with_one_rate_stands_beside_every_rate_of_the_others():
    found = series.accuracy_by_rate(
        *records([("qan", 0.1, 0.5), ("qan", 0.2, 0.75), ("adamw", 0.001, 0.25)])
    )
    assert list(found) == [0.1, 0.2]
    for bands in found.values():
        (adamw,) = (band for band in bands if band.arm == "adamw")
        assert adamw.mean.tolist() == [0.25]


@pytest.mark.parametrize("rates", [[0.1, 0.1], np.linspace(0.1, 1.0, 7), [float("nan")] * 2])
def test_one_rate_many_rates_and_unknown_ones_are_one_panel(rates):
    found = series.accuracy_by_rate(*records([("qan", float(rate), 0.5) for rate in rates]))
    assert list(found) == [None]


def test_there_is_a_panel_for_each_rate():
    found = series.accuracy_by_rate(*records([("qan", 0.1, 0.5), ("qan", 0.2, 0.75)]))
    figure = figures.accuracy_figure(found, {"qan": "#000000"})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["from 0.1", "from 0.2"]


@pytest.mark.parametrize("phase", ["evaluate", "train"])
@pytest.mark.parametrize("arms", [["qan"], ["qan", "cosine"], ["qan", "cosine", "random"]])
def test_a_title_is_no_wider_than_its_figure(arms, phase):
    steps = np.arange(3.0)
    traces = [series.RateTrace(arm, 0, steps, steps + 1, ("Hold()",) * 3, phase) for arm in arms]
    figure = figures.learning_rate_figure(traces, dict.fromkeys(arms, "#000000"))
    figure.canvas.draw()
    (title,) = (text for text in figure.texts if text.get_text().startswith("Learning rate,"))
    assert title.get_window_extent().x1 <= figure.bbox.width


def test_an_action_that_was_never_taken_has_no_entry():
    raster = series.ActionRaster(("Decay(0.5)", "action 1", "Hold()"), 0, np.array([[0, 2]]))
    legend = figures.actions_figure(None, raster, "qan").axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["Hold()", "Decay(0.5)"]
