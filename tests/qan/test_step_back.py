"""What a step back does to a training, by hand and on Keras models."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_qan import QANCallback
from keras_qan.actions import Cosine, Hold, Raise, StepBack
from keras_qan.agents import ActionChoice, ConstantAgent
from keras_qan.observations import TrainingDynamics, TrainingState
from keras_qan.qan.callback import MAX_RESCUES
from keras_qan.qan.controller import Controller
from keras_qan.qan.model_access import FitProgress, LossSums, ModelAccess, find_student
from keras_qan.qan.rewards import LogLossDrop

BACK, HOLD, UP = 0, 1, 2


class Plays(ConstantAgent):
    """An agent that plays a list of actions."""

    def __init__(self, *actions):
        super().__init__(0)
        self.plays = actions
        self.count = tf.Variable(0)

    def act(self, observation, explore):
        number = self.count.assign_add(1) - 1
        action = tf.constant(self.plays, tf.int64)[number]
        return ActionChoice(action, self._no_values(), tf.constant(0.0))


class Training:
    """A student of one weight and one slot, whose losses a test makes up."""

    def __init__(self, *plays, rate=1.0, schedule=None):
        actions = [StepBack(0.3), Hold(), Raise(5.0)]
        self.controller = Controller(
            Plays(*plays), actions, [TrainingState()], LogLossDrop(), (1e-6, 1e3), schedule
        )
        self.controller.build(0)
        self.weight, self.slot = tf.Variable([0.0]), tf.Variable([0.0])
        saved = [self.weight, self.slot]
        self.student = ModelAccess(
            kernels=[],
            rates=[tf.Variable(rate)],
            loss_total=tf.Variable(0.0),
            loss_count=tf.Variable(0.0),
            saved=saved,
            copies=[tf.Variable([math.nan]) for _ in saved],
            initial=[tf.Variable([math.nan])],
            velocities=[tf.Variable([0.0])],
        )
        self.steps = 0
        self.controller.begin(self.student, self.moment(), explore=False)

    def moment(self):
        return FitProgress(self.steps / 10, 10, num_steps=10, interval=1, taken=1)

    def step(self, loss):
        """A step that moves weight and slot to its number."""
        self.steps += 1
        self.weight.assign([float(self.steps)])
        self.slot.assign([-float(self.steps)])
        self.student.loss_total.assign_add(loss)
        self.student.loss_count.assign_add(1.0)
        if self.steps == 1:
            self.controller.start_from(loss)

    def decide(self, loss):
        self.step(loss)
        return self.controller.decide(self.student, self.moment(), explore=False)

    @property
    def rate(self):
        return float(self.student.rates[0].numpy())


def test_it_restores_weights_and_slots_of_the_lowest_loss():
    training = Training(HOLD, HOLD, HOLD, HOLD, BACK)
    for loss in (1.0, 0.4, 0.6):
        training.decide(loss)
    assert float(training.weight[0]) == 3.0
    training.decide(0.5)
    assert (float(training.weight[0]), float(training.slot[0])) == (2.0, -2.0)
    assert training.rate == pytest.approx(0.3)


def test_it_takes_the_speed_away_that_led_astray():
    training = Training(HOLD, HOLD, HOLD, BACK)
    training.student.velocities[0].assign([7.0])
    training.decide(1.0)
    training.decide(0.4)
    assert float(training.student.velocities[0][0]) == 7.0
    training.decide(0.6)
    assert float(training.student.velocities[0][0]) == 0.0


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
    found = find_student(model, [TrainingState()], LossSums(model), can_step_back=True)
    assert [v.shape for v in found.velocities] == [[3, 2], [2]][:expected]
    taken = [v for v in optimizer.variables if _is_in(v, found.velocities)]
    assert all(v.path.endswith("_momentum") for v in taken)
    assert len(taken) == expected
    assert not any(_is_in(v, found.saved) for v in taken)


def _is_in(variable, others):
    return any(variable.value is other for other in others)


def test_at_the_lowest_loss_it_only_lowers_the_rate():
    training = Training(HOLD, HOLD, BACK)
    training.decide(1.0)
    training.decide(0.4)
    assert float(training.weight[0]) == 2.0
    assert training.rate == pytest.approx(0.3)


def test_after_a_raise_the_rate_goes_back_to_the_one_that_was_good():
    training = Training(HOLD, UP, HOLD, BACK)
    training.decide(1.0)
    assert training.rate == pytest.approx(5.0)
    training.decide(1.2)
    training.decide(1.3)
    # 0.3 · 5 is above the 1.0 that led to the lowest loss.
    assert training.rate == pytest.approx(1.0)


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
    assert float(training.weight[0]) == 2.0
    assert training.rate == pytest.approx(0.3)
    training.decide(9.0)
    assert (float(training.weight[0]), float(training.slot[0])) == (0.0, -2.0)
    assert training.rate == pytest.approx(0.09)
    # From there it goes on as from any beginning: what is better is kept.
    training.decide(0.9)
    assert float(training.weight[0]) == 5.0
    training.decide(9.0)
    assert float(training.weight[0]) == 5.0


def test_a_training_that_ends_with_a_copy_that_is_no_use_ends_with_the_first_weights():
    training = Training(*[HOLD] * 8)
    for loss in (1.0, 0.4, 9.0):
        training.decide(loss)
    training.step(9.0)
    training.controller.keep_loss(training.student)
    training.controller.end(training.student, training.moment(), explore=False)
    assert float(training.weight[0]) == 0.0


@pytest.mark.parametrize("loss", [2.5, math.nan, math.inf])
def test_a_jump_of_the_loss_is_stepped_back_from_without_asking(loss):
    training = Training(HOLD, HOLD, UP)
    training.decide(1.0)
    decision = training.decide(loss)
    assert decision.action == BACK
    assert float(training.weight[0]) == 1.0
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
    training.controller.keep_loss(training.student)
    training.controller.end(training.student, training.moment(), explore=False)
    assert float(training.weight[0]) == 2.0


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
    assert all(np.isfinite(v.numpy()).all() for v in model.variables)


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
    assert len(steps) == MAX_RESCUES + 1


def test_without_a_step_back_among_the_actions_nothing_is_copied():
    callback = QANCallback(actions=[Hold()], agent=ConstantAgent(0), observations=[TrainingState()])
    kept = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: kept.append(callback._running.student.copies)
    )
    x, y = data()
    student(keras.optimizers.SGD(0.1)).fit(x, y, verbose=0, callbacks=[callback, note])
    assert not any(kept)
