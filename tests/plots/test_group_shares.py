"""Shares of groups in a run's batches."""

import numpy as np

from keras_qan.plots.series import selection_shares


def record(step, shares, episode=0, phase="evaluate", arm="qan"):
    return {"arm": arm, "phase": phase, "episode": episode, "step": step, "shares": shares}


def test_shares_are_the_mean_over_the_evaluations_episodes():
    records = [
        record(0, {"a": 0.0, "b": 0.0}),
        record(4, {"a": 0.2, "b": 0.8}),
        record(8, {"a": 1.0, "b": 0.0}),
        record(4, {"a": 0.6, "b": 0.4}, episode=1),
        record(4, {"a": 0.0, "b": 1.0}, phase="train"),
        record(4, {"a": 0.0, "b": 1.0}, arm="random"),
    ]
    found = selection_shares(records, "qan")
    assert found.groups == ("a", "b")
    np.testing.assert_allclose(found.edges, [0, 4, 8])
    np.testing.assert_allclose(found.share, [[0.4, 0.6], [1.0, 0.0]])


def test_a_run_whose_batches_nobody_chose_has_no_shares():
    assert selection_shares([{"arm": "qan", "phase": "evaluate", "step": 3}], "qan") is None
    assert selection_shares([record(0, {"a": 0.0})], "qan") is None
