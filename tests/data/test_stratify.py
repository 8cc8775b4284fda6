import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.data.stratify import stratified_order

label_lists = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(
    lambda labels: np.array(labels, np.int64)
)
seeds = st.integers(0, 2**32)


@given(label_lists, seeds)
def test_the_order_is_a_permutation(labels, seed):
    assert sorted(stratified_order(labels, seed=seed)) == list(range(labels.size))


@given(label_lists, seeds, st.data())
def test_in_every_prefix_no_class_could_better_give_its_last_seat_to_another(labels, seed, data):
    size = data.draw(st.integers(1, labels.size))
    sizes = np.bincount(labels)
    seats = np.bincount(labels[stratified_order(labels, seed=seed)[:size]], minlength=sizes.size)
    present = sizes > 0
    # Webster's min-max condition: the last seat given was due before the next one to give.
    last_given = (seats[present] - 0.5) / sizes[present]
    next_due = (seats[present] + 0.5) / sizes[present]
    assert last_given.max() <= next_due.min() + 1e-12


@given(st.integers(1, 12), st.integers(1, 8), seeds)
def test_equal_classes_get_exactly_equal_shares(per_class, num_classes, seed):
    labels = np.repeat(np.arange(num_classes), per_class)
    order = stratified_order(labels, seed=seed)
    for share in range(per_class + 1):
        counts = np.bincount(labels[order[: share * num_classes]], minlength=num_classes)
        assert counts.tolist() == [share] * num_classes


def test_the_order_depends_on_seed_and_stream_and_on_nothing_else():
    labels = np.repeat(np.arange(5), 20)
    np.random.seed(1)
    first = stratified_order(labels, seed=7)
    np.random.seed(2)
    assert np.array_equal(first, stratified_order(labels, seed=7))
    assert not np.array_equal(first, stratified_order(labels, seed=8))
    assert not np.array_equal(first, stratified_order(labels, seed=7, stream=1))
