import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_qan.plots import series
from keras_qan.plots.style import arm_colours, drawing_order

nan = float("nan")


def epoch(arm, seed, number, accuracy, phase="evaluate"):
    return {
        "arm": arm,
        "phase": phase,
        "episode": seed,
        "seed": seed,
        "epoch": number,
        "val_accuracy": accuracy,
    }


def decision(number, action, *, episode=0, phase="evaluate", arm="qan", **more):
    return {
        "arm": arm,
        "phase": phase,
        "episode": episode,
        "seed": episode,
        "decision": number,
        "step": 10 * number,
        "learning_rate": 0.1,
        "action": f"Action({action})",
        "action_index": action,
        "greedy": phase == "evaluate",
        **more,
    }


def test_accuracy_is_averaged_over_seeds_for_each_epoch():
    records = [
        epoch("qan", 1, 0, 0.5),
        epoch("qan", 1, 1, 0.7),
        epoch("qan", 2, 0, 0.6),
        epoch("qan", 2, 1, 0.9),
        epoch("constant", 1, 0, 0.25),
        epoch("qan", 3, 0, 0.0, phase="train"),
    ]
    constant, qan = series.accuracy_by_epoch(records)
    assert (constant.arm, qan.arm) == ("constant", "qan")
    assert qan.x.tolist() == [1, 2]
    np.testing.assert_allclose(qan.mean, [0.55, 0.8])
    assert qan.num_runs == 2
    # Two runs: a resample is one of them or their mean, and 2.5 % is well inside of the 25 %.
    np.testing.assert_allclose(qan.low, [0.5, 0.7])
    np.testing.assert_allclose(qan.high, [0.6, 0.9])
    # A single run has no spread to show.
    assert constant.low.tolist() == constant.mean.tolist() == constant.high.tolist() == [0.25]


def test_missing_accuracies_are_left_out():
    records = [epoch("qan", 1, 0, None), epoch("qan", 1, 1, 0.5), {"arm": "cosine", "epoch": 0}]
    (band,) = series.accuracy_by_epoch(records)
    assert band.x.tolist() == [2]
    assert series.accuracy_by_epoch([epoch("qan", 1, 0, None)]) == []


def test_a_run_that_stopped_early_counts_where_it_has_values():
    records = [epoch("qan", 1, 0, 0.2), epoch("qan", 2, 0, 0.4), epoch("qan", 2, 1, 0.8)]
    (band,) = series.accuracy_by_epoch(records)
    np.testing.assert_allclose(band.mean, [0.3, 0.8])
    assert np.isfinite(band.low).all()


def test_without_an_evaluation_the_last_training_episodes_stand_in_and_say_so():
    records = [epoch("qan", number, 0, number / 100, phase="train") for number in range(30)]
    (band,) = series.accuracy_by_epoch(records)
    assert band.phase == "train"
    assert band.num_runs == 10
    np.testing.assert_allclose(band.mean, [0.245])  # of episodes 20 to 29


@settings(max_examples=25)
@given(
    st.lists(
        st.lists(st.floats(0, 1), min_size=3, max_size=3),
        min_size=2,
        max_size=6,
    )
)
def test_an_interval_of_a_mean_lies_within_the_runs(runs):
    values = np.array(runs)
    low, high = series.bootstrap_interval(values)
    tolerance = 1e-12
    assert (low <= high).all()
    assert (low >= values.min(axis=0) - tolerance).all()
    assert (high <= values.max(axis=0) + tolerance).all()


def test_an_interval_agrees_with_the_normal_approximation_where_that_holds():
    runs = np.random.default_rng(0).normal(size=(400, 1))
    low, high = series.bootstrap_interval(runs)
    half = 1.96 * runs.std() / np.sqrt(400)
    assert (high - low)[0] == pytest.approx(2 * half, rel=0.1)


def test_learning_rates_are_ordered_by_step_and_skip_what_is_unknown():
    records = [
        decision(2, 0, learning_rate=0.3),
        decision(0, 1, learning_rate=0.1),
        decision(1, 0, learning_rate=None),
        decision(0, 0, episode=1, learning_rate=0.5),
        decision(0, 0, episode=2, phase="train", learning_rate=9.0),
    ]
    first, second = series.learning_rates(records)
    assert first.step.tolist() == [0, 20]
    assert first.learning_rate.tolist() == [0.1, 0.3]
    assert first.action == ("Action(1)", "Action(0)")
    assert second.learning_rate.tolist() == [0.5]


def test_without_an_evaluation_the_newest_training_episode_comes_first():
    records = [decision(0, 0, episode=number, phase="train") for number in range(3)]
    assert [trace.seed for trace in series.learning_rates(records)] == [2, 1, 0]


