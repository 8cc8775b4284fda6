"""The contract of every rule, checked on at least one model that uses it."""

import keras
import numpy as np
import pytest
from helpers.net2net_cases import (
    CASES,
    Case,
    double_precision,
    largest_difference,
    randomise,
    some_inputs,
)

import net2net
from net2net.graph import graph_of
from net2net.planning import find_target, planned_width
from net2net.propagate import WideningPlan
from net2net.rules import registered_rules, rule_for

DOUBLE = keras.backend.backend() == "tensorflow"
TOLERANCE = 1e-12 if DOUBLE else 1e-5


class Growth:
    """One case grown: the model before, the model after, and inputs for both."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.model = randomise(case.build())
        self.compile(self.model)
        self.before = [np.array(keras.ops.convert_to_numpy(v)) for v in self.model.weights]
        self.wide = net2net.widen(self.model, case.layer, case.units, seed=3)
        self.after = [np.array(keras.ops.convert_to_numpy(v)) for v in self.model.weights]
        self.inputs = some_inputs(self.model, case.words)

    @staticmethod
    def compile(model):
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss="mse", run_eagerly=_eager())
        model.optimizer.build(model.trainable_variables)


def _eager() -> bool:
    return keras.backend.backend() == "tensorflow"


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def growth(request):
    one_size = keras.backend.backend() == "jax" and "_dim" in CASES[request.param].layer
    if one_size and "head_dim" not in CASES[request.param].layer:
        pytest.skip("on JAX, Keras takes keys and values of one size only")
    with double_precision():
        yield Growth(CASES[request.param])


@pytest.mark.slow
def test_the_grown_model_computes_the_same_in_inference(growth):
    assert largest_difference(growth.model, growth.wide, growth.inputs) <= TOLERANCE


@pytest.mark.slow
def test_the_grown_model_computes_the_same_in_training(growth):
    assert largest_difference(growth.model, growth.wide, growth.inputs, training=True) <= TOLERANCE


def test_the_layer_has_the_width_asked_for(growth):
    graph = graph_of(growth.wide)
    target = find_target(growth.wide, growth.case.layer, graph)
    assert planned_width(WideningPlan(graph), target) == growth.case.units


def test_the_given_model_is_untouched(growth):
    assert all(np.array_equal(a, b) for a, b in zip(growth.before, growth.after, strict=True))


def test_kind_and_names_are_kept(growth):
    assert type(growth.wide) is type(growth.model)
    assert growth.wide.name == growth.model.name
    old, new = graph_of(growth.model), graph_of(growth.wide)
    assert _layer_paths(old) == _layer_paths(new)
    assert list(old.inputs.values()) == list(new.inputs.values())
    assert _weight_paths(growth.model) == _weight_paths(growth.wide)


def _weight_paths(model):
    # Keras numbers weights without a name.
    return [v.path for v in model.weights if not v.name.startswith("variable")]


def _layer_paths(graph):
    # Keras numbers the operations that make masks anew, in every model.
    return [path for path, layer in graph.layers() if isinstance(layer, keras.layers.Layer)]


def test_the_grown_model_can_be_made_again_from_its_config(growth):
    again = keras.models.clone_model(growth.wide)
    assert [v.shape for v in again.weights] == [v.shape for v in growth.wide.weights]


@pytest.mark.slow
def test_momentum_is_mapped_to_what_the_grown_model_would_have_gathered(growth):
    """With momentum from zero, one step leaves -rate · gradient in the slots.

    So the slots of a model stepped and then grown must be those of one grown and then stepped.
    """
    if not growth.case.exact_slots:
        pytest.skip("a normalisation over the channels splits the gradients of copies evenly")
    if growth.case is CASES["layer_scale"] and keras.backend.backend() == "jax":
        pytest.skip("Keras's StochasticDepth draws without a seed, which JAX refuses in training")
    stepped = keras.models.clone_model(growth.model)
    stepped.set_weights(growth.before)
    Growth.compile(stepped)
    grown_first = net2net.widen(stepped, growth.case.layer, growth.case.units, seed=3)
    targets = keras.tree.map_structure(
        lambda y: np.random.default_rng(7).normal(size=y.shape),
        [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(stepped(growth.inputs))],
    )
    targets = targets[0] if len(targets) == 1 else targets
    stepped.train_on_batch(growth.inputs, targets)
    grown_first.train_on_batch(growth.inputs, targets)
    grown_later = net2net.widen(stepped, growth.case.layer, growth.case.units, seed=3)
    assert len(grown_later.optimizer.momentums) == len(grown_later.trainable_variables)
    for one, other in zip(
        grown_later.optimizer.momentums, grown_first.optimizer.momentums, strict=True
    ):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(one),
            keras.ops.convert_to_numpy(other),
            rtol=1e-8 if DOUBLE else 1e-3,
            atol=1e-10 if DOUBLE else 1e-6,
            err_msg=one.path,
        )


@pytest.mark.slow
def test_every_registered_rule_has_a_case():
    met = set()
    for case in CASES.values():
        for _, layer in graph_of(case.build()).layers():
            met.add(type(rule_for(layer)))
    assert met >= {type(rule) for rule in registered_rules().values()}
