"""Above the compiled rate a policy raises only where the slope ratio allows."""

import math

import keras
import numpy as np
import pytest
from helpers.fake_model import FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_qan import QANCallback
from keras_qan.actions import ActionSet, Cosine, Decay, Hold, LinearFall, Raise, StepBack
from keras_qan.agents import ActionChoice
from keras_qan.agents.scripted import ScriptedAgent
from keras_qan.observations import CurrentLearningRate
from keras_qan.qan.controller import Controller
from keras_qan.qan.episode import Episode
from keras_qan.qan.policy import Policy, shipped
from keras_qan.qan.raise_gate import CAREFUL_FACTOR, RaiseGate
from keras_qan.qan.rewards import LogLossDrop
from keras_qan.qan.rule import DecisionContext
from keras_qan.qan.slope_ratio import SlopeEstimate
from keras_qan.qan.slope_window import SlopeWindow
from keras_qan.utils.backend import backend_name


def found(ratio, error, pairs=9):
    return SlopeEstimate(ratio, error, slope=-1.0, num_pairs=pairs, num_steps=pairs + 1)


def network(optimizer="adam", width=8, **named):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(width, activation="tanh"), keras.layers.Dense(1)]
    )
    model.compile(optimizer, "mse", **named)
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture
def gate(model):
    gate = RaiseGate(model)
    gate.begin(0.0)
    return gate


# What it says.


def test_while_every_estimate_is_clearly_above_zero_nothing_is_limited(gate):
    assert [gate.largest_factor(found(q, 0.1), 0.1) for q in (0.8, 0.5, 0.4)] == [math.inf] * 3


def test_after_one_that_was_not_only_a_small_raise_that_is_beyond_doubt_is_left(gate):
    assert gate.largest_factor(found(0.05, 0.1), 0.05) == 1.0
    # One standard error is not enough any more; two are, of seven pairs of steps or more.
    assert gate.largest_factor(found(0.15, 0.1), 0.1) == 1.0
    assert gate.largest_factor(found(0.25, 0.1), 0.15) == CAREFUL_FACTOR
    assert gate.largest_factor(found(0.25, 0.1, pairs=4), 0.15) == 1.0


def test_an_estimate_with_a_large_error_raises_nothing_and_the_next_one_counts(gate):
    assert gate.largest_factor(found(0.38, 0.42), 0.02) == 1.0
    assert gate.largest_factor(found(0.41, 0.27), 0.03) == math.inf


def test_a_rate_that_is_nearly_right_is_raised_with_care(gate):
    assert gate.largest_factor(found(0.16, 0.07), 0.01) == CAREFUL_FACTOR
    # That was no sign of a limit: a rate that is far too low is still raised at once.
    assert gate.largest_factor(found(0.41, 0.07), 0.01) == math.inf


