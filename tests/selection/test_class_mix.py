import collections

import numpy as np
import pytest
import tensorflow as tf
from helpers.selectors import Training, dataset, pipeline, ready
from hypothesis import given
from hypothesis import strategies as st

from keras_qan import plots
from keras_qan.selection import ClassMix, Cycle, Draw
from keras_qan.selection.class_mix import _slot_sizes
from keras_qan.storage import serialization


def tens(num_examples=1_000):
    return dataset(num_examples, num_classes=10)


@pytest.fixture(scope="module")
def original():
    """The sizes of the original: ten slots of a batch of 128."""
    return ClassMix(tens(), num_classes=10, batch_size=128)


@pytest.fixture
def fresh(original):
    original.end()
    original.restart()
    return original


def shares(training, count=1):
    return np.array([np.bincount(n % 10, minlength=10) for n in training.steps(count)])


@pytest.mark.slow
def test_the_newest_of_ten_slots_has_20_of_128_and_the_others_12(fresh):
    assert fresh.slot_sizes == (20, *[12] * 9)
    assert shares(Training(fresh)).tolist() == [[20] + [12] * 9]  # class 0 is the newest at first


@pytest.mark.slow
@given(st.integers(1, 20), st.integers(1, 300))
def test_the_slots_fill_the_batch_and_none_is_larger_than_the_newest(slots, batch_size):
    if batch_size < slots:
        with pytest.raises(ValueError, match="Choose fewer slots"):
            _slot_sizes(batch_size, slots, None)
        return
    sizes = _slot_sizes(batch_size, slots, None)
    assert (sum(sizes), len(sizes)) == (batch_size, slots)
    assert len(set(sizes[1:])) <= 1
    assert sizes[0] == max(sizes)
    assert min(sizes) >= 1


def test_the_newest_slots_size_can_be_chosen():
    assert _slot_sizes(100, 4, 40) == (40, 20, 20, 20)
    assert _slot_sizes(8, 1, 8) == (8,)
    for newest in (0, 41, 100, -3):
        with pytest.raises(ValueError, match="multiple of slots - 1"):
            _slot_sizes(100, 4, newest)


def test_a_push_makes_a_class_the_newest_and_the_oldest_drops_out(fresh):
    training = Training(fresh, prefetch=0)
    fresh.push(3)
    # 3, 0, 1, …, 8: class 9 is out, class 3 has two slots.
    assert shares(training).tolist() == [[12, 12, 12, 32, 12, 12, 12, 12, 12, 0]]
    for _ in range(10):
        fresh.push(7)
    assert shares(training).tolist() == [[0] * 7 + [128, 0, 0]]


def test_a_pushed_class_shows_after_the_declared_number_of_batches(fresh):
    training = Training(fresh, prefetch=2)
    assert fresh.staleness == 2
    fresh.raw_actions()[5].select()
    newest = shares(training, 4).argmax(axis=1)
    assert newest.tolist() == [0, 0, 5, 5]


def test_actions_push_each_class_once(original):
    assert [action.label for action in original.raw_actions()] == list(range(10))


@pytest.fixture(scope="module")
def guarded():
    """Every class has at least two of 40, and the ten slots share the other 20."""
    return ClassMix(tens(), num_classes=10, batch_size=40, least=2)


@pytest.mark.slow
def test_every_class_keeps_its_least_share_whatever_is_pushed(guarded):
    assert guarded.slot_sizes == (11, *[1] * 9)
    training = Training(guarded, prefetch=0)
    first = training.step()
    for _ in range(10):
        guarded.push(7)
    batches = np.concatenate([first, training.steps(20)])
    found = [np.bincount(batch % 10, minlength=10).tolist() for batch in batches]
    assert found == [[2 + 11] + [2 + 1] * 9, *[[2] * 7 + [2 + 20] + [2] * 2] * 20]
    counts = np.bincount(batches.ravel(), minlength=1_000)
    for label in (3, 7):  # without replacement, also where a class has both a slot and its least
        own = counts[label::10]
        assert own.max() - own.min() <= 1


