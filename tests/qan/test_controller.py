import math

import keras
import numpy as np
import pytest
from helpers.fake_model import FakeModel
from helpers.fake_training import Recorder, Training

from keras_qan.actions import Action, Hold
from keras_qan.observations import CurrentLearningRate, Observation
from keras_qan.observations.loss_history import LOG_LOSS_BOUNDS
from keras_qan.qan.controller import Controller
from keras_qan.qan.model_access import ModelAccess
from keras_qan.qan.rewards import Equation9, LogLossDrop


def keras_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    return model


# What a decision is credited with.


def test_the_loss_of_the_step_right_after_a_decision_does_not_count():
    # A step's loss is that of the weights before its update: 4 and 9 were fixed when it was taken.
    training = Training(Recorder(plays=(1, 2)))
    training.begin()
    training.first_step(4.0)
    training.start_counting()
    training.step(3.0, 1.0)
    decision = training.decide()
    assert decision.loss == pytest.approx(2.0)
    assert decision.reward == pytest.approx(math.log(4.0) - math.log(2.0))
    training.step(9.0)
    training.start_counting()
    training.step(0.5)
    last = training.end()
    assert last.loss == pytest.approx(0.5)
    assert last.reward == pytest.approx(math.log(2.0) - math.log(0.5))
    np.testing.assert_allclose(
        training.agent.learned,
        [[1, math.log(2.0), 1.0, 1.0], [2, math.log(4.0), 0.0, 0.5]],
        rtol=1e-5,
    )


def test_with_a_decision_at_every_step_the_one_before_the_last_is_credited():
    # Losses 8, 4, 2, 1: the step after decision 0 has loss 8 whatever it was, the next shows it.
    training = Training(Recorder(plays=(0, 1, 2, 0)))
    training.begin()
    training.first_step(8.0)
    rewards = [training.decide(delayed=True).reward]
    for loss in (4.0, 2.0):
        training.step(loss)
        rewards.append(training.decide(delayed=True).reward)
    training.step(1.0)
    last = training.end(0.25)
    assert rewards == pytest.approx([0.0, math.log(2.0), math.log(2.0)], abs=1e-5)
    # Two decisions are still open: one is credited to the last loss, one to the final loss.
    assert last.reward == pytest.approx(math.log(2.0) + math.log(4.0))
    np.testing.assert_allclose(
        training.agent.learned,
        [
            [0, math.log(2.0), 1.0, 1.0],
            [1, math.log(2.0), 1.0, 1.0],
            [2, math.log(2.0), 1.0, 0.5],
            [0, math.log(4.0), 0.0, 1.0],
        ],
        rtol=1e-5,
        atol=1e-6,
    )


def test_the_return_is_the_fall_of_the_log_loss_whatever_lies_between():
    for delayed in (False, True):
        training = Training()
        training.begin()
        training.first_step(5.0)
        if delayed:
            training.decide(delayed)
        generator = np.random.default_rng(1)
        total = 0.0
        for loss in generator.uniform(0.1, 6.0, 6):
            if not delayed:
                training.start_counting()
            training.step(loss)
            total += training.decide(delayed).reward
        training.step(1.5)
        total += training.end(0.75).reward
        assert total == pytest.approx(math.log(5.0 / 0.75), abs=1e-4)
        assert training.agent.learned[:, 1].sum() == pytest.approx(total, abs=1e-4)
        discounts = training.agent.learned[:, 2].tolist()
        assert discounts == [1.0] * (7 if delayed else 6) + [0.0]


def test_equation_9_divides_by_the_announced_number_of_decisions():
    training = Training(reward=Equation9())
    training.num_decisions = 5
    training.begin()
    training.first_step(math.e)
    training.start_counting()
    training.step(1.0)
    assert training.decide().reward == pytest.approx(0.25)


def test_the_mean_loss_weighs_examples_not_steps():
    training = Training()
    training.begin()
    training.step(1.0, examples=30)
    training.step(5.0, examples=10)
    assert training.controller.mean_loss(training.model) == pytest.approx(2.0)


def test_losses_are_kept_across_epochs():
    training = Training()
    training.begin()
    training.first_step(4.0)
    training.start_counting()
    training.step(1.0)
    training.keep()
    training.step(2.0)
    training.keep()
    training.step(6.0)
    assert training.controller.mean_loss(training.model) == pytest.approx(3.0)
    assert training.decide().loss == pytest.approx(3.0)
    training.step(5.0)
    training.start_counting()
    training.step(0.5)
    assert training.end().loss == pytest.approx(0.5)


def test_the_last_loss_is_not_mixed_with_what_the_sums_show_after_the_epoch():
    # By then Keras's sums are the whole epoch's, or the validation's.
    training = Training()
    training.begin()
    training.first_step(4.0)
    training.start_counting()
    training.step(1.0)
    training.controller.keep_loss(training.model)
    training.model.losses.assign(900.0, 9.0)
    last = training.controller.end(training.model, training.context(1.0), True)
    assert last.loss == pytest.approx(1.0)


