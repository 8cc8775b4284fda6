"""Members of a population against Keras's own training of the same networks.

What a decision does is one rule for both (`qan.rule`); what they do not share, and what is compared
here, is all around it: the training itself, the losses that are counted, how weights move, and what
a step back restores.
"""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qan import Policy, QANCallback
from keras_qan.observations import SlopeObservation
from keras_qan.pretraining import batched_sequences
from keras_qan.pretraining.batched_control import ActionChooser, BatchedController, Rollout, branch
from keras_qan.pretraining.batched_network import BatchedNetwork
from keras_qan.pretraining.batched_slope import estimate, no_steps
from keras_qan.pretraining.batched_training import BatchedOptimizers, Population
from keras_qan.pretraining.policy_iteration import no_override
from keras_qan.pretraining.tasks import CHAIN_SYMBOLS, TaskTemplate
from keras_qan.qan import presets
from keras_qan.qan.config import CallbackConfig
from keras_qan.qan.decision_schedule import dense_decisions
from keras_qan.qan.descent_check import DescentCheck
from keras_qan.qan.fit_hooks import FitHooks
from keras_qan.qan.slope_ratio import SlopeMeter, estimate_of
from keras_qan.qan.step_back_guard import StepBackGuard

# Each population is compiled as one program.
pytestmark = pytest.mark.slow

NUM_STEPS, SEED = 40, 5

#: Steps of a training of some twenty decisions, each of five steps or more.
LONGER = 120

SGD, ADAM, ADAMW = (0.0, 0.9, 0.0, 0.0, 0.0), (1.0, 0.9, 0.0, 0.0, 0.0), (1.0, 0.9, 0.05, 0.0, 0.0)
RMSPROP, LION = (1.0, 0.0, 0.0, 1.0, 0.0), (1.0, 0.9, 0.0, 0.0, 1.0)


def template(source="clusters", **other):
    values = {"num_features": 6, "num_outputs": 3, "hidden": (8, 5), "batch_size": 8}
    if source == "digits":
        values |= {"num_features": 64, "num_outputs": 10}
    if source == "chains":
        values |= {"num_features": 80, "num_outputs": 10, "hidden": (7,), "kind": "lstm"}
    return TaskTemplate(source, **(values | {"num_train": 64, "num_validation": 32} | other))


def optimizers(kind, size):
    return BatchedOptimizers(*(tf.fill([size], value) for value in kind))


def advance(population, data, weights, kind, rates, num_steps=NUM_STEPS):
    """The result of whole trainings, all of whose steps are measured."""
    return population.advance(
        data, weights, optimizers(kind, population.size), rates, SEED, 0, num_steps,
        measured=no_steps(weights.trainable),
    )  # fmt: skip


def gelu(x):
    return keras.activations.gelu(x, approximate=True)


