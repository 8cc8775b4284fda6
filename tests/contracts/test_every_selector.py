"""What every selector has to keep to, whatever it is."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.selectors import NUM_CLASSES, SELECTORS, Training, dataset, examples, pipeline, ready

from keras_qan import actions, selection
from keras_qan.storage import checkpoint, serialization

STEERED = ("ClassMix", "LossRank", "Prune")


def _fast_for_one(kinds):
    """`make test-fast` has the whole suite for ClassMix; compiling five selectors takes a while."""
    return [
        pytest.param(kind, marks=[] if kind == "ClassMix" else [pytest.mark.slow]) for kind in kinds
    ]


@pytest.fixture(params=_fast_for_one(SELECTORS))
def kind(request):
    return request.param


@pytest.fixture(params=_fast_for_one(("ClassMix", "LossRank")))
def one_of_two(request):
    """For what all have from `Selector` itself: one that needs no losses, and one that does."""
    return request.param


@pytest.fixture(params=_fast_for_one(STEERED))
def steered_kind(request):
    return request.param


@pytest.fixture
def make(kind):
    return SELECTORS[kind]


def as_numbers(batch):
    return batch[0].numpy()[:, 0].astype(int)


#: The action that changes the batches most.
STRONGEST = {"ClassMix": 2, "LossRank": -1, "Prune": -1}


def test_every_selector_is_tested_here():
    def concrete(cls):
        return {c for sub in cls.__subclasses__() for c in {sub, *concrete(sub)}}

    assert {type(make(dataset())) for make in SELECTORS.values()} == {
        cls for cls in concrete(selection.Selector) if cls.__module__.startswith("keras_qan.")
    }


@pytest.mark.slow
def test_batches_are_full_and_whole_examples_of_the_data(kind):
    selector = ready(kind)
    data = pipeline(selector)
    assert data.element_spec == (
        tf.TensorSpec([8, 1], tf.float32),
        tf.TensorSpec([8], tf.int64),
    )
    for x, y in data.take(20):
        np.testing.assert_array_equal(y, as_numbers((x,)) % NUM_CLASSES)
    assert selector.steps_per_epoch == 8  # 60 examples in batches of 8
    assert selector.num_examples == 60


@pytest.mark.slow
def test_the_same_seed_gives_the_same_batches_and_another_seed_others(kind):
    runs = [
        Training(ready(kind, number, seed)).steps(24) for number, seed in [(0, 0), (1, 0), (1, 1)]
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


@pytest.mark.slow
def test_how_far_ahead_the_pipeline_is_makes_no_difference(kind):
    eager, ahead = (Training(ready(kind), prefetch=k).steps(16) for k in (0, 2))
    if ready(kind).uses_losses:
        # What was learned shows later where more batches are made ahead.
        np.testing.assert_array_equal(eager[:7], ahead[:7])
    else:
        np.testing.assert_array_equal(eager, ahead)


@pytest.mark.slow
def test_several_steps_in_one_call_are_counted_one_by_one(one_of_two):
    selector = ready(one_of_two)
    seen = Training(selector, steps_per_call=4).steps(5)
    assert (selector.trained, len(seen)) == (20, 20)


@pytest.mark.slow
def test_a_new_iterator_begins_where_the_training_is(kind):
    through = Training(ready(kind)).steps(12)
    selector = ready(kind)
    first = Training(selector).steps(5)
    selector.end()
    again = Training(selector)  # what was prefetched before is not lost
    np.testing.assert_array_equal(np.concatenate([first, again.steps(7)]), through)


@pytest.mark.slow
def test_a_look_at_the_data_before_a_training_changes_nothing(one_of_two):
    plain = Training(ready(one_of_two)).steps(6)
    selector = ready(one_of_two)
    next(iter(pipeline(selector)))
    np.testing.assert_array_equal(Training(selector).steps(6), plain)


@pytest.mark.slow
def test_iterating_without_a_training_goes_on_where_it_was(one_of_two):
    straight = [as_numbers(batch) for batch in pipeline(ready(one_of_two)).take(10)]
    selector = ready(one_of_two)
    parts = [as_numbers(batch) for _ in range(2) for batch in pipeline(selector).take(5)]
    np.testing.assert_array_equal(parts, straight)
    assert selector.trained == 10


@pytest.mark.slow
def test_a_restart_is_as_good_as_a_new_selector(kind, make):
    expected = Training(make(dataset(), seed=1), num_steps=40).steps(20)
    used = ready(kind)
    Training(used, num_steps=10).steps(15)
    for action in used.raw_actions()[-1:]:
        action.select()
    used.end()
    used.restart(1)
    assert used.trained == 0
    for name, array in make(dataset(), seed=1).arrays().items():
        np.testing.assert_array_equal(used.arrays()[name], array)
    np.testing.assert_array_equal(Training(used, num_steps=40).steps(20), expected)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [pytest.param(3, marks=pytest.mark.slow), 13])
def test_its_arrays_go_on_with_the_very_same_batches(kind, stop, tmp_path):
    """In the middle of an epoch, with batches made ahead and an action that has not shown yet."""
    unbroken, broken = ready(kind), ready(kind, 1)
    trainings = [Training(selector, num_steps=40) for selector in (unbroken, broken)]
    for training, selector in zip(trainings, (unbroken, broken), strict=True):
        training.steps(stop)
        for action in selector.raw_actions()[-1:]:
            action.select()
    checkpoint.write(tmp_path / "selector.ckpt", broken.arrays(), {})
    resumed = ready(kind, 1, seed=5)
    resumed.restore(checkpoint.read(tmp_path / "selector.ckpt")[0])
    left = Training(resumed, num_steps=40 - stop)
    np.testing.assert_array_equal(left.steps(20), trainings[0].steps(20))
    assert resumed.trained == stop + 20


@pytest.mark.slow
def test_a_tensorflow_checkpoint_keeps_it_as_well(one_of_two, tmp_path):
    selector = ready(one_of_two)
    Training(selector).steps(5)
    path = tf.train.Checkpoint(selector=selector).write(str(tmp_path / "selector"))
    other = ready(one_of_two, 1, seed=3)
    tf.train.Checkpoint(selector=other).read(path).expect_partial()
    for name, array in selector.arrays().items():
        np.testing.assert_array_equal(other.arrays()[name], array)


def test_arrays_that_do_not_fit_are_refused(kind):
    selector = ready(kind)
    arrays = selector.arrays()
    for name in arrays.keys() - {"off"}:  # not in older ones
        rest = {n: a for n, a in arrays.items() if n != name}
        with pytest.raises(ValueError, match=name):
            selector.restore(rest)
    with pytest.raises(ValueError, match="trained"):
        selector.restore(arrays | {"trained": np.zeros(2)})


def test_what_it_keeps_beside_the_data_is_at_most_16_bytes_an_example(make):
    def kept(num_examples):
        selector = make(dataset(num_examples))
        sampler = selector._stream.sampler
        constants = [sampler._by_group] if sampler._by_group is not None else []
        constants += [selector._label_of] if isinstance(selector, selection.ClassMix) else []
        values = [v for v in selector.variables if None not in v.shape] + constants
        orders = sampler.initial_orders().members  # what an iterator carries along
        return sum(v.dtype.size * v.shape.num_elements() for v in [*values, orders])

    assert (kept(4_000) - kept(2_000)) / 2_000 <= 16.0


@pytest.mark.slow
def test_no_pipeline_is_rebuilt_by_an_action(steered_kind):
    traces = []

    def transform(x, y):
        traces.append(1)
        return x, y

    selector = ready(steered_kind)
    training = Training(selector, transform=transform)
    traces.clear()
    for action in selector.raw_actions():
        training.steps(3)
        action.select()
    training.steps(3)
    assert traces == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prefetch", "buffered"),
    [
        pytest.param(0, 0, marks=pytest.mark.stress),
        (2, 0),
        pytest.param(2, 3, marks=pytest.mark.slow),
    ],
)
def test_an_action_shapes_the_batch_after_as_many_as_declared(steered_kind, prefetch, buffered):
    """Proved by comparing with the same training without the action."""
    taken_after = 51
    runs = []
    for is_steered in (False, True):
        selector = ready(steered_kind, num_examples=240)
        training = Training(selector, prefetch=prefetch, buffered=buffered)
        before = training.steps(taken_after)
        if is_steered:
            selector.raw_actions()[STRONGEST[steered_kind]].select()
        runs.append(np.concatenate([before, training.steps(12)]))
    assert selector.staleness == prefetch + buffered
    same = (runs[0] == runs[1]).all(axis=1)
    first_shaped = taken_after + selector.staleness
    assert same[:first_shaped].all()
    assert not same[first_shaped]


def test_a_pipeline_further_ahead_than_declared_is_reported(one_of_two):
    selector = ready(one_of_two)
    iterator = iter(pipeline(selector).prefetch(4))
    selector.begin()

    def train():
        for _ in range(200):
            next(iterator)
            selector.advance(1, tf.ones([1, 8]))

    with pytest.raises(RuntimeError, match=r"ahead of the training.*buffered=\d"):
        train()


@pytest.mark.slow
def test_a_pipeline_as_far_ahead_as_declared_is_fine(one_of_two):
    selector = ready(one_of_two)
    iterator = iter(pipeline(selector, prefetch=2, buffered=4).prefetch(4))
    selector.begin()
    for _ in range(30):
        next(iterator)
        selector.advance(1, tf.ones([1, 8]))
    assert selector.staleness == 6


def test_a_selector_among_the_callbacks_of_fit_says_what_belongs_there(kind):
    selector = ready(kind)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(TypeError, match=r"callbacks=\[selector\.callback\(\)\]"):
        model.fit(*examples(), verbose=0, callbacks=[selector])


def test_steps_on_other_data_are_reported(kind):
    selector = ready(kind)
    selector.begin()
    with pytest.raises(ValueError, match=r"made no batch.*selector\.dataset\(\)"):
        selector.advance(1, tf.ones([1, 8]))


def test_its_actions_are_actions_that_leave_the_rate_alone(steered_kind):
    selector = ready(steered_kind)
    rate = tf.constant([0.1, 0.2])
    for action in selector.raw_actions():
        found = tf.function(action.next_rate)(rate, 2.0 * rate, tf.constant(0.5))
        np.testing.assert_array_equal(found, rate)
        tf.function(action.select, autograph=False)()
    names = [actions.label(action) for action in selector.raw_actions()]
    assert len(set(names)) == len(names)
    assert names[0] in ("Push(0)", "Press(0.0625)", "Drop(0)")


def test_its_actions_come_back_from_their_settings_and_can_be_bound_again(steered_kind):
    selector = ready(steered_kind)
    for action in selector.raw_actions():
        again = serialization.from_config(json.loads(json.dumps(serialization.to_config(action))))
        assert serialization.to_config(again) == serialization.to_config(action)
        with pytest.raises(ValueError, match="not bound to a selector"):
            again.select()
        again.bound_to(selector).select()


def test_what_an_agent_is_given_comes_back_from_their_settings_and_can_be_bound_again(steered_kind):
    selector = ready(steered_kind)
    assert selector.notes_losses or steered_kind == "ClassMix"
    for part in (*selector.actions(), *selector.observations()):
        again = serialization.from_config(json.loads(json.dumps(serialization.to_config(part))))
        assert again.selector is None
        assert again.bound_to(selector).selector is selector
    assert selector.notes_losses
    sizes = [part.size(1) for part in selector.observations()]
    seen = tf.concat([part(None) for part in selector.observations()], axis=0)
    assert seen.shape == [sum(sizes)]


def test_moves_is_a_deprecated_name_of_actions(steered_kind):
    selector = ready(steered_kind)
    with pytest.warns(DeprecationWarning, match=r"Use actions\(\).*raw_actions\(\)"):
        moves = selector.moves()
    assert [actions.label(a) for a in moves] == [actions.label(a) for a in selector.actions()]


@pytest.mark.slow
def test_what_all_data_lose_is_summed_up_for_an_agent(steered_kind):
    """With one loss for every example there is nothing to be wrong about, however many steps."""
    selector = ready(steered_kind)
    total, count = selector.loss_sums()
    Training(selector, steps_per_call=4).steps(5, losses=lambda n: np.full(n.shape, 3.0))
    assert (float(total), float(count)) == (pytest.approx(60.0), 20.0)
    unknown = [float(total), float(count)]
    Training(selector).steps(2, losses=lambda n: np.full(n.shape, np.nan))
    assert float(total) == pytest.approx(3.0 * float(count))  # what is not known is left out
    selector.begin()
    assert [float(total), float(count)] == [0.0, 0.0] != unknown


def test_what_an_agent_sees_of_it_is_a_vector_of_the_size_that_it_says(kind):
    selector = ready(kind)
    Training(selector, num_steps=50).steps(20)
    summary = tf.function(selector.summary, autograph=False)()
    assert (summary.dtype, summary.shape) == (tf.float32, [selector.summary_size])
    assert np.isfinite(summary).all()


def test_its_summary_is_a_part_of_a_state_that_can_be_bound_again(steered_kind):
    selector = ready(steered_kind)
    Training(selector).steps(20)
    part = selector.observation()
    assert part.size(7) == selector.summary_size
    np.testing.assert_array_equal(part(None), selector.summary())
    again = serialization.from_config(json.loads(json.dumps(serialization.to_config(part))))
    with pytest.raises(ValueError, match="not bound to a selector"):
        again(None)
    np.testing.assert_array_equal(again.bound_to(selector)(None), selector.summary())
    with pytest.raises(ValueError, match="summary of 99 numbers"):
        selection.SelectionState(99).bound_to(selector)


def test_a_selector_without_groups_has_nothing_to_show():
    with pytest.raises(ValueError, match="numbers is 0"):
        ready("Uniform").observation()


@pytest.mark.slow
def test_a_weight_is_carried_for_each_example_on_request(kind):
    selector = ready(kind, unbiased=True)
    training = Training(selector)
    training.steps(20)
    _, _, weight = training.last
    assert (weight.dtype, weight.shape) == (tf.float32, [8])
    assert (weight.numpy() > 0).all()


@pytest.mark.slow
def test_weights_multiply_those_that_the_examples_have(kind, make):
    x, y = examples()
    own = np.where(y == 0, 3.0, 1.0)
    data = tf.data.Dataset.from_tensor_slices((x, y, own))
    weighted = make(data, unbiased=True).dataset().take(9)
    unweighted = pipeline(ready(kind, unbiased=True)).take(9)
    for (_, y, both), (_, _, alone) in zip(weighted, unweighted, strict=True):
        expected = np.where(y.numpy() == 0, 3.0, 1.0) * alone.numpy()
        np.testing.assert_allclose(both, expected, rtol=1e-6)
        assert both.dtype == tf.float64


def test_any_structure_of_examples_comes_back_in_batches(make):
    x, y = examples()
    inputs = {"a": x, "b": (x * 2, x.astype("float16"))}
    targets = y.astype("int32")
    selector = make(tf.data.Dataset.from_tensor_slices((inputs, targets)))
    found, labels = next(iter(selector.dataset()))
    numbers = found["a"].numpy()[:, 0].astype(int)
    np.testing.assert_array_equal(found["b"][0][:, 0], 2.0 * numbers)
    assert found["b"][1].dtype == tf.float16
    np.testing.assert_array_equal(labels, numbers % NUM_CLASSES)


@pytest.mark.slow
def test_augmentation_after_the_selector_leaves_the_choice_alone(one_of_two):
    def negate(x, y):
        return -x, y

    plain = Training(ready(one_of_two)).steps(6)
    behind = pipeline(ready(one_of_two)).map(negate).take(6)
    np.testing.assert_array_equal([-as_numbers(batch) for batch in behind], plain)
    within = ready(one_of_two).dataset(transform=negate).take(6)
    np.testing.assert_array_equal([-as_numbers(batch) for batch in within], plain)


def _model(**compile_arguments):
    model = keras.Sequential(
        [keras.layers.Input((1,)), keras.layers.Rescaling(1 / 60), keras.layers.Dense(NUM_CLASSES)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, **compile_arguments)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_execution", [3])
def test_it_goes_through_fit(kind, steps_per_execution):
    selector = ready(kind)
    model = _model(steps_per_execution=steps_per_execution, jit_compile=False)
    history = model.fit(
        pipeline(selector),
        steps_per_epoch=9,
        epochs=2,
        shuffle=False,
        verbose=0,
        validation_data=examples(),
        callbacks=[selector.callback()],
    )
    assert selector.trained == 18
    assert np.isfinite(history.history["val_loss"]).all()
    assert "compute_loss" not in vars(model)


def test_fit_without_an_end_is_refused(one_of_two):
    selector = ready(one_of_two)
    data = pipeline(selector)
    with pytest.raises(ValueError, match=r"steps_per_epoch=selector\.steps_per_epoch"):
        _model().fit(data, verbose=0, shuffle=False, callbacks=[selector.callback()])


@pytest.mark.slow
def test_fit_on_other_data_is_refused(one_of_two):
    selector = ready(one_of_two)
    with pytest.raises(ValueError, match="did not come from it"):
        _model(jit_compile=False).fit(
            dataset().batch(8).repeat(),
            steps_per_epoch=5,
            verbose=0,
            shuffle=False,
            callbacks=[selector.callback()],
        )


@pytest.mark.parametrize("batch_size", [0, 61, 2.5])
def test_a_batch_size_that_makes_no_sense_is_refused(kind, batch_size):
    cls = type(ready(kind))
    more = [NUM_CLASSES] if cls is selection.ClassMix else []
    with pytest.raises(ValueError, match="batch_size"):
        cls(dataset(), *more, batch_size)


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (examples(), TypeError, "from_tensor_slices"),
        (dataset().batch(4), ValueError, r"batched.*Leave out \.batch\(\)"),
        (dataset().batch(4, drop_remainder=True), ValueError, "batched"),
        (dataset().batch(4, drop_remainder=True).map(lambda x, y: (x, y)), ValueError, "batched"),
        (dataset().batch(4).prefetch(1), ValueError, "batched"),
        (dataset().repeat(), ValueError, r"infinite.*Leave out \.repeat\(\)"),
        (dataset().filter(lambda x, y: y < 9), ValueError, "unknown length.*assert_cardinality"),
        (dataset().take(0), ValueError, "empty"),
        (
            tf.data.Dataset.range(60).map(lambda n: (tf.zeros([n % 3]), n % 4)),
            ValueError,
            "shapes differ.*Resize",
        ),
        (
            tf.data.Dataset.range(60).map(lambda n: (tf.sparse.eye(2), n % 4)),
            TypeError,
            "SparseTensorSpec.*to_dense",
        ),
        (
            tf.data.Dataset.from_tensor_slices((tf.ragged.constant([[1], [2, 3]]), [0, 1])),
            TypeError,
            r"RaggedTensorSpec.*Pad them.*x\.to_tensor\(\)",
        ),
        (tf.data.Dataset.range(60).window(3), TypeError, "DatasetSpec.*flat_map"),
        (
            tf.data.Dataset.from_generator(
                lambda: ([1.0] * n for n in range(1, 9)), output_signature=tf.TensorSpec([None])
            ),
            ValueError,
            "single examples whose lengths differ, pad them",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_data_that_cannot_be_chosen_from_are_refused_with_a_way_out(make, data, error, says):
    with pytest.raises(error, match=says):
        make(data)


def test_a_negative_seed_or_number_of_batches_is_refused(kind, make):
    with pytest.raises(ValueError, match="seed is -1"):
        make(dataset(), seed=-1)
    with pytest.raises(ValueError, match="seed is -1"):
        ready(kind).restart(seed=-1)
    for arguments in ({"prefetch": -1}, {"buffered": -2}):
        with pytest.raises(ValueError, match="at least 0"):
            ready(kind).dataset(**arguments)


@pytest.mark.slow
def test_weights_need_a_place_in_the_examples(kind):
    cls = type(ready(kind))
    more = {"num_classes": NUM_CLASSES, "label": lambda e: e["y"], "slots": 3}
    x, y = examples()
    data = tf.data.Dataset.from_tensor_slices({"x": x, "y": y})
    selector = cls(data, batch_size=8, unbiased=True, **(more if cls is selection.ClassMix else {}))
    with pytest.raises(ValueError, match=r"\(x, y, sample_weight\).*unbiased=False"):
        selector.dataset()


def test_examples_that_were_made_dense_as_the_message_says_are_taken():
    ragged = tf.ragged.constant([[1], [2, 3], [4]])
    padded = tf.data.Dataset.from_tensor_slices((ragged.to_tensor(), [0, 1, 0]))
    assert selection.Uniform(padded, 2).num_examples == 3
    windows = tf.data.Dataset.range(60).window(3)
    windows = windows.flat_map(lambda window: window.batch(3, drop_remainder=True))
    windows = windows.apply(tf.data.experimental.assert_cardinality(20))
    assert selection.Uniform(windows, 2).num_examples == 20