def test_a_training_that_ends_as_soon_as_counting_starts_is_not_taken_for_a_diverged_one():
    # One step after the last decision: nothing is known of what the decision did.
    training = Training()
    training.begin()
    training.first_step(4.0)
    training.start_counting()
    training.step(2.0)
    training.decide()
    training.step(2.0)
    training.start_counting()
    last = training.end()
    assert last.reward == pytest.approx(0.0, abs=1e-6)
    assert training.agent.learned[-1, 1:3].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("final_loss", [None, 1.0])
def test_a_training_stopped_right_after_a_delayed_decision_has_not_diverged(final_loss):
    # As EarlyStopping does at the end of an epoch: no step follows the last decision.
    training = Training()
    training.begin()
    training.first_step(4.0)
    training.decide(delayed=True)
    training.step(2.0)
    training.decide(delayed=True)
    last = training.end(final_loss)
    expected = 0.0 if final_loss is None else math.log(2.0)
    assert last.reward == pytest.approx(expected, abs=1e-6)
    # Decision 0 has its reward; of 1 nothing is known yet; 2 has what the final loss brings.
    found = training.agent.learned[:, 1:3].ravel().tolist()
    assert found == pytest.approx([math.log(2.0), 1.0, 0.0, 1.0, expected, 0.0], abs=1e-6)


# Divergence.


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("delayed", [False, True])
def test_divergence_is_the_worst_outcome_and_bounded(loss, delayed):
    training = Training()
    training.begin()
    training.first_step(2.0)
    for _ in range(2):
        if not delayed:
            training.start_counting()
        training.step(0.02)
        training.decide(delayed)
    training.step(loss)
    last = training.end(math.nan)
    assert last.reward == pytest.approx(math.log(0.01) - LOG_LOSS_BOUNDS[1], rel=1e-4)
    rewards, discounts = training.agent.learned[:, 1], training.agent.learned[:, 2]
    assert np.isfinite(training.agent.learned).all()
    assert rewards[-1] == pytest.approx(last.reward)
    assert discounts.tolist() == [1.0] * (len(discounts) - 1) + [0.0]
    # Of two open decisions it is the earlier that did it; nothing is learned of the other.
    assert len(rewards) == (2 if delayed else 3)


@pytest.mark.parametrize("loss", [0.0, -3.0])
def test_a_loss_that_has_no_logarithm_counts_as_the_lowest(loss):
    training = Training()
    training.begin()
    training.first_step(2.0)
    training.start_counting()
    training.step(loss)
    assert training.decide().reward == pytest.approx(-LOG_LOSS_BOUNDS[0])


@pytest.mark.parametrize("first", [math.nan, math.inf, 0.0, -1.0])
def test_a_first_loss_that_is_none_is_compared_with_as_one(first):
    training = Training()
    training.begin()
    training.controller.start_from(first)
    training.start_counting()
    training.step(math.e)
    assert training.decide().reward == pytest.approx(-1.0, rel=1e-5)


# What is assigned.


def test_only_the_rates_are_assigned():
    training = Training(Recorder(plays=(1,)), rates=(1.0, 0.25))
    kernel = np.ones([2, 2])
    training.model.kernels = [kernel]
    training.begin()
    training.first_step(1.0)
    before = training.model.losses.read().tolist()
    training.decide()
    training.controller.keep_loss(training.model)
    training.controller.end(training.model, training.context(1.0), True, 0.5)
    assert training.model.rates.tolist() == [0.25, 0.0625]
    np.testing.assert_array_equal(kernel, np.ones([2, 2]))
    assert training.model.losses.read().tolist() == before


def test_of_a_keras_model_only_the_rate_is_assigned():
    training = Training(Recorder(plays=(1,)))
    model = keras_model()
    training.model = ModelAccess(model, [CurrentLearningRate()])
    weights = model.get_weights()
    training.begin()
    training.decide()
    training.end(0.5)
    assert float(model.optimizer.learning_rate) == 0.25
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_rates_stay_within_the_bounds():
    training = Training(Recorder(plays=(2,)), bounds=(0.1, 3.0), rates=(1.0, 0.5))
    found = [training.begin()]
    training.first_step(1.0)
    found += [training.decide() for _ in range(3)]
    assert [decision.rate for decision in found] == [2.0, 3.0, 3.0, 3.0]
    assert [decision.rate_found for decision in found] == [1.0, 2.0, 3.0, 3.0]
    assert training.model.rates[1] == 3.0
    training.agent.plays = (1,)
    down = Training(Recorder(plays=(1,)), bounds=(0.4, 3.0))
    assert [down.begin().rate, down.decide().rate] == [0.5, pytest.approx(0.4)]