class Places(keras.layers.Layer):
    """Adds a learned vector for each place."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], name="table")

    def call(self, x):
        return x + self.table


def keras_transformer(x, width, inner):
    """A decoder whose blocks are normalised before each part."""
    x = Places()(keras.layers.Dense(width)(x))
    for units in inner:
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.MultiHeadAttention(1, width)(y, y, use_causal_mask=True)
        y = keras.layers.Dense(units, activation=gelu)(keras.layers.LayerNormalization()(x))
        x = x + keras.layers.Dense(width)(y)
    return keras.layers.LayerNormalization()(x)


def keras_over_sequences(x, task):
    if task.kind == "transformer":
        return keras_transformer(x, task.hidden[0], task.hidden[1:])
    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[task.kind]
    return layer(*task.hidden, return_sequences=True)(x)


def keras_twin(population, weights, task, member, kind, rate):
    """The Keras model that a member of the population is."""
    inputs = x = keras.Input(input_shape(task))
    is_over_sequences = task.kind in batched_sequences.KINDS
    if is_over_sequences:
        x = keras_over_sequences(x, task)
    for number, units in enumerate(() if is_over_sequences else task.hidden):
        if task.kind == "convolutions":
            x = keras.layers.Conv2D(units, 3, 2, "same", name=f"kernel_{number}")(x)
        else:
            x = keras.layers.Dense(units, name=f"kernel_{number}")(x)
        if task.norm == "batch":
            x = keras.layers.BatchNormalization(name=f"norm_{number}")(x)
        if task.norm == "layer":
            x = keras.layers.LayerNormalization(name=f"norm_{number}")(x)
        x = keras.layers.Activation(gelu if task.activation == "gelu" else task.activation)(x)
    if task.kind == "convolutions":
        x = keras.layers.Flatten()(x)
    outputs = keras.layers.Dense(task.num_outputs, name="head")(x)
    model = keras.Model(inputs, outputs)
    values = [v[member].numpy() for v in weights.trainable]
    if task.kind == "lstm":  # Keras has inputs and state apart, and 1 in the bias of "stays"
        kernel, bias, *head = values
        ones = np.repeat([0.0, 1.0, 0.0, 0.0], len(kernel[0]) // 4)
        values = [kernel[:CHAIN_SYMBOLS], kernel[CHAIN_SYMBOLS:], bias + ones, *head]
    if task.kind == "gru":  # Keras has the biases of inputs and state in one
        kernel, recurrent, *biases, head, head_bias = values
        values = [kernel, recurrent, np.stack(biases), head, head_bias]
    for variable in model.trainable_variables:
        variable.assign(np.reshape(values.pop(0), variable.shape))
    adaptive, momentum, decay, is_rmsprop, is_lion = kind
    optimizer = keras.optimizers.SGD(rate, momentum=momentum)
    if is_rmsprop:
        optimizer = keras.optimizers.RMSprop(rate)
    elif is_lion:
        optimizer = keras.optimizers.Lion(rate)
    elif adaptive:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=decay)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, keras.losses.MeanSquaredError() if task.is_regression else loss)
    return model


def input_shape(task):
    """The shape of one example for Keras."""
    length = task.num_features // CHAIN_SYMBOLS
    if task.kind in batched_sequences.KINDS:
        return (length, CHAIN_SYMBOLS)
    return (8, 8, 1) if task.kind == "convolutions" else (task.num_features,)


def batches(population, data, task, member, num_steps=NUM_STEPS):
    """The batches that the population's member sees, in its own drawing of them."""
    group = member // population.members
    x, y = data.x[group].numpy(), data.y[group].numpy()
    rows = [
        tf.random.stateless_uniform(
            [population.num_tasks, task.batch_size], [SEED, step], 0, task.num_train, tf.int32
        )[group].numpy()
        for step in range(num_steps)
    ]
    x = x.reshape(-1, *input_shape(task))
    return tf.data.Dataset.from_tensor_slices((x[np.array(rows)], y[np.array(rows)]))


