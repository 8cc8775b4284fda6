"""The state space: every legal path can be built and has the size that its state says."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_qan.metaqnn import (
    ImpossibleSpaceError,
    Layer,
    Space,
    StateSpace,
    format_architecture,
    parse_architecture,
)
from keras_qan.metaqnn.build import build

SPACES = {
    "small": Space.small_images(),
    "residual": Space.residual_images(),
    "paper": Space(
        # The paper's windows, pools and depths with fewer filters, so that tests are quick.
        filters=(4, 8), sizes=(1, 3, 5), pools=((5, 3), (3, 2), (2, 2)), dense=(16, 8, 4),
        max_dense=2, max_depth=12, min_depth=0,
    ),
}  # fmt: skip


@st.composite
def paths(draw):
    """A state space and a legal architecture of it."""
    space = SPACES[draw(st.sampled_from(sorted(SPACES)))]
    shape = (draw(st.integers(5, 17)), draw(st.integers(5, 17)), draw(st.sampled_from([1, 3])))
    states = StateSpace(space, shape, draw(st.integers(2, 5)))
    state, layers = states.initial_state(), []
    while not state.ends:
        layer = draw(st.sampled_from(states.legal_actions(state)))
        layers.append(layer)
        state = states.next_state(state, layer)
    return states, tuple(layers)


@pytest.mark.slow
@given(paths())
def test_every_legal_path_has_the_size_and_the_weights_that_its_states_say(path):
    states, layers = path
    model = build(states, layers)
    state = states.initial_state()
    for number, layer in enumerate(layers, start=1):
        state = states.next_state(state, layer)
        if layer.kind in ("C", "P", "R"):
            last = f"layer_{number}_relu" if layer.kind == "R" else f"layer_{number}"
            shape = model.get_layer(last).output.shape[1:]
            assert shape == (state.height, state.width, state.channels)
        elif layer.kind == "FC":
            assert model.get_layer(f"layer_{number}").output.shape == (None, state.channels)
    assert model.output.shape == (None, states.num_classes)
    assert model.count_params() == state.parameters
    budget = states.space.max_parameters
    assert budget is None or state.parameters <= budget


@pytest.mark.slow
@given(paths())
@settings(max_examples=12)
def test_every_legal_path_trains_a_step(path):
    states, layers = path
    model = build(states, layers, dropout=True, weight_decay=1e-4)
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True
    )
    x = np.random.default_rng(0).normal(size=(4, *states.input_shape)).astype("float32")
    before = [np.array(w) for w in model.get_weights()]
    assert np.isfinite(model.train_on_batch(x, np.arange(4) % states.num_classes))
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def tokens(states, text):
    return {
        str(layer) for layer in states.legal_actions(states.state_after(parse_architecture(text)))
    }


STATES = StateSpace(
    Space(filters=(8,), sizes=(1, 3, 5), pools=((2, 2), (3, 2)), dense=(16, 8), max_depth=4),
    (9, 9, 1),
    3,
)


@pytest.mark.parametrize(
    ("text", "legal"),
    [
        # 9×9: no pooling and no end behind the input; fully connected only below 8.
        (None, {"C(8,1,1)", "C(8,3,1)", "C(8,5,1)"}),
        ("C(8,3,1)", {"C(8,1,1)", "C(8,3,1)", "C(8,5,1)", "P(2,2)", "P(3,2)", "GAP", "SM"}),
        # (9 − 2) // 2 + 1 = 4: the filter of 5 no longer fits, a pooling follows no pooling.
        ("C(8,3,1), P(2,2)", {"C(8,1,1)", "C(8,3,1)", "FC(16)", "FC(8)", "GAP", "SM"}),
        ("C(8,3,1), P(2,2), FC(8)", {"FC(8)", "SM"}),
        ("C(8,3,1), P(2,2), FC(16), FC(16)", {"SM"}),
        ("C(8,3,1), C(8,3,1), C(8,3,1), C(8,3,1)", {"GAP", "SM"}),
        ("C(8,3,1), SM", set()),
    ],
)
def test_legal_actions_are_the_papers(text, legal):
    if text is None:
        assert {str(layer) for layer in STATES.legal_actions(STATES.initial_state())} == legal
    else:
        assert tokens(STATES, text) == legal


def test_pooling_has_no_padding():
    state = STATES.state_after(parse_architecture("C(8,3,1), P(3,2)"))
    assert (state.height, state.width) == (4, 4)  # (9 − 3) // 2 + 1
    assert state.bin == 4


def test_the_agent_knows_the_bin_and_the_true_size_is_carried():
    space = dataclasses.replace(STATES.space, pools=((2, 2),), max_depth=6)
    one = StateSpace(space, (12, 12, 1), 3).state_after(parse_architecture("C(8,1,1), P(2,2)"))
    other = StateSpace(space, (9, 9, 1), 3).state_after(parse_architecture("C(8,1,1), P(2,2)"))
    assert one.key == other.key == "2:P(2,2):4:0"
    assert (one.size, other.size) == (6, 4)


def test_parameters_are_counted_by_hand():
    # 3·3·1·8 + 8 = 80; 4·4·8 = 128 inputs to 16 units: 2,064; 16·3 + 3 = 51.
    assert (
        STATES.state_after(parse_architecture("C(8,3,1), P(2,2), FC(16), SM")).parameters
        == 80 + 2064 + 51
    )


def test_the_budget_leaves_only_what_can_still_end_within_it():
    space = dataclasses.replace(STATES.space, max_parameters=200)
    states = StateSpace(space, (9, 9, 1), 3)
    # C(8,3,1) has 80, GAP behind it 8·3 + 3 = 27; SM would have 9·9·8·3 + 3.
    assert tokens(states, "C(8,3,1)") == {"C(8,1,1)", "P(2,2)", "P(3,2)", "GAP"}


def test_an_illegal_path_says_which_rule_it_breaks():
    with pytest.raises(ValueError, match=r"P\(2,2\) cannot be layer 1: a pooling follows"):
        STATES.state_after(parse_architecture("P(2,2), SM"))
    with pytest.raises(ValueError, match="window of 5 is larger than the representation of 4"):
        STATES.state_after(parse_architecture("C(8,3,1), P(2,2), C(8,5,1), SM"))
    with pytest.raises(ValueError, match="no end"):
        build(STATES, parse_architecture("C(8,3,1)"))


def test_the_papers_space():
    states = StateSpace(Space.paper(), (32, 32, 3), 10)
    actions = [str(layer) for layer in states.legal_actions(states.initial_state())]
    # 4 depths · 3 windows, and the two ends: the empty network is among the paper's.
    assert len(actions) == 14
    assert {"GAP", "SM"} < set(actions)
    after = {str(one) for one in states.legal_actions(states.state_after([Layer("C", 64, 3)]))}
    assert {"P(5,3)", "P(3,2)", "P(2,2)"} < after


def test_an_input_too_small_says_by_which_rules():
    with pytest.raises(ImpossibleSpaceError, match=r"window of 3 is larger .* of 2"):
        StateSpace(Space(filters=(8,), sizes=(3,), max_dense=0), (2, 2, 1), 3)
    with pytest.raises(ImpossibleSpaceError, match="max_parameters=5"):
        StateSpace(Space(max_parameters=5), (8, 8, 1), 10)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"filters": (), "dense": ()}, "empty space"),
        ({"sizes": (), "max_dense": 0}, "empty space"),
        ({"sizes": (2,)}, "odd sides"),
        ({"filters": (0,)}, "at least 1"),
        ({"max_depth": 0}, "max_depth is 0"),
        ({"bins": (4, 8)}, "descending"),
        ({"bins": (8, 4)}, "descending sizes to 1"),
        ({"max_parameters": 0}, "max_parameters is 0"),
    ],
)
def test_bad_spaces_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        Space(**arguments)


@pytest.mark.parametrize("text", ["C(8,3)", "X(1)", "P(2)", "SM(3)", ""])
def test_what_is_no_layer_is_refused(text):
    with pytest.raises(ValueError, match="expected one such as"):
        parse_architecture(text)


@given(paths())
def test_what_was_written_is_read_again(path):
    assert parse_architecture(format_architecture(path[1])) == path[1]
