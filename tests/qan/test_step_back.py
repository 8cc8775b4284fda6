"""What a step back does to a training, by hand and on Keras models."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_qan import QANCallback
from keras_qan.actions import Cosine, Hold, Raise, StepBack
from keras_qan.agents import ActionChoice, ConstantAgent
from keras_qan.observations import TrainingDynamics, TrainingState
from keras_qan.qan.controller import Controller
from keras_qan.qan.episode import Episode
from keras_qan.qan.fit_hooks import MAX_ROLLBACKS
from keras_qan.qan.model_access import ModelAccess
from keras_qan.qan.rewards import LogLossDrop
from keras_qan.qan.rule import DecisionContext
from keras_qan.qan.snapshot import Snapshot, _velocities

BACK, HOLD, UP = 0, 1, 2


class Plays(ConstantAgent):
    """An agent that plays a list of actions."""

    def __init__(self, *actions):
        super().__init__(0)
        self.plays = iter(actions)

    def act(self, observation, explore):
        return ActionChoice(next(self.plays), np.full(3, np.nan, np.float32), 0.0)


class Training:
    """A Keras model of one weight, one slot and one velocity, whose losses a test makes up."""

    def __init__(self, *plays, rate=1.0, schedule=None, is_limited=False):
        actions = [StepBack(0.3), Hold(), Raise(5.0)]
        self.controller = Controller(
            Plays(*plays), actions, [TrainingState()], LogLossDrop(), (1e-6, 1e3), schedule
        )
        self.controller.build(0)
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        network = keras.Sequential([keras.Input((1,)), dense])
        # Its mean of squared gradients is a slot, its momentum a velocity.
        optimizer = keras.optimizers.RMSprop(rate, momentum=0.9)
        network.compile(optimizer, "mse")
        sums = keras.Variable(0.0), keras.Variable(0.0)
        self.model = ModelAccess(network, [TrainingState()], True, sums)
        self._total, self._count = sums
        self._weight, self._slot = dense.kernel, optimizer._velocities[0]
        self.velocity = optimizer._momentums[0]
        self._rate = optimizer.learning_rate
        self.steps = 0
        if is_limited:  # as the raises of the shipped policy are
            self.model.gate = SimpleNamespace(
                begin=lambda *_: None,
                largest_factor=lambda *_: math.inf,
                is_too_low=lambda *_: False,
            )
        self.controller.begin(self.model, self.context(), explore=False)
        # When a step back is allowed is the guard's own test.
        self.controller.guard.allows = lambda *_: True
        self.controller.guard.is_above_snapshot = lambda: True

    def context(self):
        return DecisionContext(self.steps / 10, 10, num_steps=10, interval=1, taken=1)

    def step(self, loss):
        """A step that moves weight and slot to its number."""
        self.steps += 1
        self._weight.assign([[float(self.steps)]])
        self._slot.assign([[-float(self.steps)]])
        self._total.assign_add(loss)
        self._count.assign_add(1.0)
        if self.steps == 1:
            self.controller.start_from(loss)

    def decide(self, loss):
        self.step(loss)
        return self.controller.decide(self.model, self.context(), explore=False)

    def end(self):
        self.controller.keep_loss(self.model)
        self.controller.settle_weights(self.model, self.context())
        return self.controller.end(self.model, self.context(), explore=False)

    @property
    def weight(self):
        return float(self._weight[0, 0])

    @property
    def slot(self):
        return float(self._slot[0, 0])

    @property
    def rate(self):
        return float(self._rate)


def test_it_restores_weights_and_slots_of_the_lowest_loss():
    training = Training(HOLD, HOLD, HOLD, HOLD, BACK)
    for loss in (1.0, 0.4, 0.6):
        training.decide(loss)
    assert training.weight == 3.0
    training.decide(0.5)
    assert (training.weight, training.slot) == (2.0, -2.0)
    assert training.rate == pytest.approx(0.3)


def test_it_takes_the_speed_away_that_led_astray():
    training = Training(HOLD, HOLD, HOLD, BACK)
    training.velocity.assign([[7.0]])
    training.decide(1.0)
    training.decide(0.4)
    assert float(training.velocity[0, 0]) == 7.0
    training.decide(0.6)
    assert float(training.velocity[0, 0]) == 0.0


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (keras.optimizers.SGD(0.1, momentum=0.9), 2),
        (keras.optimizers.SGD(0.1), 0),
        (keras.optimizers.RMSprop(0.1, momentum=0.9), 2),
        (keras.optimizers.Adam(0.1), 0),  # its moments are means of gradients
    ],
    ids=["momentum", "sgd", "rmsprop", "adam"],
)
def test_speed_is_what_the_rate_is_a_factor_of(optimizer, expected):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer, "mse")
    snapshot = Snapshot(model)
    taken = _velocities(model)
    assert [tuple(v.shape) for v in taken] == [(3, 2), (2,)][:expected]
    assert all(v.path.endswith("_momentum") for v in taken)
    snapshot.begin()
    slots = [v for v in optimizer.variables if v.dtype == "float32" and len(v.shape)]
    for slot in slots:
        slot.assign(keras.ops.ones(slot.shape))
    snapshot.take()
    for slot in slots:
        slot.assign(keras.ops.full(slot.shape, 2.0))
    snapshot.restore()
    is_velocity = [any(slot is other for other in taken) for slot in slots]
    assert sum(is_velocity) == expected
    # A velocity is taken away, another slot is what it was.
    found = [float(keras.ops.max(slot)) for slot in slots]
    assert found == [0.0 if stops else 1.0 for stops in is_velocity]


def test_at_the_lowest_loss_it_only_lowers_the_rate():
    training = Training(HOLD, HOLD, BACK)
    training.decide(1.0)
    training.decide(0.4)
    assert training.weight == 2.0
    assert training.rate == pytest.approx(0.3)


def test_after_a_raise_the_rate_goes_back_to_the_one_that_was_good():
    training = Training(HOLD, UP, HOLD, BACK)
    training.decide(1.0)
    assert training.rate == pytest.approx(5.0)
    training.decide(1.2)
    training.decide(1.3)
    # 0.3 · 5 is above the 1.0 that led to the lowest loss.
    assert training.rate == pytest.approx(1.0)


@pytest.mark.parametrize("is_open", [True, False])
def test_a_raise_from_which_the_loss_does_not_come_back_is_taken_back(is_open):
    training = Training(HOLD, UP, HOLD, HOLD, HOLD, is_limited=True)
    training.controller.guard.allows = lambda *_: False
    training.controller.guard.is_open = is_open
    training.decide(1.0)
    weight = training.weight
    training.decide(2.1)  # above the first loss, and twice the lowest one
    training.decide(1.4)
    assert training.rate == pytest.approx(5.0)
    made = training.decide(1.4)  # the third in a row above 1.35 times the lowest loss
    assert made.has_stepped_back is is_open
    assert training.weight == (weight if is_open else 4.0)
    assert training.rate == pytest.approx(1.0 if is_open else 5.0)
    assert training.controller.guard.is_open is is_open


def test_as_long_as_noise_explains_the_losses_a_raise_stays():
    training = Training(HOLD, UP, HOLD, HOLD, HOLD, HOLD, is_limited=True)
    training.controller.guard.allows = lambda *_: False
    training.controller.guard.is_above_snapshot = lambda: False
    for loss in (1.0, 2.1, 1.4, 1.4):
        assert not training.decide(loss).has_stepped_back
    training.controller.guard.is_above_snapshot = lambda: True
    assert training.decide(1.4).has_stepped_back


@pytest.mark.parametrize(
    ("losses", "named"),
    [
        ((2.1, 1.4, 1.3), {"is_limited": True}),  # it comes back
        ((2.1, 1.3, 1.4), {"is_limited": True}),
        ((1.9, 1.9, 1.9), {"is_limited": True}),  # noise may be as large, and last as long
        ((2.1, 1.4, 1.4), {}),  # a policy without limits
    ],
)
def test_a_raise_whose_harm_does_not_last_stays(losses, named):
    training = Training(HOLD, UP, HOLD, HOLD, HOLD, **named)
    training.controller.guard.allows = lambda *_: False
    for loss in (1.0, *losses):
        made = training.decide(loss)
    assert not made.has_stepped_back
    assert training.rate == pytest.approx(5.0)


def test_where_no_rate_was_raised_a_loss_that_stays_high_is_not_its_doing():
    training = Training(HOLD, HOLD, HOLD, HOLD, HOLD, is_limited=True)
    training.controller.guard.allows = lambda *_: False
    for loss in (1.0, 2.1, 1.5, 1.4):
        assert not training.decide(loss).has_stepped_back


def test_a_checkpoint_keeps_how_long_a_raise_has_done_harm():
    first, other = Episode(np.zeros(1), num_harmed=2), Episode(np.zeros(1))
    other.restore(first.arrays())
    assert other.num_harmed == 2
    other.restore({name: a for name, a in first.arrays().items() if name != "num_harmed"})
    assert other.num_harmed == 0


def test_one_step_back_after_another_goes_on_lowering():
    training = Training(HOLD, HOLD, BACK, BACK)
    for loss in (1.0, 1.1, 1.1):
        training.decide(loss)
    assert training.rate == pytest.approx(0.09)


def test_a_copy_that_leads_to_a_jump_again_gives_way_to_the_first_weights():
    training = Training(*[HOLD] * 8)
    training.decide(1.0)
    training.decide(0.4)  # the copy is of step 2
    training.decide(9.0)
    assert training.weight == 2.0
    assert training.rate == pytest.approx(0.3)
    training.decide(9.0)
    assert (training.weight, training.slot) == (0.0, -2.0)
    assert training.rate == pytest.approx(0.09)
    # From there it goes on as from any beginning: what is better is kept.
    training.decide(0.9)
    assert training.weight == 5.0
    training.decide(9.0)
    assert training.weight == 5.0


def test_a_training_that_ends_with_a_copy_that_is_no_use_ends_with_the_first_weights():
    training = Training(*[HOLD] * 8)
    for loss in (1.0, 0.4, 9.0):
        training.decide(loss)
    training.step(9.0)
    training.end()
    assert training.weight == 0.0


@pytest.mark.parametrize("loss", [2.5, math.nan, math.inf])
def test_a_jump_of_the_loss_is_stepped_back_from_without_asking(loss):
    training = Training(HOLD, HOLD, UP)
    training.decide(1.0)
    decision = training.decide(loss)
    assert decision.action == BACK
    assert training.weight == 1.0
    assert training.rate == pytest.approx(0.3)


@pytest.mark.parametrize("loss", [math.nan, 1e12])
def test_a_loss_that_hides_all_others_does_not_stay_in_the_sums(loss):
    training = Training(HOLD, HOLD, HOLD, HOLD)
    training.decide(1.0)
    training.decide(loss)
    assert training.decide(0.25).loss == pytest.approx(0.25)


def test_a_training_that_ends_after_a_jump_ends_with_its_best_weights():
    training = Training(HOLD, HOLD, HOLD)
    training.decide(1.0)
    training.decide(0.5)
    training.step(9.0)
    training.end()
    assert training.weight == 2.0


def test_a_schedule_scales_what_the_actions_lead_to():
    training = Training(HOLD, UP, BACK, schedule=Cosine())
    shares = [0.5 * (1.0 + math.cos(math.pi * (n + 0.5) / 10)) for n in range(3)]
    assert training.rate == pytest.approx(shares[0], rel=1e-5)
    training.decide(1.0)
    assert training.rate == pytest.approx(5.0 * shares[1], rel=1e-5)
    training.decide(0.9)
    assert training.rate == pytest.approx(0.3 * 5.0 * shares[2], rel=1e-5)


# On Keras models.


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 6)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > 0).astype(np.int32)


def student(optimizer, batch_norm=False):
    keras_layers = [keras.layers.Dense(16, activation="relu")]
    if batch_norm:
        keras_layers.append(keras.layers.BatchNormalization())
    model = keras.Sequential([keras.Input((6,)), *keras_layers, keras.layers.Dense(2)])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(1e4, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(1e3),
    "adamw": lambda: keras.optimizers.AdamW(1e3),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_rate_that_is_far_too_high_is_survived(kind, batch_norm):
    callback = QANCallback(
        actions=[StepBack(0.1), Hold()],
        observations=[TrainingDynamics()],
        agent=ConstantAgent(1),
        dense_start=True,
    )
    model = student(OPTIMIZERS[kind](), batch_norm)
    x, y = data()
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[callback])
    # Held at their rates, these trainings end at thousands of times their first loss, or worse.
    assert model.evaluate(x, y, verbose=0) <= 100.0 * before
    assert all(np.isfinite(np.array(v)).all() for v in model.variables)


def test_data_that_is_no_numbers_ends_the_training_after_so_many_rescues():
    callback = QANCallback(
        actions=[StepBack(), Hold()], agent=ConstantAgent(1), observations=[TrainingState()]
    )
    x, y = data()
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    steps = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(logs))
    with pytest.warns(RuntimeWarning, match="not finite"):
        model.fit(x * np.nan, y[:, None], batch_size=4, verbose=0, callbacks=[callback, note])
    assert len(steps) == MAX_ROLLBACKS + 1


def test_without_a_step_back_among_the_actions_nothing_is_copied():
    callback = QANCallback(actions=[Hold()], agent=ConstantAgent(0), observations=[TrainingState()])
    kept = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: kept.append(callback._running.model)
    )
    x, y = data()
    student(keras.optimizers.SGD(0.1)).fit(x, y, verbose=0, callbacks=[callback, note])
    assert kept
    assert all(model.snapshot is None and model.arrays() == [] for model in kept)
