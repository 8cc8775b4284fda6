"""Warm starts: what a new architecture takes over from a trained one."""

from __future__ import annotations

import numpy as np
import pytest

from keras_qan.metaqnn import Space, StateSpace, parse_architecture
from keras_qan.metaqnn.build import build
from keras_qan.metaqnn.warm_start import distance, find_nearest, inherit_weights

PLAIN = StateSpace(Space.small_images(None), (8, 8, 1), 10)
NORMED = StateSpace(Space.residual_images(None), (8, 8, 1), 10)
X = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")


def grown(states, old, new):
    """The new model with what it inherits, the old one, and how many variables were taken over."""
    old, new = parse_architecture(old), parse_architecture(new)
    parent, child = build(states, old, seed=1), build(states, new, seed=2)
    for number, variable in enumerate(parent.variables):
        if "moving_mean" in variable.path:
            variable.assign(np.random.default_rng(number).normal(size=variable.shape))
    weights = {v.path: np.asarray(v) for v in parent.variables}
    match = distance(old, new, deepens=not states.space.batch_norm)
    taken = inherit_weights(states, old, weights, new, match, seed=3)
    for variable in child.variables:
        if variable.path in taken:
            variable.assign(taken[variable.path])
    return parent, child, taken, match


@pytest.mark.parametrize(
    ("states", "old", "new"),
    [
        (PLAIN, "C(16,3,1), P(2,2), FC(32), SM", "C(32,3,1), P(2,2), FC(64), SM"),
        (PLAIN, "C(16,3,1), P(2,2), FC(32), SM", "C(32,3,1), C(32,3,1), P(2,2), FC(64), FC(64), SM"),  # noqa: E501
        (PLAIN, "C(16,3,1), C(16,5,1), GAP", "C(16,3,1), C(16,3,1), C(64,5,1), GAP"),
        (NORMED, "C(16,3,1), R(16,3), P(2,2), FC(32), SM", "C(32,3,1), R(32,3), P(2,2), FC(64), SM"),  # noqa: E501
        (NORMED, "C(16,3,1), R(32,3), GAP", "C(16,3,1), R(32,3), GAP"),
    ],
)  # fmt: skip
def test_a_model_that_grows_out_of_a_relative_computes_what_that_does(states, old, new):
    parent, child, taken, match = grown(states, old, new)
    assert match.share == 1.0
    assert {v.path for v in child.variables} == set(taken)
    np.testing.assert_allclose(np.asarray(child(X)), np.asarray(parent(X)), atol=1e-5)


def test_what_has_no_counterpart_starts_fresh():
    _, child, taken, match = grown(
        PLAIN, "C(16,3,1), P(2,2), FC(32), SM", "C(32,3,1), P(2,2), C(16,3,1), GAP"
    )
    assert (match.covered, match.share) == (2, 0.5)
    assert set(taken) == {"layer_1/kernel", "layer_1/bias"}
    assert len(child.variables) == 6


def test_a_block_is_no_identity_where_it_would_be_normalised_or_shortcut():
    old, new = parse_architecture("C(16,3,1), GAP"), parse_architecture("C(16,3,1), C(16,3,1), GAP")
    assert distance(old, new).share == 1.0
    assert distance(old, new, deepens=False).covered == 1
    with_shortcut = parse_architecture("C(16,3,1), R(32,3), GAP")
    without = parse_architecture("C(32,3,1), R(32,3), GAP")
    assert distance(with_shortcut, without).covered == 1


def test_the_nearest_covers_most_in_the_fewest_steps():
    new = parse_architecture("C(32,3,1), P(2,2), FC(64), SM")
    trained = [
        (0, parse_architecture("C(16,3,1), GAP")),
        (1, parse_architecture("C(16,3,1), P(2,2), FC(32), SM")),
        (2, parse_architecture("C(32,3,1), P(2,2), FC(32), SM")),
        (3, parse_architecture("C(64,3,1), P(2,2), FC(64), SM")),  # wider: nothing shrinks
        (4, parse_architecture("C(32,3,1), P(2,2), FC(32), SM")),
    ]
    number, match = find_nearest(new, trained)
    assert number == 2
    assert (match.share, match.steps) == (1.0, 1)
    assert find_nearest(new, trained[:1]) is None
    assert find_nearest(new, trained[:1], least_share=0.25)[0] == 0
    assert find_nearest(new, []) is None
