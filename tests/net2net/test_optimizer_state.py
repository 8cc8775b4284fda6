"""The optimizer goes on where it was: every slot, counter, rate and average."""

import keras
import numpy as np
import pytest
from helpers.net2net_cases import largest_difference, some_inputs

import net2net

L = keras.layers


def trained(optimizer, steps=3, **settings):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(4, "tanh", name="a"), L.BatchNormalization(), L.Dense(2)]
    )
    model.compile(optimizer, "mse", metrics=["mae"], run_eagerly=True, **settings)
    x = some_inputs(model, size=16)
    for _ in range(steps):
        model.train_on_batch(x, x[:, :2])
    return model, x


def array(value):
    return np.array(keras.ops.convert_to_numpy(value))


def shares_and_source(model, wide):
    """Read the map from the weights themselves: equal columns are copies; outgoing gives shares."""
    old, new = array(model.get_layer("a").kernel), array(wide.get_layer("a").kernel)
    source = np.array([int(np.flatnonzero((one == old.T).all(axis=1))[0]) for one in new.T])
    out_old, out_new = array(model.weights[-2]), array(wide.weights[-2])
    return (out_new / out_old[source])[:, 0], source


@pytest.mark.parametrize(
    ("make", "powers"),
    [
        (lambda: keras.optimizers.SGD(0.01, momentum=0.9), {"momentums": 1}),
        (lambda: keras.optimizers.Adam(amsgrad=True), {"_momentums": 1, "_velocities": 2,
                                                       "_velocity_hats": 2}),
        (lambda: keras.optimizers.AdamW(), {"_momentums": 1, "_velocities": 2}),
        (lambda: keras.optimizers.RMSprop(momentum=0.9, centered=True),
         {"_velocities": 2, "_momentums": 0, "_average_gradients": 1}),
        (lambda: keras.optimizers.Adagrad(), {"_accumulators": 2}),
        (lambda: keras.optimizers.Lion(), {"_momentums": 1}),
    ],
)  # fmt: skip
def test_incoming_slots_scale_by_shares_and_outgoing_ones_are_gathered(make, powers):
    model, _ = trained(make())
    wide = net2net.widen(model, "a", 7)
    share, source = shares_and_source(model, wide)
    for name, power in powers.items():
        old, new = getattr(model.optimizer, name), getattr(wide.optimizer, name)
        np.testing.assert_allclose(new[0], array(old[0])[:, source] * share**power, rtol=1e-5)
        np.testing.assert_allclose(new[1], array(old[1])[source] * share**power, rtol=1e-5)
        np.testing.assert_allclose(new[4], array(old[4])[source], rtol=1e-6)
        assert np.any(array(old[4]) != 0)


def test_step_counter_rate_metrics_and_loss_go_on():
    model, x = trained(keras.optimizers.Adam(0.003), loss_weights=[0.5])
    model.optimizer.learning_rate = 0.001
    wide = net2net.widen(model, "a", 7)
    assert int(wide.optimizer.iterations) == 3
    assert float(wide.optimizer.learning_rate) == pytest.approx(0.001)
    assert wide.optimizer is not model.optimizer
    before, after = (m.evaluate(x, x[:, :2], verbose=0) for m in (model, wide))
    np.testing.assert_allclose(before, after, rtol=1e-5)
    assert len(after) == 2


def test_a_rate_can_be_set_also_over_a_schedule():
    model, _ = trained(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9)))
    kept = net2net.widen(model, "a", 7)
    assert isinstance(kept.optimizer._learning_rate, keras.optimizers.schedules.CosineDecay)
    wide = net2net.widen(model, "a", 7, learning_rate=0.02)
    assert float(wide.optimizer.learning_rate) == pytest.approx(0.02)


def test_averaged_weights_follow_the_weights():
    model, x = trained(keras.optimizers.Adam(use_ema=True, ema_momentum=0.5))
    wide = net2net.widen(model, "a", 7)
    for one in (model, wide):
        one.optimizer.finalize_variable_values(one.trainable_variables)
    assert largest_difference(model, wide, x) <= 1e-6


def test_a_loss_scaled_optimizer_goes_on():
    inner = keras.optimizers.Adam()
    model, _ = trained(keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0))
    wide = net2net.widen(model, "a", 7)
    new = wide.optimizer
    assert float(new.dynamic_scale) == 8.0
    assert int(new.step_counter) == int(model.optimizer.step_counter) == 3
    assert int(new.inner_optimizer.iterations) == 3
    share, source = shares_and_source(model, wide)
    old = array(model.optimizer.inner_optimizer._velocities[1])
    np.testing.assert_allclose(
        new.inner_optimizer._velocities[1], old[source] * share**2, rtol=1e-5
    )


def test_an_optimizer_without_a_known_rule_starts_afresh_and_says_so():
    model, x = trained(keras.optimizers.Ftrl())
    with pytest.warns(UserWarning, match=r"slots of Ftrl"):
        wide = net2net.widen(model, "a", 7)
    assert largest_difference(model, wide, x) <= 1e-6
    wide.train_on_batch(x, x[:, :2])


def test_a_frozen_layers_slots_are_found_by_variable_not_by_place():
    model, x = trained(keras.optimizers.Adam())
    frozen = keras.models.clone_model(model)
    frozen.get_layer("a").trainable = False
    frozen.compile(keras.optimizers.Adam(), "mse", run_eagerly=True)
    frozen.train_on_batch(x, x[:, :2])
    wide = net2net.widen(frozen, "a", 7)
    assert len(wide.optimizer._momentums) == len(wide.trainable_variables) == 4
    wide.train_on_batch(x, x[:, :2])


def test_a_compiled_model_that_was_never_trained_grows_and_trains():
    model, x = trained("adam", steps=0)
    wide = net2net.widen(model, "a", 7)
    wide.train_on_batch(x, x[:, :2])
    assert int(wide.optimizer.iterations) == 1


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="needs Keras 3.15")
def test_each_of_several_optimizers_goes_on():
    chosen = keras.optimizers.OptimizerMap(keras.optimizers.Adam())
    chosen[".*a/.*"] = keras.optimizers.SGD(0.01, momentum=0.9)
    model, x = trained(keras.optimizers.MultiOptimizer(chosen))
    wide = net2net.widen(model, "a", 7)
    share, source = shares_and_source(model, wide)
    kinds = {type(one).__name__: one for one in wide.optimizer.optimizers}
    before = {type(one).__name__: one for one in model.optimizer.optimizers}
    old = array(before["SGD"].momentums[0])
    np.testing.assert_allclose(kinds["SGD"].momentums[0], old[:, source] * share, rtol=1e-5)
    old = array(before["Adam"]._velocities[2])
    np.testing.assert_allclose(kinds["Adam"]._velocities[2], old[source], rtol=1e-6)
    assert int(kinds["Adam"].iterations) == int(before["Adam"].iterations)
    wide.train_on_batch(x, x[:, :2])
    with pytest.raises(ValueError, match=r"a rate for each"):
        net2net.widen(model, "a", 7, learning_rate=0.1)
