"""What is read and written of a model in training, on one device and on several."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qan.observations import TrainingDynamics, TrainingState, WeightStatistics, motion_numbers
from keras_qan.qan import loss_sums, variables
from keras_qan.qan.kernel_motion import KernelMotion
from keras_qan.qan.loss_sums import LossSums
from keras_qan.qan.model_access import ModelAccess, has_trained_weights
from keras_qan.qan.snapshot import Snapshot


@pytest.fixture
def model():
    made = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse", jit_compile=False)
    return made


def values(sums):
    return tuple(sums.read().tolist())


# Whether it was trained before.


def fresh(bias, *more):
    layers = [keras.layers.Dense(4, bias_initializer=bias), *more]
    made = keras.Sequential([keras.Input((3,)), *layers])
    made.compile("sgd", "mse")
    return made


@pytest.mark.parametrize(
    "bias",
    [
        "zeros",
        "ones",
        keras.initializers.Constant(0.5),
        keras.initializers.Constant(np.log([0.4, 0.3, 0.2, 0.1])),  # log frequencies of classes
        keras.initializers.RandomUniform(-0.5, 0.5),
        "random_normal",
    ],
)
def test_a_fresh_network_is_not_trained_whatever_its_biases_begin_with(bias):
    assert not has_trained_weights(fresh(bias))


def test_weights_that_were_set_tell_a_trained_network():
    made = fresh("zeros")
    made.set_weights([np.ones((3, 4)), np.arange(4.0)])
    assert has_trained_weights(made)
    made = fresh("random_normal", keras.layers.BatchNormalization())
    made.layers[1].moving_mean.assign(np.arange(4.0))
    assert has_trained_weights(made)


# The sums of the loss.


def test_sums_that_keras_keeps_are_left_to_keras(model):
    x, y = np.zeros([8, 1]), np.ones([8, 1])
    model.fit(x, y, batch_size=4, verbose=0)
    sums = LossSums(model)
    kept = values(sums)
    assert kept[1] == 8.0  # Keras counts examples
    sums.add(3.0)
    sums.end_epoch()
    assert values(sums) == kept


def test_sums_of_a_training_step_that_keeps_none_begin_anew_with_each_epoch():
    class Own(keras.Model):
        metrics = property(lambda self: [])

    sums = LossSums(Own())
    sums.add(3.0)
    sums.add(5.0)
    assert values(sums) == (8.0, 2.0)
    sums.end_epoch()
    sums.add(2.0)
    assert values(sums) == (2.0, 1.0)


@pytest.mark.parametrize("kind", [tf.Variable, keras.Variable], ids=["tensorflow", "keras"])
def test_sums_that_a_selector_estimates_take_the_place_of_keras_own(model, kind):
    total, count = kind(6.0), kind(2.0)
    sums = LossSums(model, (total, count))
    sums.add(100.0)
    assert values(sums) == (6.0, 2.0)
    sums.end_epoch()
    assert (float(total), float(count)) == (0.0, 0.0)


# Several devices, several workers.


class Mirrored:
    """A variable that stands on two devices."""

    def __init__(self, *values):
        self.values = tuple(tf.Variable(value) for value in values)

    @property
    def numbers(self):
        return [float(value) for value in self.values]


class TwoWorkers:
    """Another worker, whose losses sum to 10 over 4 examples."""

    def gather_numbers(self, numbers):
        return np.stack([numbers, [10.0, 4.0]])


def test_rates_are_assigned_on_every_device(model):
    access = ModelAccess(model, [TrainingState()])
    rates = [Mirrored(0.1, 0.1), Mirrored(0.2, 0.2)]
    access._rates = rates
    assert access.read_rates() == pytest.approx([0.1, 0.2])
    access.assign_rates(np.array([0.25, 0.5]))
    assert [rate.numbers for rate in rates] == [[0.25, 0.25], [0.5, 0.5]]


def test_losses_are_summed_over_devices(model):
    assert values(LossSums(model, (Mirrored(3.0, 5.0), Mirrored(2.0, 2.0)))) == (8.0, 4.0)


def test_losses_are_summed_over_workers(model, monkeypatch):
    monkeypatch.setattr(loss_sums, "workers_of", lambda model: TwoWorkers())
    sums = LossSums(model, (Mirrored(3.0, 5.0), Mirrored(2.0, 2.0)))
    assert values(sums) == (18.0, 8.0)
    # A checkpoint of this worker holds its own losses alone.
    assert sums.read_own().tolist() == [8.0, 4.0]


def test_sums_are_set_on_one_device_and_are_zero_on_the_others(model):
    total, count = Mirrored(3.0, 5.0), Mirrored(2.0, 2.0)
    sums = LossSums(model, (total, count))
    sums.assign(0.0, 0.0)
    assert total.numbers + count.numbers == [0.0] * 4
    sums.assign(6.0, 3.0)
    assert values(sums) == (6.0, 3.0)


def test_one_device_needs_no_mirrors(model):
    access = ModelAccess(model, [TrainingState()])
    access.assign_rates(np.array([0.25]))
    assert float(model.optimizer.learning_rate) == 0.25
    assert access.read_rates().tolist() == [0.25]


# Kernels and how they move.


def test_kernels_are_read_as_copies_that_stay(model):
    access = ModelAccess(model, [WeightStatistics()])
    (kernel,) = access.read_kernels()
    before = np.array(kernel)
    model.layers[0].kernel.assign([[7.0]])
    np.testing.assert_array_equal(np.array(kernel), before)
    assert float(access.read_kernels()[0][0, 0]) == 7.0
    assert access.num_kernels == 1


def test_nothing_is_remembered_of_kernels_whose_motion_nobody_asks_for(model):
    access = ModelAccess(model, [WeightStatistics()])
    access.motion.begin()
    assert access.motion.arrays() == []
    assert access.motion.read(3).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("few", [variables.FEW_NUMBERS, 0], ids=["on_host", "where_it_is"])
def test_motion_is_counted_from_the_last_decision_by_hand(monkeypatch, few):
    monkeypatch.setattr(variables, "FEW_NUMBERS", few)
    kernel = keras.Variable([[3.0, 0.0]])
    motion = KernelMotion([kernel])
    motion.begin()
    kernel.assign([[3.0, 4.0]])
    # ‖Δw‖² = 16, no change before, ‖w‖² = 25, ‖w - w₀‖² = 16, ‖w₀‖² = 9.
    expected = motion_numbers([16.0, 0.0, 0.0, 25.0, 16.0, 9.0], 4)
    np.testing.assert_allclose(motion.read(4), expected, rtol=1e-6)
    # A decision may roll the kernel back: the next motion counts from what it leaves.
    kernel.assign([[3.0, 0.0]])
    motion.remember()
    kernel.assign([[4.0, 1.0]])
    # Δw = (1, 1), the change before it (0, 4); w₀ stays.
    expected = motion_numbers([2.0, 4.0, 16.0, 17.0, 2.0, 9.0], 1)
    np.testing.assert_allclose(motion.read(1), expected, rtol=1e-6)


def test_motion_is_the_mean_over_kernels():
    kernels = [keras.Variable([[3.0, 0.0]]), keras.Variable([[0.0], [5.0]])]
    apart = [KernelMotion([kernel]) for kernel in kernels]
    together = KernelMotion(kernels)
    for motion in (*apart, together):
        motion.begin()
    kernels[0].assign([[3.0, 4.0]])
    kernels[1].assign([[1.0], [5.0]])
    expected = np.mean([motion.read(2) for motion in apart], axis=0)
    np.testing.assert_allclose(together.read(2), expected, rtol=1e-6)


@pytest.mark.parametrize("few", [variables.FEW_NUMBERS, 0], ids=["on_host", "where_it_is"])
def test_kept_motion_goes_on_as_if_it_had_not_been_broken_off(monkeypatch, few):
    monkeypatch.setattr(variables, "FEW_NUMBERS", few)
    kernel = keras.Variable([[3.0, 0.0]])
    one, two = KernelMotion([kernel]), KernelMotion([kernel])
    one.begin()
    kernel.assign([[3.0, 4.0]])
    one.read(2)
    one.remember()
    two.begin()
    two.restore(one.arrays())
    kernel.assign([[2.0, 5.0]])
    np.testing.assert_array_equal(one.read(3), two.read(3))


# What computes.


def test_few_numbers_in_the_hosts_memory_are_left_to_numpy():
    small, large = keras.Variable(np.zeros(9)), keras.Variable(np.zeros(variables.FEW_NUMBERS))
    assert variables.arithmetic_for([small]) is np
    assert variables.arithmetic_for([large]) is np
    assert variables.arithmetic_for([small, large]) is keras.ops


def test_numbers_on_another_device_stay_there():
    there = SimpleNamespace(shape=(2,), device="/job:localhost/replica:0/task:0/device:GPU:0")
    assert variables.arithmetic_for([keras.Variable([1.0]), there]) is keras.ops


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_an_array_is_a_copy_of_single_precision(dtype):
    variable = keras.Variable([1.5, 2.0], dtype=dtype)
    found = variables.array_of(variable)
    variable.assign([7.0, 7.0])
    assert found.dtype == np.float32
    assert found.tolist() == [1.5, 2.0]


# Snapshots.


def test_a_snapshot_is_as_large_as_weights_and_slots():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    # Eight weights and two moments of each, four bytes a number.
    assert Snapshot(model).num_bytes == 3 * 8 * 4


def test_a_snapshot_does_not_follow_the_training():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    snapshot = Snapshot(model)
    snapshot.begin()
    before = [np.array(v) for v in [*model.variables, *model.optimizer.variables]]
    x = np.random.default_rng(0).normal(size=(16, 3))
    model.fit(x, x[:, :2], verbose=0)
    steps = int(model.optimizer.iterations.value)
    snapshot.restore()
    names = [v.path for v in [*model.variables, *model.optimizer.variables]]
    after = [np.array(v) for v in [*model.variables, *model.optimizer.variables]]
    for name, old, new in zip(names, before, after, strict=True):
        if "iteration" not in name:
            np.testing.assert_array_equal(old, new, err_msg=name)
    # How many steps were taken is left as it is.
    assert int(model.optimizer.iterations.value) == steps > 0


def test_a_kept_snapshot_is_restored_in_another_process():
    models = []
    for _ in range(2):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(keras.optimizers.Adam(0.1), "mse")
        models.append(model)
    first, second = (ModelAccess(m, [TrainingDynamics()], can_step_back=True) for m in models)
    for access in (first, second):
        access.motion.begin()
        access.snapshot.begin()
    expected = [np.array(w) for w in models[0].get_weights()]
    models[0].layers[0].kernel.assign(np.full((3, 2), 9.0))
    second.restore(first.arrays())
    second.snapshot.restore()
    for old, new in zip(expected, models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