CASES = {
    "sgd": (template(), SGD, 0.05),
    "adam": (template(activation="tanh"), ADAM, 0.01),
    "adamw, regression": (template("regression", activation="gelu"), ADAMW, 0.01),
    "batch norm": (template("teacher", norm="batch"), SGD, 0.05),
    "convolutions": (template("digits", kind="convolutions", hidden=(2, 3)), ADAM, 0.01),
    "layer norm, rmsprop": (template("teacher", norm="layer", activation="tanh"), RMSPROP, 0.003),
    "lstm, lion": (template("chains"), LION, 0.003),
    "gru, rmsprop": (template("chains", kind="gru"), RMSPROP, 0.003),
    "transformer, adamw": (
        template("chains", kind="transformer", hidden=(6, 9, 7)),
        ADAMW,
        0.01,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_member_of_a_population_trains_as_keras_trains_it(case):
    task, kind, rate = CASES[case]
    population = Population(task, num_tasks=2, members=2)
    data, weights = population.draw_tasks(SEED)
    member = 3
    model = keras_twin(population, weights, task, member, kind, rate)
    after, first, rest, measured = advance(population, data, weights, kind, tf.fill([4], rate))
    meter = MeasuringEveryStep()
    history = model.fit(
        batches(population, data, task, member), shuffle=False, verbose=0, callbacks=[meter]
    )
    mean = (float(first[member]) + (NUM_STEPS - 1) * float(rest[member])) / NUM_STEPS
    assert mean == pytest.approx(history.history["loss"][0], rel=1e-3)
    found, ours = meter.rows, measured.sums[member].numpy()
    pairs = np.array([(s[0], e[1]) for s, e in itertools.pairwise(found)])
    assert ours[0] == len(pairs) == NUM_STEPS - 1
    assert ours[1:3] == pytest.approx(pairs.sum(axis=0), rel=2e-2, abs=1e-4)
    slope = estimate(measured, np.zeros(4))
    expected = estimate_of(np.array(found))
    assert slope.ratio[member] == pytest.approx(expected.ratio, abs=0.02)
    assert slope.error[member] == pytest.approx(expected.error, rel=0.05)
    validation_x = data.validation_x[1].numpy().reshape(-1, *input_shape(task))
    expected = model.evaluate(validation_x, data.validation_y[1].numpy(), verbose=0)
    assert population.validate(data, after)[member] == pytest.approx(expected, rel=2e-3)


class MeasuringEveryStep(keras.callbacks.Callback):
    """Keeps the rows of a slope meter, of all steps."""

    def on_train_begin(self, logs=None):
        self.meter, self.rows = SlopeMeter(self.model), []
        self.model.optimizer.build(self.model.trainable_variables)
        self.meter.open()
        self.meter.begin()

    def on_train_batch_end(self, batch, logs=None):
        self.meter.add_step()
        self.rows.append(np.array(self.meter._rows[-1]))


def test_the_ratio_is_measured_where_an_observation_asks_for_it_alone():
    settings = presets.transfer()
    population = Population(template(), num_tasks=1, members=1)
    data, weights = population.draw_tasks(SEED)
    named = settings["actions"], settings["rate_bounds"]
    plain = BatchedController(population, *named, settings["observations"])
    assert plain.initial_state(weights, np.array([0.1])).measured is None
    assert controlled_population().initial_state(weights, np.array([0.1])).measured is not None
    rule = BatchedController(population, *named, (SlopeObservation(),))
    state = rule.initial_state(weights, np.array([0.1]))
    with pytest.raises(ValueError, match="not in a population"):
        rule.observe(state, Rollout(data, optimizers(SGD, 1), NUM_STEPS, SEED), 0)


def test_dropout_leaves_out_a_share_and_the_same_units_for_all_members_of_a_task():
    task = template(hidden=(400,), dropout=0.25)
    network = BatchedNetwork(task)
    masks = [network._mask((6, 8, 400), tf.constant([SEED, step]), 3).numpy() for step in (1, 2)]
    np.testing.assert_allclose(np.unique(masks[0]), [0.0, 4.0 / 3.0])
    assert masks[0].mean() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_array_equal(masks[0][0], masks[0][2])
    assert not np.array_equal(masks[0][2], masks[0][3])
    assert not np.array_equal(masks[0], masks[1])
    data, weights = Population(task, 2, 3).draw_tasks(SEED)
    outputs = [network(weights.trainable, [], data.x[:1, :8].numpy().repeat(6, 0))[0] for _ in "ab"]
    np.testing.assert_array_equal(*outputs)  # none is left out where nothing is learned


@functools.cache
def controlled_population():
    """A population of one training with the shipped settings, compiled once for all tests."""
    settings = presets.scale_free()
    return BatchedController(
        Population(template(), num_tasks=1, members=1), settings["actions"],
        settings["rate_bounds"], settings["observations"], settings["schedule"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rate", "reports"), [(0.003, 5), (0.05, 5), (0.05, 0), (2.0, 5), (2e-5, 5)]
)
def test_the_callback_controls_a_keras_model_as_the_population_is_controlled(
    rate, reports, monkeypatch
):
    """Same states, same actions, same rates: a policy learned in the one holds in the other."""
    # The limits of step backs and of rates are the callback's alone.
    monkeypatch.setattr(StepBackGuard, "allows", lambda *_: True)
    monkeypatch.setattr(StepBackGuard, "is_too_late", lambda *_: False)
    monkeypatch.setattr(DescentCheck, "contradicts", lambda *_: False)
    monkeypatch.setattr(FitHooks, "_has_few_batches", lambda *_: False)
    task, controller = template(), controlled_population()
    population = controller.population
    data, weights = population.draw_tasks(SEED)
    settings = presets.scale_free()
    agent = settings["agent"]
    size = sum(part.size(2) for part in settings["observations"])
    agent.build(size, len(settings["actions"]))
    # Parameters with which every action is taken now and then.
    rng = np.random.default_rng(6)
    parameters = {n: v + 0.3 * rng.normal(size=v.shape) for n, v in agent.parameters().items()}
    parameters["normaliser/count"] = np.float32(100.0)
    parameters["normaliser/squares"] = np.full(size, 400.0, np.float32)
    agent.adopt(parameters)
    episodes = controller.run(
        (data, weights), optimizers(SGD, 1), np.array([rate]), LONGER, SEED,
        ActionChooser(agent.action_scores, no_override(1)), reports,
    )  # fmt: skip
    rows = episodes.decisions
    assert len(set(rows.actions[:, 0])) > 1

    model = keras_twin(population, weights, task, 0, SGD, rate)
    policy = Policy(CallbackConfig(**presets.scale_free()), parameters, {})
    callback = QANCallback(policy=policy)
    states, rates, decisions, first_losses = [], [], [], []
    record = callback.state.record_decision

    def note(decision, number, step, greedy):
        decisions.append(decision)
        record(decision, number=number, step=step, greedy=greedy)

    callback.state.record_decision = note

    class Note(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(model.optimizer.learning_rate))
            states.append(callback.state.controller._episode.observation)
            first_losses.append(callback._running.first_loss)

    validation = (data.validation_x[0].numpy(), data.validation_y[0].numpy())
    epochs = {"epochs": reports, "steps_per_epoch": LONGER // reports} if reports else {}
    model.fit(
        batches(population, data, task, 0, LONGER), shuffle=False, verbose=0,
        callbacks=[callback, Note()], validation_data=validation if reports else None, **epochs,
    )  # fmt: skip
    at = dense_decisions(LONGER, 5)
    middles = (np.array(at) + np.array([*at[1:], LONGER])) / 2 / LONGER
    shares = np.minimum(1.0, 2.0 * (1.0 - middles))
    np.testing.assert_allclose(np.array(rates)[at], rows.rates[:, 0] * shares, rtol=1e-3)
    np.testing.assert_allclose(np.array(states)[at], rows.states[:, 0], rtol=2e-2, atol=2e-2)
    assert [decision.action for decision in decisions] == rows.actions[:, 0].tolist()
    # A step back sets the loss that the population notes to the lowest; else it is the interval's.
    steps_back = [settings["actions"][action].steps_back for action in rows.actions[:, 0]]
    for decision, noted, is_back in list(
        zip(decisions, rows.losses[:, 0], steps_back, strict=True)
    )[1:]:
        if not is_back and not decision.has_begun_again:  # where nothing is noted
            expected = np.clip(np.log(decision.loss / first_losses[-1]), -25.0, 2.0)
            assert noted == pytest.approx(expected, abs=2e-2)
    # Updates are 2 of the weights, or 5e-6 of them.
    assert any(decision.has_begun_again for decision in decisions) is (rate > 1.0 or rate < 1e-4)
    # What diverges at its end is rolled back by the callback alone.
    if rate < 1.0:
        final = model.evaluate(*validation, verbose=0)
        assert episodes.scores[0] == pytest.approx(np.log(final / first_losses[-1]), abs=1e-2)


def test_where_the_ratio_is_not_known_a_population_raises_nothing():
    controller = controlled_population()
    data, weights = controller.population.draw_tasks(SEED)
    up = ActionChooser(
        lambda states: np.tile([0.0, 1.0, 2.0, 3.0, 4.0], (len(states), 1)), no_override(1)
    )
    episodes = controller.run(
        (data, weights), optimizers(SGD, 1), np.array([1e-3]), LONGER, SEED, up
    )
    actions = episodes.decisions.actions[:, 0]
    at = np.array(dense_decisions(LONGER, 5))
    is_raised = actions >= 3
    assert not is_raised[0]
    assert actions[0] == 2  # the one of the next highest value
    assert is_raised[1:6].all()
    # Nothing is measured in the half that follows.
    assert not is_raised[at > LONGER / 2 + 10].any()


def test_members_of_a_task_are_the_same_training_until_their_rates_differ():
    population = Population(template(), num_tasks=2, members=3)
    data, weights = population.draw_tasks(SEED)
    rates = tf.constant([0.1] * 3 + [0.1, 0.1, 0.2])
    after, *_ = advance(population, data, weights, SGD, rates, num_steps=5)
    kernel = after.trainable[0].numpy()
    np.testing.assert_array_equal(kernel[0], kernel[2])
    np.testing.assert_array_equal(kernel[3], kernel[4])
    assert not np.allclose(kernel[4], kernel[5])
    assert not np.allclose(kernel[0], kernel[3])


def test_a_branched_training_goes_on_as_the_unbroken_one():
    task = template()
    settings = presets.scale_free()
    hold = 2

    def play(members, first, last, state, rollout, controller):
        chooser = ActionChooser(
            lambda s: np.zeros([len(s), 5]), lambda n: np.full(2 * members, hold)
        )
        return controller.train(state, rollout, chooser, first, last)[0]

    alone, many = (
        BatchedController(
            Population(task, 2, members),
            settings["actions"],
            (1e-7, 10.0),
            settings["observations"],
        )
        for members in (1, 3)
    )
    data, weights = alone.population.draw_tasks(SEED)
    rollout = Rollout(data, optimizers(SGD, 2), NUM_STEPS, SEED)
    wide = Rollout(data, optimizers(SGD, 6), NUM_STEPS, SEED)
    count = len(rollout.decisions)
    begin = alone.initial_state(weights, np.array([0.1, 0.02]))
    unbroken = play(1, 0, count, begin, rollout, alone)
    half = play(1, 0, 4, begin, rollout, alone)
    branched = play(3, 4, count, branch(half, 3), wide, many)
    expected = np.repeat(alone.scores(rollout, unbroken), 3)
    np.testing.assert_allclose(many.scores(wide, branched), expected, rtol=1e-3)