@pytest.mark.parametrize("least", [-1, 0.5])
def test_a_least_share_that_makes_no_sense_is_refused(least):
    with pytest.raises(ValueError, match=f"least is {least}"):
        ClassMix(tens(), 10, 128, least=least)


def test_a_least_share_has_to_leave_room_for_the_slots():
    with pytest.raises(ValueError, match="least= reserves 120"):
        ClassMix(tens(), 10, 128, least=12)


def newest(selector):
    return int(selector._pushes.newest()[1])


def test_the_hardest_class_is_the_one_of_the_highest_recent_loss(guarded):
    guarded.end()
    guarded.restart()
    hardest, _ = guarded.actions()
    hardest.select()
    assert newest(guarded) == 0  # nothing known
    training = Training(guarded, prefetch=0)
    training.steps(5, losses=lambda numbers: 1.0 + (numbers % 10 == 6))
    hardest.select()
    assert newest(guarded) == 6
    training.steps(20, losses=lambda numbers: 1.0 + (numbers % 10 == 2))
    hardest.select()
    assert newest(guarded) == 2


def test_pushing_the_rarest_class_goes_round_and_brings_back_what_is_missing(guarded):
    guarded.end()
    guarded.restart()
    _, rarest = guarded.actions()

    def pushed(count):
        for _ in range(count):
            rarest.select()
            yield newest(guarded)

    # The queue holds 0, 1, …, 9, newest first: the oldest is pushed, and none drops out.
    assert list(pushed(12)) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 9, 8]
    for label in (5, 5, 5):
        guarded.push(label)
    # 5 5 5 8 9 0 1 2 3 4 now: 6 and 7 are gone, 7 for longer. With each push 3, 2, … drops out.
    assert list(pushed(5)) == [7, 6, 4, 3, 2]


def test_observation_of_the_extremes(guarded):
    guarded.end()
    guarded.restart()
    (extremes,) = guarded.observations()
    # Nothing is known of the losses; class 0 has 13 of 40, and class 9 has 3 and is the oldest.
    np.testing.assert_allclose(extremes(None), [0, 13 / 4, 0, 0, 3 / 4, 0.9], atol=1e-6)
    training = Training(guarded, prefetch=0)
    training.steps(3, losses=lambda numbers: np.where(numbers % 10 == 6, 4.0, 1.0))
    mean = (9 * 1.0 + 4.0) / 10
    expected = [np.log(4.0 / mean), 3 / 4, 0.6, np.log(1.0 / mean), 3 / 4, 0.9]
    np.testing.assert_allclose(extremes(None), expected, atol=2e-3)
    with pytest.raises(ValueError, match="ClassExtremes cannot be bound to Uniform"):
        extremes.bound_to(ready("Uniform"))


