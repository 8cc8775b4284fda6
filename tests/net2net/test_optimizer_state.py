"""The optimizer goes on where it was: every slot, counter, rate and average."""

import keras
import numpy as np
import pytest
from helpers.net2net_cases import largest_difference, some_inputs

import net2net
from net2net import optimizer_state

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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_nadams_running_product_goes_on():
    model, _ = trained(keras.optimizers.Nadam())
    wide = net2net.widen(model, "a", 7)
    assert float(wide.optimizer._u_product) == float(model.optimizer._u_product) < 1


@pytest.mark.slow
def test_what_has_no_weight_decay_goes_on_having_none():
    optimizer = keras.optimizers.AdamW(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    by_name, _ = trained(optimizer)
    by_object, x = trained(keras.optimizers.AdamW(weight_decay=0.1), steps=0)
    by_object.optimizer.exclude_from_weight_decay(var_list=[by_object.layers[0].kernel])
    by_object.train_on_batch(x, x[:, :2])
    for model in (by_name, by_object):
        wide = net2net.widen(model, "a", 7)
        decayed = [
            [one.optimizer._use_weight_decay(v) for v in one.trainable_variables]
            for one in (model, wide)
        ]
        assert decayed[0] == decayed[1]
        assert not all(decayed[0])


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"use_ema": True}, {}])
def test_the_average_of_an_inserted_block_starts_at_the_block(settings):
    optimizer = keras.optimizers.Adam(ema_momentum=0.5, **settings)
    model, _x = trained(optimizer if settings else keras.optimizers.ScheduleFreeAdamW())
    deep = net2net.deepen(model, "a")
    name = "_model_variables_moving_average" if settings else "_momentums"
    for place, variable in enumerate(deep.optimizer._trainable_variables):
        if "deeper" in variable.path:
            np.testing.assert_array_equal(getattr(deep.optimizer, name)[place], variable)


@pytest.mark.parametrize("grow", ["widen", "deepen"])
def test_ftrl_keeps_the_weights_that_its_slots_stand_for(grow):
    """FTRL makes the weights from its slots, so that a step without a gradient must keep them."""
    model, _x = trained(keras.optimizers.Ftrl(0.1))
    grown = net2net.widen(model, "a", 7) if grow == "widen" else net2net.deepen(model, "a")
    before = [array(v) for v in grown.trainable_variables]
    zeros = [keras.ops.zeros(v.shape) for v in grown.trainable_variables]
    grown.optimizer.apply(zeros, grown.trainable_variables)
    for one, other in zip(before, grown.trainable_variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=other.path)


@pytest.mark.slow
def test_adafactors_means_stand_for_the_grown_matrix():
    model, _ = trained(keras.optimizers.Adafactor())
    wide = net2net.widen(model, "a", 7)
    share, source = shares_and_source(model, wide)

    def matrix(one, place):
        rows, columns = array(one.optimizer._r[place]), array(one.optimizer._c[place])
        return np.outer(rows, columns) / rows.mean()

    np.testing.assert_allclose(
        matrix(wide, 0), matrix(model, 0)[:, source] * share**2, rtol=1e-4
    )  # fmt: skip
    np.testing.assert_allclose(matrix(wide, 4), matrix(model, 4)[source], rtol=1e-4)


@pytest.mark.slow
def test_muons_slots_go_on():
    model, _ = trained(keras.optimizers.Muon(0.01))
    wide = net2net.widen(model, "a", 7)
    share, source = shares_and_source(model, wide)
    old = array(model.optimizer.momentums[0])
    np.testing.assert_allclose(wide.optimizer.momentums[0], old[:, source] * share, rtol=1e-5)


class Drifting(keras.optimizers.SGD):
    """Has a slot that net2net does not know, and a counter that it can carry."""

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.drifts = self.add_optimizer_variables(variables, "drift")
            self.seen = self.add_variable((), name="seen")


def test_a_slot_that_is_not_known_is_named_until_it_is(monkeypatch):
    monkeypatch.setattr("net2net.optimizer_state._SLOTS", dict(optimizer_state._SLOTS))
    model, _ = trained(Drifting(0.01, momentum=0.9))
    model.optimizer.seen.assign(5.0)
    model.optimizer.drifts[0].assign(np.ones((6, 4)))
    with pytest.raises(net2net.UnsupportedLayerError, match=r"'drifts\[0\]' of the .*Drifting"):
        net2net.widen(model, "a", 7)
    net2net.register_slots(Drifting, {"drifts": 1})
    wide = net2net.widen(model, "a", 7)
    share, _ = shares_and_source(model, wide)
    np.testing.assert_allclose(wide.optimizer.drifts[0], np.ones((6, 1)) * share, rtol=1e-5)
    assert float(wide.optimizer.seen) == 5.0


def test_slots_are_registered_for_classes_with_known_kinds():
    with pytest.raises(TypeError, match=r"Expected an optimizer class"):
        net2net.register_slots(keras.optimizers.SGD(), {})
    with pytest.raises(ValueError, match=r"'a' of SGD was to grow as 'twice'"):
        net2net.register_slots(keras.optimizers.SGD, {"a": "twice"})


def test_slots_of_a_layer_that_was_frozen_later_come_along_or_are_named():
    model, x = trained(keras.optimizers.Adam())
    model.layers[-1].trainable = False
    if keras.backend.backend() == "jax":
        with pytest.warns(UserWarning, match=f"slots of .*{model.layers[-1].name} are left out"):
            wide = net2net.widen(model, "a", 7)
        wide.train_on_batch(x, x[:, :2])
        return
    wide = net2net.widen(model, "a", 7)
    place = wide.optimizer._get_variable_index(wide.layers[-1].bias)
    old = model.optimizer._velocities[model.optimizer._get_variable_index(model.layers[-1].bias)]
    np.testing.assert_array_equal(wide.optimizer._velocities[place], old)


def test_a_frozen_layers_slots_are_found_by_variable_not_by_place():
    model, x = trained(keras.optimizers.Adam())
    frozen = keras.models.clone_model(model)
    frozen.get_layer("a").trainable = False
    frozen.compile(keras.optimizers.Adam(), "mse", run_eagerly=True)
    frozen.train_on_batch(x, x[:, :2])
    wide = net2net.widen(frozen, "a", 7)
    assert len(wide.optimizer._momentums) == len(wide.trainable_variables) == 4
    wide.train_on_batch(x, x[:, :2])


def test_a_block_after_a_frozen_layer_starts_with_second_moments_of_a_trained_one():
    model, x = trained(keras.optimizers.Adam(), steps=0)
    model.layers[0].trainable = False
    model.compile(keras.optimizers.Adam(), "mse", run_eagerly=True)
    model.train_on_batch(x, x[:, :2])
    deep = net2net.deepen(model, "a")
    (place,) = (
        k
        for k, v in enumerate(deep.trainable_variables)
        if v.path.endswith("a_deeper_inner/kernel")
    )
    expected = array(model.optimizer._velocities[0]).mean()
    np.testing.assert_allclose(deep.optimizer._velocities[place], expected, rtol=1e-5)


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