def test_an_excerpt_is_no_longer_than_asked_for():
    steps = np.arange(10.0)
    trace = series.RateTrace("qan", 0, steps, steps, tuple("abcdefghij"))
    assert series.excerpt(trace, 4).action == ("d", "e", "f", "g")
    assert series.excerpt(trace, 40).step.tolist() == steps.tolist()


def test_shares_of_actions_are_counted_over_greedy_evaluation_alone():
    records = [
        decision(0, 0),
        decision(0, 2, episode=1),
        decision(1, 2),
        decision(1, 2, episode=1),
        decision(0, 1, episode=2, phase="train"),
        decision(0, 1, arm="random"),
        decision(0, 1, episode=3, greedy=False),
    ]
    shares = series.action_shares(records, "qan")
    assert shares.actions == ("Action(0)", "Action(1)", "Action(2)")
    assert shares.share.tolist() == [[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]
    assert shares.edges.tolist() == [0, 1, 2]
    assert shares.num_episodes == 2
    assert series.action_shares(records, "cosine") is None


def test_an_action_has_its_number_wherever_it_was_taken_and_a_stand_in_for_a_name_if_never():
    records = [decision(0, 3, phase="train"), decision(0, 1), decision(0, 9, arm="random")]
    names = ("action 0", "Action(1)", "action 2", "Action(3)")
    assert series.action_names(records, "qan") == names
    assert series.action_shares(records, "qan").share.tolist() == [[0.0, 1.0, 0.0, 0.0]]


@given(st.integers(1, 500))
def test_long_episodes_are_gathered_into_few_intervals_that_cover_them(length):
    shares = series.action_shares([decision(number, 0) for number in range(length)], "qan")
    assert len(shares.share) <= 120
    assert (shares.edges[0], shares.edges[-1]) == (0, length)
    assert (np.diff(shares.edges) > 0).all()
    np.testing.assert_allclose(shares.share.sum(axis=1), 1.0)


def test_a_raster_has_a_row_for_each_training_episode_even_one_without_records():
    records = [
        decision(0, 1, episode=4, phase="train"),
        decision(1, 0, episode=4, phase="train"),
        decision(0, 0, episode=6, phase="train"),
        decision(0, 0),
    ]
    raster = series.action_raster(records, "qan")
    assert raster.first_episode == 4
    assert raster.taken.tolist() == [[1, 0], [-1, -1], [0, -1]]
    assert series.action_raster([decision(0, 0)], "qan") is None


def test_a_learning_curve_puts_episodes_in_order_and_nan_where_nothing_is_known():
    def episode(number, returned, loss, diverged):
        return {
            "arm": "qan",
            "phase": "train",
            "episode": number,
            "return": returned,
            "val_loss": loss,
            "diverged": diverged,
        }

    curve = series.learning_curve(
        [episode(1, -3.0, None, True), episode(0, 0.5, 0.4, False)],
        [
            decision(0, 0, phase="train", epsilon=1.0),
            decision(1, 0, phase="train", epsilon=0.5),
        ],
        "qan",
    )
    assert curve.episode.tolist() == [0, 1]
    assert curve.returned.tolist() == [0.5, -3.0]
    np.testing.assert_array_equal(curve.score, [0.4, nan])
    np.testing.assert_array_equal(curve.epsilon, [0.75, nan])
    assert curve.diverged.tolist() == [False, True]
    assert series.learning_curve([], [], "qan") is None


def test_the_learner_is_qan_unless_only_another_arm_was_trained():
    assert series.find_learner([]) == "qan"
    assert series.find_learner([{"arm": "mine", "phase": "train"}]) == "mine"
    both = [{"arm": "mine", "phase": "train"}, {"arm": "qan", "phase": "train"}]
    assert series.find_learner(both) == "qan"


@given(st.lists(st.one_of(st.floats(-5, 5), st.just(nan)), max_size=20), st.integers(1, 25))
def test_a_running_mean_stays_within_its_values(values, width):
    array = np.array(values, np.float64)
    means = series.running_mean(array, width)
    assert means.shape == array.shape
    known = np.isfinite(means)
    if known.any():
        finite = array[np.isfinite(array)]
        assert finite.min() - 1e-12 <= means[known].min()
        assert means[known].max() <= finite.max() + 1e-12


def test_known_arms_keep_their_colour_whatever_else_is_in_the_run():
    few, many = arm_colours(["qan", "cosine"]), arm_colours(["aaa", "cosine", "zzz", "qan"])
    assert few["qan"] == many["qan"]
    assert few["cosine"] == many["cosine"]
    assert len(set(many.values())) == 4


def test_the_learned_arm_comes_first_and_the_controls_last():
    assert drawing_order(["random", "zzz", "constant", "qan"]) == [
        "qan",
        "zzz",
        "random",
        "constant",
    ]