def test_the_examples_of_a_class_come_without_replacement(fresh):
    training = Training(fresh)
    rng = np.random.default_rng(0)
    seen = collections.defaultdict(list)
    for _ in range(60):
        for number in training.step()[0]:
            seen[number % 10].append(number)
        fresh.push(int(rng.integers(10)))
        for label, numbers in seen.items():
            # Whoever walks without replacement has taken each as often as any other, or once more.
            counts = np.bincount(np.array(numbers) // 10, minlength=100)
            assert counts.max() - counts.min() <= 1
            assert set(np.array(numbers) % 10) == {label}
    assert min(len(numbers) for numbers in seen.values()) > 100  # more than one walk


def test_each_walk_over_a_class_has_another_order(fresh):
    sampler = fresh._stream.sampler
    orders = sampler.initial_orders()
    seed, group = tf.constant(0, tf.int64), tf.zeros([100], tf.int64)
    walks = []
    for walk in range(5):
        position = walk * 100 + tf.range(100, dtype=tf.int64)
        found, orders = sampler.sample(orders, seed, group, position)
        walks.append(tuple(found.numpy()))
        assert sorted(walks[-1]) == list(range(0, 1_000, 10))
    assert len(set(walks)) == 5


def test_the_classes_of_a_batch_are_mixed(fresh):
    """So that each half of a batch, as a strategy divides it, has about as many of each."""
    halves = [np.bincount(n[:64] % 10, minlength=10) for n in Training(fresh).steps(50)]
    assert np.mean(halves, axis=0) == pytest.approx([10] + [6] * 9, abs=1.0)


@pytest.mark.slow
def test_weights_make_each_class_count_as_in_the_data():
    x = np.arange(100, dtype="float32")[:, np.newaxis]
    y = np.repeat([0, 1, 2], [70, 20, 10])
    data = tf.data.Dataset.from_tensor_slices((x, y))
    selector = ClassMix(data, 3, 16, slots=3, newest=6, unbiased=True)
    for _, label, weight in selector.dataset().take(5):
        by_class = np.bincount(label, weights=weight)
        np.testing.assert_allclose(by_class, 16 * np.array([0.7, 0.2, 0.1]), rtol=1e-5)


@pytest.mark.slow
def test_a_cycle_pushes_class_after_class(original):
    selector = ClassMix(tens(), 10, 128, script=Cycle(every=2))
    newest = [int(selector.queue(tf.constant(n, tf.int64))[0]) for n in range(26)]
    # The push before batch n is number n // 2 - 1, and makes its class the newest.
    assert newest == [0, 0, *[(n // 2 - 1) % 10 for n in range(2, 26)]]
    found = shares(Training(selector), 21)
    assert found[20].tolist() == [12] * 9 + [20]  # the last ten pushes were 0 to 9


@pytest.mark.slow
def test_a_script_goes_on_where_the_training_is():
    selector = ClassMix(tens(), 10, 128, script=Draw())
    through = Training(selector).steps(12)
    selector.end()
    selector.restart()
    first = Training(selector).steps(5)
    kept = selector.arrays()
    selector.end()
    selector.restart(seed=9)
    selector.restore(kept)
    again = np.concatenate([first, Training(selector).steps(7)])
    np.testing.assert_array_equal(again, through)


def test_drawn_classes_are_uniform_and_follow_from_the_seed():
    draws = [
        Draw().classes(tf.range(500, dtype=tf.int64), 10, tf.constant(seed, tf.int64)).numpy()
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).mean() == pytest.approx(0.9, abs=0.06)
    assert np.bincount(draws[0], minlength=10) == pytest.approx([50] * 10, abs=28)


def test_a_script_leaves_nothing_for_an_agent():
    selector = ClassMix(tens(), 10, 128, script=Draw())
    for offered in (selector.actions, selector.raw_actions):
        with pytest.raises(ValueError, match=r"Leave script= out"):
            offered()
    for script in (Cycle, Draw):
        with pytest.raises(ValueError, match="every is 0"):
            script(0)
        again = serialization.from_config(serialization.to_config(script(3)))
        assert (type(again), again.every) == (script, 3)


def test_what_an_agent_sees_are_the_class_shares_of_late_batches(fresh):
    training = Training(fresh, prefetch=0)
    training.step()
    expected = np.array([20] + [12] * 9) / 128
    np.testing.assert_allclose(fresh.summary(), expected, rtol=1e-5)
    for _ in range(10):
        fresh.push(4)
    training.steps(60)
    np.testing.assert_allclose(fresh.summary(), np.eye(10)[4], atol=2e-3)


@pytest.mark.slow
def test_shares_over_time_are_those_of_the_batches(fresh, tmp_path):
    training = Training(fresh, prefetch=0)
    counts = []
    for step in range(600):
        if step % 50 == 0:
            fresh.push(step // 50 % 10)
        counts.append(shares(training)[0])
    found = fresh.shares()
    assert found.groups[3] == "class 3"
    assert found.share.sum(axis=1) == pytest.approx(np.ones(len(found.share)))
    for part, (start, end) in enumerate(zip(found.edges[:-1], found.edges[1:], strict=True)):
        expected = np.sum(counts[int(start) : int(end)], axis=0)
        np.testing.assert_allclose(found.share[part], expected / expected.sum(), atol=1e-6)
    assert found.edges[-1] == 600
    path = plots.draw_selection(found, tmp_path / "figures" / "selection.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_no_shares_are_known_before_a_training(fresh):
    next(iter(pipeline(fresh)))
    with pytest.raises(ValueError, match=r"selector\.callback\(\)"):
        fresh.shares()
    with pytest.raises(ValueError, match="ClassMix, LossRank or Prune"):
        ready("Uniform").shares()


X = np.zeros((40, 2), "float32")
CLASSES = np.arange(40) % 4


def mix(y, **more):
    data = tf.data.Dataset.from_tensor_slices((X[: len(y)], y))
    return ClassMix(data, **{"num_classes": 4, "batch_size": 4, "slots": 2, **more})


@pytest.mark.parametrize(
    "y",
    [
        CLASSES,
        CLASSES.astype("uint8"),
        CLASSES.astype("float32"),
        CLASSES[:, np.newaxis],
        np.eye(4, dtype="float32")[CLASSES],
        np.eye(4, dtype="int64")[CLASSES],
        0.9 * np.eye(4, dtype="float32")[CLASSES] + 0.025,  # smoothed
    ],
    ids=["int", "uint8", "float", "column", "one-hot", "whole one-hot", "smoothed"],
)
def test_classes_are_found_however_they_are_written(y):
    selector = mix(y)
    assert selector._stream.sampler.sizes.numpy().tolist() == [10] * 4
    np.testing.assert_array_equal(
        CLASSES[selector._stream.sampler._by_group], np.repeat(range(4), 10)
    )


def test_booleans_are_two_classes():
    assert mix(CLASSES > 1, num_classes=2)._stream.sampler.sizes.numpy().tolist() == [20, 20]


def test_a_function_says_where_the_class_is():
    data = tf.data.Dataset.from_tensor_slices({"image": X, "digit": CLASSES})
    selector = ClassMix(data, 4, 4, slots=2, label=lambda example: example["digit"])
    assert selector._stream.sampler.sizes.numpy().tolist() == [10] * 4
    pairs = tf.data.Dataset.from_tensor_slices((X, {"a": CLASSES, "b": CLASSES}))
    selector = ClassMix(pairs, 2, 4, slots=2, label=lambda x, y: y["a"] // 2)
    assert selector._stream.sampler.sizes.numpy().tolist() == [20, 20]


@pytest.mark.parametrize(
    ("y", "more", "says"),
    [
        (CLASSES % 3, {}, r"no examples of class 3 \(1 of 4"),
        (CLASSES + 1, {}, r"the label 4 .*classes from 0 to 3"),
        (CLASSES - 1, {}, "the label -1"),
        (np.linspace(0, 1, 40), {}, r"no whole numbers.*LossRank or selection\.Prune"),
        (np.full(40, np.nan), {}, "no whole numbers"),
        (
            np.random.default_rng(0).normal(size=(40, 4)),
            {},
            r"shape is \(4,\).*do not add up to 1.*LossRank",
        ),
        (np.eye(6)[np.arange(40) % 6], {}, r"shape is \(6,\).*num_classes=4"),
        (np.zeros((40, 3, 3)), {}, r"shape is \(3, 3\)"),
        (CLASSES.astype(str), {}, "StringLookup"),
        (CLASSES, {"num_classes": 1}, "num_classes is 1.*Uniform"),
        (CLASSES, {"label": lambda x, y: {"a": y}}, "label is.*expected one tensor"),
        (CLASSES, {"slots": 0}, "slots is 0"),
        (CLASSES, {"slots": 5}, "slots is 5 with a batch_size of 4"),
        (np.repeat([0, 1, 2, 3], [17, 17, 5, 1]), {"batch_size": 8}, "got 1 examples of class 3"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_a_way_out(y, more, says):
    with pytest.raises(ValueError, match=says):
        mix(y, **more)


@pytest.mark.parametrize(
    "data",
    [
        tf.data.Dataset.from_tensor_slices(X),
        tf.data.Dataset.from_tensor_slices({"x": X, "y": CLASSES}),
        tf.data.Dataset.from_tensor_slices((X, {"a": CLASSES})),
    ],
    ids=["inputs alone", "a dictionary", "several targets"],
)
def test_where_the_class_is_has_to_be_said_if_it_is_not_plain(data):
    with pytest.raises(ValueError, match="label=lambda"):
        ClassMix(data, 4, 4, slots=2)
