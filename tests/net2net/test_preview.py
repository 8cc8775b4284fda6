"""`plan` says beforehand what `grow` then does."""

import keras
import numpy as np
import pytest
from helpers.net2net_cases import CASES

import net2net

L = keras.layers


def image_model():
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, padding="same", name="c1")(inputs)
    y = L.ReLU()(L.BatchNormalization(name="bn")(x))
    y = L.Conv2D(4, 3, padding="same", name="c2", kernel_regularizer="l2")(y)
    x = L.GlobalAveragePooling2D()(L.Add()([x, y]))
    model = keras.Model(inputs, L.Dense(2, name="out")(L.Dense(6, "gelu", name="d")(x)))
    model.compile("adam", "mse")
    return model


@pytest.mark.filterwarnings("ignore:The grown model")
def test_the_plan_of_a_growth_has_the_numbers_of_the_grown_model():
    model = image_model()
    widths, deepen = {"c1": 8, "d": 9}, ["d", "c2"]
    plan = net2net.plan(model, widths, deepen)
    grown = net2net.grow(model, widths, deepen)
    assert plan.parameters == (model.count_params(), grown.count_params())
    for one, place in ((model, 0), (grown, 1)):
        one.optimizer.build(one.trainable_variables)
        slots = sum(v.shape[-1] * int(np.prod(v.shape[:-1])) for v in one.optimizer.variables
                    if len(v.shape))  # fmt: skip
        assert plan.optimizer_bytes[place] == 4 * slots
    found = {row.path: (row.width, row.why) for row in plan.layers}
    assert found == {
        "c1": ((4, 8), "asked for"),
        "bn": (None, "reads c1"),
        "c2": ((4, 8), "grows with c1"),
        "c2_deeper": ((0, 8), "new after c2, identity"),
        "d": ((6, 9), "asked for"),
        "d_deeper": ((0, 9), "new after d, residual"),
        "out": ((2, 2), "reads d"),
    }
    assert "the penalties or constraints of c2" in plan.inexact[0]
    # c1: 8 x 8 places, 3 x 3 x 3 inputs, 4 and 8 filters.
    assert plan.layers[0].multiply_adds == (64 * 27 * 4, 64 * 27 * 8)
    text = str(plan).splitlines()
    assert text[0].split() == ["layer", "width", "why", "parameters", "multiply-adds"]
    assert "grows with c1" in str(plan)
    assert "the whole model" in str(plan)


@pytest.mark.parametrize("name", CASES)
def test_every_rule_plans_the_parameters_that_the_grown_model_has(name):
    case = CASES[name]
    model = case.build()
    plan = net2net.plan(model, {case.layer: case.units})
    wide = net2net.widen(model, case.layer, case.units)
    assert plan.parameters == (model.count_params(), wide.count_params())


def test_a_plan_refuses_what_the_growth_would_refuse():
    with pytest.raises(net2net.UnsupportedLayerError, match=r"model's output 'out'"):
        net2net.plan(image_model(), {"out": 4})


def test_a_block_behind_a_shared_layer_is_counted_at_each_of_its_calls():
    inputs = keras.Input((4, 4, 2))
    head = L.Conv2D(2, 3, padding="same", activation="relu", name="head")
    parts = [L.Flatten()(head(one)) for one in (inputs, L.MaxPooling2D(2)(inputs))]
    model = keras.Model(inputs, L.Dense(1)(L.Concatenate()(parts)))
    plan = net2net.plan(model, deepen=["head"])
    # 16 and 4 places, a window of 3 x 3, two channels in and out.
    assert plan.layers[-1].multiply_adds == (0, (16 + 4) * 9 * 2 * 2)
    assert plan.multiply_adds == (720 + 40, 720 + 40 + 720)


def test_slots_of_other_types_and_of_a_models_own_weights_are_counted():
    inputs = keras.Input((3,))
    dense = L.Dense(4, name="a", dtype="float64")
    model = keras.Model(inputs, L.Dense(2, dtype="float64")(dense(inputs)))
    model.own = model.add_weight(shape=(5,), name="own", dtype="float64")
    model.compile("adam", "mse")
    # Two slots of eight bytes: (3 * 4 + 4) + (4 * 2 + 2) + 5, then with 6 units.
    assert net2net.plan(model, {"a": 6}).optimizer_bytes == (16 * 31, 16 * (24 + 14 + 5))