def test_holding_a_rate_beyond_the_bounds_is_holding_it():
    training = Training(Recorder(plays=(0, 2)), bounds=(0.1, 3.0), rates=(7.0,))
    assert training.begin().rate == 7.0
    assert training.decide().rate == 3.0


def test_actions_see_the_rates_that_the_episode_began_with():
    class Back(Action):
        def next_rate(self, rate, initial_rate, progress):
            return initial_rate * progress

    training = Training(Recorder(plays=(0,)), [Back()], rates=(2.0, 4.0))
    training.begin()
    training.model.rates[0] = 9.0
    assert training.decide(progress=0.25).rate == 0.5
    assert training.model.rates[1] == 1.0


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_rates_of_another_precision_are_assigned(dtype):
    training = Training(Recorder(plays=(1,)))
    model = keras_model()
    rate = keras.Variable(1.0, dtype=dtype)
    model.optimizer._learning_rate = rate
    training.model = ModelAccess(model, [CurrentLearningRate()])
    assert training.begin().rate == 0.5
    assert float(rate) == 0.5


def test_a_decision_tells_what_was_done():
    training = Training(Recorder(plays=(2, 1)))
    first = training.begin()
    assert (first.action, first.rate_found, first.rate) == (2, 1.0, 2.0)
    assert all(math.isnan(n) for n in (first.reward, first.loss, first.td_loss))
    assert (first.epsilon, first.q_values) == (0.25, [0.5, 0.5, 0.5])
    training.first_step(2.0)
    second = training.decide()
    assert (second.action, second.rate, second.td_loss) == (1, 1.0, 0.0)


# What is learned from.


def test_nothing_is_learned_without_exploring():
    training = Training()
    training.explore = False
    training.begin()
    training.first_step(2.0)
    training.start_counting()
    training.step(1.0)
    assert training.decide().reward == pytest.approx(math.log(2.0))
    training.decide(delayed=True)
    training.end(0.5)
    assert len(training.agent.learned) == 0
    assert not any(training.agent.explored)


def test_an_episode_that_is_broken_off_is_forgotten():
    training = Training()
    training.begin()
    training.first_step(4.0)
    for loss in (2.0, 1.0):
        training.start_counting()
        training.step(loss)
        training.decide()
    assert len(training.agent.learned) == 2
    # The next episode begins: the one before has no end.
    training.model.losses.assign(0.0, 0.0)
    training.begin()
    assert training.agent.abandoned == [2]
    assert len(training.agent.learned) == 0
    training.first_step(8.0)
    training.start_counting()
    training.step(4.0)
    assert training.decide().reward == pytest.approx(math.log(2.0), rel=1e-5)


def test_a_finished_episode_is_not_forgotten():
    training = Training()
    training.begin()
    training.first_step(4.0)
    training.decide()
    training.end(1.0)
    training.controller.abandon()
    training.begin()
    assert training.agent.abandoned == []
    assert len(training.agent.learned) == 2


def test_a_broken_off_episode_of_delayed_decisions_is_counted_as_it_was_learned():
    training = Training()
    training.begin()
    training.first_step(4.0)
    for _ in range(3):
        training.decide(delayed=True)
        training.step(1.0)
    assert len(training.agent.learned) == 2
    training.controller.abandon()
    assert training.agent.abandoned == [2]
    # What waited for its outcome waits no more.
    training.begin()
    training.first_step(4.0)
    training.decide(delayed=True)
    assert len(training.agent.learned) == 0


def test_weights_that_are_no_numbers_do_not_reach_the_agent():
    training = Training(Recorder(plays=(0,)))
    training.model.rates[0] = math.nan
    training.begin()
    training.first_step(1.0)
    training.decide()
    assert training.agent.learned[0, 3] == 0.0


# Students of other shapes.


def test_a_student_with_more_kernels_than_the_state_holds_is_refused():
    class Count(Observation):
        layers = None

        def size(self, num_kernels):
            return num_kernels

        def __call__(self, context):
            return np.array([np.sum(kernel) for kernel in context.kernels])

    controller = Controller(Recorder(), [Hold()], [Count()], LogLossDrop(), (0.1, 1.0))
    controller.build(1)
    controller.build(1)
    with pytest.raises(ValueError, match="2"):
        controller.build(2)


def test_students_of_different_shapes_take_turns():
    training = Training(Recorder(plays=(1,)))
    for rates in ((1.0,), (1.0, 0.5), (1.0,)):
        training.model = FakeModel(rates)
        training.begin()
        training.first_step(2.0)
        training.decide()
        training.end(1.0)
        assert training.model.rates.tolist() == [r / 4 for r in rates]
    assert len(training.agent.learned) == 6
