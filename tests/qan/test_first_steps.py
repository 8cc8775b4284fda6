"""A training begins again where its first steps were far too long, or far too short."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from helpers.fake_model import FakeModel

from keras_qan import QANCallback
from keras_qan.actions import Hold, StepBack
from keras_qan.agents.scripted import ConstantAgent
from keras_qan.observations import CurrentLearningRate
from keras_qan.qan import presets
from keras_qan.qan.controller import Controller
from keras_qan.qan.episode import Episode
from keras_qan.qan.first_steps import FirstSteps, factor_of_short_steps, were_far_too_long
from keras_qan.qan.rewards import LogLossDrop
from keras_qan.qan.rule import DecisionContext
from keras_qan.qan.slope_ratio import SlopeEstimate


def found(ratio, error, step):
    return SlopeEstimate(ratio, error, slope=-1.0, num_pairs=4, num_steps=5, relative_step=step)


def network(optimizer="adam"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    model.optimizer.build(model.trainable_variables)
    return model


def test_a_population_is_judged_member_by_member():
    members = [found(-0.5, 0.7, 0.25), found(-0.5, 0.7, 0.25), found(0.5, 0.2, 0.25)]
    fields = ("ratio", "error", "is_known", "relative_step")
    arrays = {name: np.array([getattr(one, name) for one in members]) for name in fields}
    together = were_far_too_long(SimpleNamespace(**arrays), np.array([0.1, -0.2, 0.1]))
    assert together.tolist() == [True, False, False]
    arrays["relative_step"] = np.array([1e-6, 1e-6, 1e-6])
    assert factor_of_short_steps(SimpleNamespace(**arrays)).tolist() == pytest.approx([1, 1, 300])


def factor(estimate, log_loss=0.0, optimizer="adam"):
    return FirstSteps(network(optimizer)).factor(estimate, log_loss)


# What counts as far too long.


@pytest.mark.parametrize(
    ("estimate", "log_loss", "expected"),
    [
        (found(-0.5, 0.7, 0.25), 0.1, True),  # nothing learned, and no slope that is clear
        (found(-0.5, 0.7, 0.25), -0.1, True),
        (found(-0.5, 0.7, 0.25), -0.2, False),  # the loss falls
        (found(-0.5, 0.2, 0.25), -0.9, True),  # but the steps end uphill
        (found(0.5, 0.2, 0.25), 0.1, False),  # the steps end downhill
        (found(math.nan, math.nan, 1.0), 2.0, True),  # too large to tell, and nothing learned
        (found(-0.5, 0.2, 0.02), 0.1, False),  # an update as long as Keras's default rates have it
        (found(-0.5, 0.2, math.nan), 2.0, False),
        (SlopeEstimate(is_measurable=False), 2.0, False),
    ],
)
def test_long_updates_that_lead_uphill_or_teach_nothing_are_far_too_long(
    estimate, log_loss, expected
):
    assert factor(estimate, log_loss) == (0.1 if expected else 1.0)


@pytest.mark.parametrize("optimizer", [keras.optimizers.RMSprop, keras.optimizers.Adagrad])
def test_where_the_first_updates_are_the_longest_they_tell_nothing(optimizer):
    assert factor(found(-0.5, 0.2, 0.25), 0.1, optimizer()) == 1.0


# What counts as far too short.


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (found(0.9, 0.1, 1e-6), 300.0),  # 3e-4 of the weights in the place of 1e-6
        (found(0.9, 0.1, 3e-9), 1e5),
        (found(0.1, 0.05, 1e-6), 300.0),  # most of the gradient is noise, and the slope is clear
        (found(0.1, 0.2, 1e-6), 1.0),
        (found(-0.5, 0.1, 1e-6), 1.0),
        (found(0.9, 0.1, 2e-5), 1.0),
        (found(0.9, 0.1, 0.0), 1.0),  # no update at all has no length to go by
        (found(math.nan, math.nan, 1e-6), 1.0),
        (found(0.9, 0.1, math.nan), 1.0),
        (SlopeEstimate(is_measurable=False), 1.0),
    ],
)
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_updates_that_are_next_to_nothing_and_lead_downhill_are_far_too_short(
    estimate, expected, optimizer
):
    assert factor(estimate, optimizer=optimizer) == pytest.approx(expected)


# What a controller does.


class Beginnings:
    """Finds a number of beginnings too high, or too low."""

    def __init__(self, times, factor):
        self.times, self._factor = times, factor

    def factor(self, found, log_loss):
        self.times -= 1
        return self._factor if self.times >= 0 else 1.0


class Window:
    """Counts how often it begins."""

    is_blind = False
    num_begun = 0

    def begin(self):
        self.num_begun += 1

    def estimate(self):
        return found(0.5, 0.1, 0.25)._replace(slope=-1e-3)

    def measure_again(self, interval, progress, changed):
        pass


class Snapshot:
    """Counts what is restored."""

    num_restored = 0

    def begin(self):
        pass

    take = forget = begin

    def restore(self):
        self.num_restored += 1

    def distance(self):
        return 0.0


def decisions(times, losses, progress=0.0, judged=True, factor=0.1):
    """Those of a controller that holds two rates, and the model, which begins `times` too high."""
    model = FakeModel([1.0, 0.5])
    model.first_steps = Beginnings(times, factor) if judged else None
    model.window, model.snapshot = Window(), Snapshot()
    controller = Controller(
        ConstantAgent(1), (StepBack(0.3), Hold()), (CurrentLearningRate(),), LogLossDrop(), (0, 9)
    )
    controller.build(0)
    context = DecisionContext(progress, 10, 100, 5, 5)
    made = [controller.begin(model, context, False)]
    for number, loss in enumerate(losses, 1):
        model.losses.add(loss, 5.0)
        at = context._replace(progress=progress + 0.05 * number)
        made.append(controller.decide(model, at, False))
    return made, model


def test_the_weights_come_back_and_the_rates_fall_to_a_tenth_as_often_as_it_takes():
    made, model = decisions(times=2, losses=[1.1, 1.05, 0.9, 0.8])
    assert [one.has_begun_again for one in made] == [False, True, True, False, False]
    assert [one.has_stepped_back for one in made] == [False, True, True, False, False]
    assert [one.rate for one in made] == pytest.approx([1.0, 0.1, 0.01, 0.01, 0.01])
    assert [one.rate_found for one in made] == pytest.approx([1.0, 1.0, 0.1, 0.01, 0.01])
    assert model.rates == pytest.approx([0.01, 0.005])
    assert model.snapshot.num_restored == 2
    assert model.window.num_begun == 3


def test_too_short_steps_stay_and_the_rates_rise_within_their_bounds():
    made, model = decisions(times=2, losses=[1.0, 1.0, 0.9], factor=6.0)
    assert [one.has_begun_again for one in made] == [False, True, True, False]
    assert not any(one.has_stepped_back for one in made)
    assert [one.rate for one in made] == pytest.approx([1.0, 6.0, 9.0, 9.0])  # 9 is the highest
    assert [one.rate_found for one in made] == pytest.approx([1.0, 1.0, 6.0, 9.0])
    assert model.rates == pytest.approx([9.0, 4.5])
    assert model.snapshot.num_restored == 0
    assert model.window.num_begun == 3


def test_a_rate_at_its_bound_does_not_begin_again():
    made, _ = decisions(times=3, losses=[1.0, 1.0, 1.0], factor=20.0)
    assert [one.has_begun_again for one in made] == [False, True, False, False]


def test_only_the_first_decision_after_a_beginning_looks_at_it():
    made, model = decisions(times=9, losses=[0.9])
    assert made[1].has_begun_again
    made, model = decisions(times=0, losses=[1.1, 1.1, 1.1])
    assert model.first_steps.times == -1
    assert model.snapshot.num_restored == 0


@pytest.mark.parametrize("named", [{"progress": 0.3}, {"judged": False}])
def test_a_training_that_goes_on_and_one_that_is_not_judged_keep_their_steps(named):
    made, model = decisions(times=9, losses=[1.1, 1.1], **named)
    assert not any(one.has_begun_again for one in made)
    assert model.rates == pytest.approx([1.0, 0.5])


def test_what_led_astray_is_forgotten():
    episode = Episode(np.zeros(1), initial_rates=np.ones(1), log_loss=0.7)
    episode.history = episode.history._replace(now=0.7, before=0.7, step_backs=3)
    for loss in (1.0, 2.0, 3.0, 4.0, 5.0):
        episode.guard.observe_step(loss)
    episode.begin_again(np.array([0.1]))
    assert episode.initial_rates == episode.kept_rates == [0.1]
    assert (float(episode.history.now), float(episode.history.step_backs)) == (0.0, 0.0)
    assert episode.log_loss == 0.0
    assert episode.guard.losses.rise(4) is None


def test_a_checkpoint_keeps_whether_a_training_is_at_its_beginning():
    first, other = (Episode(np.zeros(1), is_beginning=flag) for flag in (True, False))
    other.restore(first.arrays())
    assert other.is_beginning
    before = {name: array for name, array in first.arrays().items() if name != "is_beginning"}
    other.restore(before)
    assert not other.is_beginning


# In a `fit`.


def examples(seed):
    x = np.random.default_rng(seed).normal(size=(512, 6)).astype("float32")
    return x, (x[:, 0] * x[:, 1] > 0) + (x[:, 2] > 0)


def fit(rate, *callbacks, verbose=0):
    """The loss on other examples, and the model."""
    model = network(keras.optimizers.Adam(rate))
    model.fit(*examples(0), batch_size=16, epochs=4, verbose=verbose, callbacks=list(callbacks))
    return model.evaluate(*examples(1), verbose=0), model


@pytest.mark.slow
def test_from_a_thousand_times_the_default_rate_a_fit_ends_as_from_the_default(capsys):
    without, _ = fit(1e-3)
    callback = QANCallback()
    loss, model = fit(1.0, callback, verbose=2)
    assert "the first steps were far too long. They are taken back" in capsys.readouterr().out
    assert loss < without + 0.05
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(1.0)


@pytest.mark.slow
def test_from_a_ten_thousandth_of_the_default_rate_a_fit_ends_as_from_the_default(capsys):
    without, _ = fit(1e-3)
    loss, model = fit(1e-7, QANCallback(), verbose=2)
    printed = capsys.readouterr().out
    said = "QAN, step 5: the first steps were far too short to teach anything, and the learning"
    assert printed.count("far too short") == 1
    assert f"{said} rate rises from 1e-07 to " in printed
    assert "taken back" not in printed
    assert loss < without + 0.05
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(1e-7)


@pytest.mark.slow
def test_from_the_default_rate_nothing_begins_again(capsys):
    fit(1e-3, QANCallback(), verbose=2)
    assert "the first steps" not in capsys.readouterr().out


def without_units(explore=False):
    """A callback that holds the rate; its state has the slope ratio, and no limit is asked for."""
    callback = QANCallback(**(presets.scale_free() | {"agent": ConstantAgent(2)}))
    callback.explore = explore
    return callback


@pytest.mark.slow
@pytest.mark.parametrize("explore", [False, True])
def test_a_policy_that_sees_the_slope_ratio_begins_again_too_unless_it_learns(explore, capsys):
    fit(1.0, without_units(explore), verbose=2)
    assert ("They are taken back" in capsys.readouterr().out) is not explore


@pytest.mark.slow
def test_a_state_without_units_has_the_ratio_in_it_as_soon_as_it_is_measured():
    seen = []

    class Seeing(ConstantAgent):
        def act(self, observation, explore):
            seen.append(np.array(observation))
            return super().act(observation, explore)

    callback = QANCallback(**(presets.scale_free() | {"agent": Seeing(2)}))
    callback.explore = False
    fit(1e-3, callback)
    known = [state[0] for state in seen]
    half = [state[8] < 0.5 for state in seen]  # where the ratio is measured
    assert known == [0.0, *(float(is_early) for is_early in half[:-1])]
    assert {state.shape for state in seen} == {(27,)}


@pytest.mark.slow
@pytest.mark.parametrize("explore", [False, True])
def test_a_policy_that_sees_the_slope_ratio_raises_nothing_before_there_is_one(explore):
    raises = ConstantAgent(3)
    callback = QANCallback(**(presets.scale_free() | {"agent": raises, "schedule": None}))
    callback.explore = explore
    rates = []
    noted = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: rates.append(
            float(keras.ops.convert_to_numpy(callback.model.optimizer.learning_rate))
        )
    )
    fit(1e-5, callback, noted)
    raised = np.flatnonzero(np.diff([1e-5, *rates]) > 0.0)
    half = len(rates) / 2
    assert raised.any()
    if explore:  # an agent that learns sees the outcome of all its actions
        assert raised[0] == 0
        assert raised[-1] > half + 10
    else:
        assert raised[0] == 5
        assert raised[-1] <= half + 10  # the decision whose window began in the first half