@pytest.mark.parametrize(
    ("optimizer", "largest"),
    [
        (keras.optimizers.SGD(), math.inf),
        (keras.optimizers.SGD(momentum=0.9), CAREFUL_FACTOR),
        (keras.optimizers.RMSprop(), math.inf),
        (keras.optimizers.RMSprop(momentum=0.9), CAREFUL_FACTOR),
        (keras.optimizers.Adagrad(), math.inf),
        (keras.optimizers.Adam(beta_1=0.0), math.inf),
        (keras.optimizers.Nadam(), CAREFUL_FACTOR),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_without_momentum_a_low_ratio_says_nothing_of_the_rate(optimizer, largest):
    gate = RaiseGate(network(optimizer))
    gate.begin(0.0)
    assert gate.largest_factor(found(0.16, 0.07), 0.01) == largest


@pytest.mark.parametrize(
    ("optimizer", "largest"),
    [
        (keras.optimizers.SGD(), CAREFUL_FACTOR),
        (keras.optimizers.RMSprop(), CAREFUL_FACTOR),
        (keras.optimizers.Adam(), 1.0),
        (keras.optimizers.SGD(momentum=0.9), 1.0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_without_momentum_a_ratio_below_zero_leaves_a_small_raise(optimizer, largest):
    gate = RaiseGate(network(optimizer))
    gate.begin(0.0)
    # Minus half of the highest ratio is -0.5; with its error this one is above it.
    seen = found(-0.3, 0.1)._replace(highest=1.0)
    assert gate.largest_factor(seen, 0.1) == largest
    assert gate.largest_factor(seen._replace(ratio=-0.45), 0.1) == 1.0
    assert gate.largest_factor(seen._replace(highest=0.3), 0.1) == 1.0
    assert gate.largest_factor(seen._replace(num_pairs=6), 0.1) == 1.0
    assert gate.largest_factor(seen, 0.5) == 1.0
    gate.begin(0.0, has_few_batches=True)
    assert gate.largest_factor(seen, 0.1) == 1.0


def test_without_momentum_a_lowest_ratio_is_reckoned_with_before_any_is_known():
    gate = RaiseGate(network(keras.optimizers.SGD()))
    gate.begin(0.0)
    assert gate.largest_factor(found(-0.02, 0.02), 0.1) == CAREFUL_FACTOR
    assert gate.largest_factor(found(-0.04, 0.02), 0.1) == 1.0


def test_lion_is_raised_to_where_an_update_is_a_hundredth_of_the_weights():
    gate = RaiseGate(network(keras.optimizers.Lion(1e-3)))
    gate.begin(0.0)
    steps = {0.0001: 100.0, 0.008: 1.25, 0.01: 1.0, 0.05: 1.0}
    for step, largest in steps.items():
        seen = found(0.9, 0.1)._replace(relative_step=step)
        assert gate.largest_factor(seen, 0.1) == pytest.approx(largest)
    # Where nothing can be measured, as with several steps in a call, it is not raised either.
    assert gate.largest_factor(SlopeEstimate(is_measurable=False), 0.1) == 1.0


@pytest.mark.parametrize(
    "unknown",
    [SlopeEstimate(), found(0.9, math.nan), found(0.9, 0.1)._replace(slope=1.0)],
    ids=["no steps", "no error", "uphill"],
)
def test_where_the_ratio_is_not_known_the_rate_stays_and_the_next_estimate_counts(gate, unknown):
    assert gate.largest_factor(unknown, 0.0) == 1.0
    assert gate.largest_factor(found(0.9, 0.1), 0.1) == math.inf


def test_in_the_second_half_of_a_training_no_raise_leads_above_the_compiled_rate(gate):
    assert gate.largest_factor(found(0.9, 0.1), 0.49) == math.inf
    assert gate.largest_factor(found(0.9, 0.1), 0.5) == 1.0


def test_a_training_that_goes_on_is_raised_with_care_from_its_first_decision(model):
    gate = RaiseGate(model)
    gate.begin(0.3)
    assert gate.largest_factor(found(0.9, 0.1), 0.3) == CAREFUL_FACTOR


def test_where_no_gradient_comes_back_nothing_is_limited(gate):
    window = SlopeWindow(network("ftrl"))
    assert not window.is_blind
    window.begin()
    assert window.is_blind
    assert gate.largest_factor(window.estimate(), 0.0) == math.inf


def test_what_it_has_seen_outlives_a_checkpoint(gate, model):
    gate.largest_factor(found(0.0, 0.1), 0.1)
    after = RaiseGate(model)
    after.begin(0.0)
    after.restore(gate.arrays())
    assert after.largest_factor(found(0.9, 0.1), 0.2) == CAREFUL_FACTOR


estimates = st.builds(
    found, st.floats(-2, 2, width=32), st.floats(0, 2, width=32), st.integers(3, 31)
)


@settings(max_examples=30)
@given(st.lists(estimates, min_size=1, max_size=12))
def test_once_limited_it_is_never_unlimited_again_and_a_falling_end_is_never_raised(model, seen):
    gate = RaiseGate(model)
    gate.begin(0.0)
    factors = [gate.largest_factor(one, 0.2) for one in seen]
    assert set(factors) <= {1.0, CAREFUL_FACTOR, math.inf}
    is_plain = [one.ratio <= one.error <= 0.25 for one in seen]
    first = is_plain.index(True) if any(is_plain) else len(seen)
    assert max(factors[first:], default=0.0) < math.inf
    assert all(f == 1.0 for f, one in zip(factors, seen, strict=True) if one.ratio <= one.error)


def test_a_rate_is_too_low_where_the_ratio_is_above_zero_beyond_doubt(gate):
    assert gate.is_too_low(found(0.25, 0.1, pairs=7), 0.1)
    assert not gate.is_too_low(found(0.15, 0.1, pairs=7), 0.1)
    assert not gate.is_too_low(found(0.25, 0.1, pairs=6), 0.1)
    assert not gate.is_too_low(found(0.25, 0.1), 0.5)
    assert not gate.is_too_low(found(0.25, math.nan), 0.1)
    assert not gate.is_too_low(SlopeEstimate(is_measurable=False), 0.1)
    assert not RaiseGate(network(keras.optimizers.SGD())).is_too_low(found(0.25, 0.1), 0.1)


# What becomes of an action.


class Wish(ScriptedAgent):
    """Wishes one action, and values the others in the order of their places."""

    def __init__(self, action):
        super().__init__()
        self.action = action
        self.begun = 0

    def begin(self):
        self.begun += 1

    def act(self, observation, explore):
        values = np.arange(self._num_actions, dtype=np.float32)
        values[self.action] = 99.0
        return ActionChoice(self.action, values, 0.0)

    def arrays(self):
        return {}

    def restore(self, arrays):
        pass


class FakeGate:
    """Allows one factor; and the window that it looks at."""

    is_blind = False
    too_low = False

    def __init__(self, largest):
        self.largest = largest

    def begin(self, progress=0.0, has_few_batches=False):
        self.has_few_batches = has_few_batches

    def estimate(self):
        return found(0.5, 0.1)._replace(slope=-1e-3)  # of a loss that hardly falls

    def largest_factor(self, found, progress):
        return self.largest

    def is_too_low(self, found, progress):
        return self.too_low

    def measure_again(self, interval, progress, changed):
        pass


ACTIONS = (StepBack(0.3), Decay(0.5), Hold(), Raise(1.6), Raise(5.0))


def rate_after(wish, largest, rate=1.0, compiled=1.0, may_raise=True, too_low=False):
    """The rate that a second decision leads to, where the first one found the compiled rate."""
    model = FakeModel([compiled])
    model.window = model.gate = FakeGate(1.0)
    agent = Wish(2)
    controller = Controller(agent, ACTIONS, (CurrentLearningRate(),), LogLossDrop(), (1e-9, 1e9))
    controller.build(0)
    context = DecisionContext(0.0, 10, 100, 10, 10)
    controller.begin(model, context, False, may_raise=may_raise)
    if model.gate is not None:
        model.gate.largest, model.gate.too_low = largest, too_low
    model.rates[:] = rate
    agent.action = wish
    model.losses.add(0.9, 1.0)
    return controller.decide(model, context._replace(progress=0.1), False).rate


@pytest.mark.parametrize(
    ("wish", "largest", "expected"),
    [(4, math.inf, 5.0), (4, 1.6, 1.6), (4, 1.0, 1.0), (3, 1.0, 1.0), (3, 1.6, 1.6), (1, 1.0, 0.5)],
)
def test_a_raise_too_far_gives_way_to_the_best_action_within_the_limit(wish, largest, expected):
    assert rate_after(wish, largest) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wish", "largest", "expected"),
    [(2, 1.6, 1.6), (2, math.inf, 1.6), (2, 1.5, 1.0), (1, 1.6, 0.5), (4, math.inf, 5.0)],
)
def test_a_rate_that_is_too_low_is_raised_by_the_least_raise_and_not_held(wish, largest, expected):
    assert rate_after(wish, largest, too_low=True) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("now", "best", "few", "expected"),
    [
        (-0.5, -0.5, False, True),
        (-0.4, -0.5, False, False),  # the loss has been lower
        (-1.1, -1.1, False, False),  # a third of the first one: it has learned
        (-0.5, -0.5, True, False),
    ],
)
def test_a_rate_is_held_all_the_same_where_a_raise_may_do_harm(now, best, few, expected):
    episode = Episode(np.zeros(1), has_few_batches=few)
    episode.history = episode.history._replace(now=now, best=best)
    assert episode.may_not_hold is expected


def test_rounding_is_no_raise_too_far():
    assert 0.1 * 1.6 / 0.1 > 1.6
    assert rate_after(3, 1.6, rate=0.1, compiled=0.1) == pytest.approx(0.16)


def rate_of_first_decision(progress, is_blind):
    """The rate that the first decision of a training from 2.0 leads to, under the line."""
    model = FakeModel([2.0])
    model.window = model.gate = FakeGate(1.0)
    model.window.is_blind = is_blind
    controller = Controller(
        Wish(2), ACTIONS, (CurrentLearningRate(),), LogLossDrop(), (1e-9, 1e9), LinearFall(0.5)
    )
    controller.build(0)
    return controller.begin(model, DecisionContext(progress, 10, 100, 10, 10), False).rate


def test_where_raises_cannot_be_limited_the_rate_falls_from_the_first_step():
    of_the_middle = 0.5 + 0.5 * math.cos(0.05 * math.pi)
    assert rate_of_first_decision(0.0, is_blind=False) == pytest.approx(2.0)
    assert rate_of_first_decision(0.0, is_blind=True) == pytest.approx(2.0 * of_the_middle)


def test_a_training_that_goes_on_where_nothing_is_limited_has_that_share_in_its_rate_already():
    assert rate_of_first_decision(0.3, is_blind=True) == pytest.approx(2.0)


def test_the_way_back_up_to_the_compiled_rate_is_free():
    assert rate_after(4, 1.0, rate=0.2) == pytest.approx(1.0)
    assert rate_after(4, 1.0, rate=0.3) == pytest.approx(0.48)


def test_the_best_action_within_a_factor_is_no_step_back():
    among = ActionSet(ACTIONS, (1e-9, 1e9))
    ones = np.ones(1)
    assert among.best_within([9.0, 0.0, 1.0, 2.0, 3.0], ones, ones, 0.0, 1.6) == 3
    assert among.best_within([9.0, 2.0, 1.0, 0.0, 3.0], ones, ones, 0.0) == 1
    # Of unknown values the one of the largest factor.
    assert among.best_within([math.nan] * 5, ones, ones, 0.0) == 2
    only_raises = ActionSet(ACTIONS[:1] + ACTIONS[3:], (1e-9, 1e9))
    assert only_raises.best_within([0.0] * 3, ones, ones, 0.0) is None


def test_the_least_raise_is_the_smallest_factor_above_one():
    among, ones = ActionSet(ACTIONS, (1e-9, 1e9)), np.ones(1)
    assert among.least_raise(ones, ones, 0.0, 9.0) == 3
    assert among.least_raise(ones, ones, 0.0, 1.5) is None
    assert ActionSet(ACTIONS[:3], (1e-9, 1e9)).least_raise(ones, ones, 0.0, 9.0) is None


# Who has it.


def test_the_shipped_policy_has_the_limit_and_a_file_of_before_does_not(tmp_path):
    assert shipped().settings.raises_by_slope is True
    assert QANCallback().settings.raises_by_slope is True
    assert QANCallback(raises_by_slope=False).settings.raises_by_slope is False
    written = shipped().save(tmp_path / "new.qan")
    assert Policy.load(written).settings.raises_by_slope is True
    config = shipped().settings.config()
    del config["raises_by_slope"]
    assert type(shipped().settings).from_config(config).raises_by_slope is None


def test_a_word_in_the_place_of_a_truth_is_refused():
    with pytest.raises(TypeError, match="raises_by_slope is 'yes'; expected True or False"):
        QANCallback(raises_by_slope="yes")


def fit(model, *callbacks, epochs=8, count=256):
    x = np.random.default_rng(0).normal(size=(count, 6)).astype("float32")
    y = np.sin(x[:, :1]) + 0.5 * x[:, 1:2] * x[:, 2:3]
    return model.fit(
        x, y, batch_size=16, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks)
    )


def peak(callback, model, **named):
    rates = []
    see = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: rates.append(
            float(keras.ops.convert_to_numpy(model.optimizer.learning_rate.value))
        )
    )
    fit(model, callback, see, **named)
    return max(rates)


@pytest.mark.slow
def test_a_wide_network_is_kept_from_the_rates_of_small_ones():
    limited = peak(QANCallback(), network(width=1024))
    unlimited = peak(QANCallback(raises_by_slope=False), network(width=1024))
    assert 1e-3 <= limited < 0.7 * unlimited


@pytest.mark.slow
def test_a_learner_and_a_network_that_is_trained_are_not_measured(tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(RaiseGate, "begin", lambda self, progress, few: measured.append(progress))
    monkeypatch.setattr(RaiseGate, "largest_factor", lambda self, found, context: 1.0)
    model = network()
    fit(model, QANCallback(tmp_path), epochs=1)
    fit(model, QANCallback(), epochs=1)
    assert measured == []
    fit(network(), QANCallback(), epochs=1)
    assert measured == [0.0]


@pytest.mark.slow
@pytest.mark.skipif(backend_name() != "tensorflow", reason="one backend is enough")
def test_where_no_gradient_comes_back_the_policy_acts_as_without_the_limit_along_a_cosine():
    weights = []
    for limit in (True, False):
        model = network("sgd", steps_per_execution=4)
        named = {} if limit else {"schedule": Cosine()}
        callback = QANCallback(raises_by_slope=limit, decide_every=8, **named)
        fit(model, callback, epochs=4, count=448)
        weights.append([w.numpy() for w in model.weights])
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("few", [True, False])
def test_it_is_told_at_the_start_whether_batches_are_few_and_the_agent_that_a_training_begins(few):
    model = FakeModel([1.0])
    model.window, model.gate = FakeGate(1.0), FakeGate(1.0)
    agent = Wish(0)
    controller = Controller(agent, (Hold(),), (CurrentLearningRate(),), LogLossDrop(), (1e-9, 1e9))
    controller.build(0)
    first = DecisionContext(0.0, num_decisions=4, num_steps=40, interval=10, taken=10)
    controller.begin(model, first, explore=False, has_few_batches=few)
    assert model.gate.has_few_batches is few
    assert agent.begun == 1
