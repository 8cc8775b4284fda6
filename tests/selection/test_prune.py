import numpy as np
import pytest
from helpers.selectors import Training, dataset, ready

from keras_qan.selection import Prune


def halves(numbers):
    """Losses of 0 for the first 30 of 60 examples, and of 1 for the others."""
    return (numbers >= 30).astype("float32")


@pytest.fixture(scope="module")
def weighted():
    return Prune(dataset(), 10)


@pytest.fixture
def fresh(weighted):
    weighted.end()
    weighted.restart()
    return weighted


def walk(training, count):
    """Numbers and weights of so many batches."""
    numbers, weights = [], []
    for _ in range(count):
        numbers.append(training.step(losses=halves)[0])
        weights.append(training.last[2].numpy())
    return np.array(numbers), np.array(weights)


@pytest.mark.slow
def test_the_first_pass_sees_everything(fresh):
    numbers, weights = walk(Training(fresh, prefetch=0), 6)
    assert sorted(numbers.ravel()) == list(range(60))
    assert (weights == 1.0).all()


def test_a_pass_leaves_out_half_of_the_below_average_and_doubles_the_others_weight(fresh):
    training = Training(fresh, prefetch=0)
    walk(training, 6)
    numbers, weights = walk(training, 5)  # 30 above and 15 of 30 below: 45, then the next pass
    numbers, weights = numbers.ravel()[:45], weights.ravel()[:45]
    assert len(set(numbers)) == 45
    assert sorted(numbers[numbers >= 30]) == list(range(30, 60))
    np.testing.assert_array_equal(weights, np.where(numbers < 30, 2.0, 1.0))


def test_every_pass_leaves_out_others(fresh):
    training = Training(fresh, prefetch=0)
    walk(training, 6)
    kept = []
    for _ in range(6):
        numbers, _ = walk(training, 5)
        kept.append(frozenset(n for n in numbers.ravel()[:45] if n < 30))
    assert len(set(kept)) == 6


@pytest.mark.slow
def test_the_gradient_is_the_same_in_expectation(fresh):
    """Σ weight · f over passes comes to Σ f over the data."""
    training = Training(fresh, prefetch=0)
    walk(training, 6)
    counted = np.zeros(60)
    for _ in range(200):
        numbers, weights = walk(training, 5)
        np.add.at(counted, numbers.ravel()[:45], weights.ravel()[:45])
    # Below the average: 200 passes, each with probability ½ and weight 2: 200 ± 4 · 14.1.
    assert counted[30:] == pytest.approx(np.full(30, 200.0))
    assert np.abs(counted[:30] - 200).max() < 4 * 14.2
    assert counted[:30].sum() == pytest.approx(30 * 200)


@pytest.mark.slow
def test_the_last_eighth_of_the_training_sees_everything_unweighted(fresh):
    training = Training(fresh, num_steps=96, prefetch=2)
    numbers, weights = walk(training, 96)
    assert (weights[84:] == 1.0).all()
    for start in (84, 90):
        assert sorted(numbers[start : start + 6].ravel()) == list(range(60))
    assert (weights[76:84] == 2.0).any()


def test_the_ratio_can_be_steered(fresh):
    training = Training(fresh, prefetch=0)
    walk(training, 12)
    fresh.actions()[0].select()  # nothing is dropped
    numbers, weights = walk(training, 6)
    assert sorted(numbers.ravel()) == list(range(60))
    assert (weights == 1.0).all()
    fresh.actions()[3].select()  # three quarters are dropped: 30 - 22 = 8 stay
    numbers, weights = walk(training, 3)
    is_low = numbers < 30
    np.testing.assert_allclose(weights, np.where(is_low, 30 / 8, 1.0))


@pytest.mark.slow
def test_an_action_that_changes_nothing_does_not_begin_a_new_pass():
    runs = []
    for acts in (False, True):
        training = Training(ready("Prune"))
        before = training.steps(12, losses=halves)
        if acts:
            training.selector.actions()[2].select()  # half, as it is
        runs.append(np.concatenate([before, training.steps(10, losses=halves)]))
    np.testing.assert_array_equal(*runs)


def test_what_an_agent_sees_says_how_much_is_kept(fresh):
    training = Training(fresh, prefetch=0)
    walk(training, 8)
    summary = fresh.summary().numpy()
    assert summary[-2:] == pytest.approx([0.5, 45 / 60])
    assert fresh.summary_size == len(summary) == 12


@pytest.mark.slow
def test_many_steps_in_one_call_leave_no_gap():
    """A pass that ends within a call is followed by one that was drawn before the call."""
    training = Training(ready("Prune"), steps_per_call=5)
    numbers = training.steps(20, losses=halves)
    assert numbers.shape == (100, 8)
    late = numbers[40:].ravel()
    assert (late >= 30).mean() == pytest.approx(30 / 45, abs=0.06)


@pytest.mark.parametrize(("name", "share"), [("ratio", 1.0), ("ratio", -0.1), ("full_share", 1.5)])
def test_shares_that_make_no_sense_are_refused(name, share):
    with pytest.raises(ValueError, match=rf"{name} is {share}; expected a number in \[0, 1"):
        Prune(dataset(), 8, **{name: share})
