"""DAC4SGD's policies, on the environment's trainings."""

from __future__ import annotations

import math

import pytest

from benchmarks.envs.dac4sgd import Constant, Cosine, Plateau, Point, Reactive, ScheduledEnv, tune
from keras_qan.pretraining.tasks import TaskTemplate

TINY = TaskTemplate("clusters", 5, 2, (4,), batch_size=4, num_train=40, num_validation=20)


def rates(policy, validation=(), losses=(), steps_an_epoch=2):
    """Return the rates that a policy chooses, one for each of its losses or validations."""
    points = [Point(0.0, [], steps_an_epoch, loss) for loss in validation]
    points += [
        Point(0.0, list(losses[:n]), steps_an_epoch, None) for n in range(1, len(losses) + 1)
    ]
    return [policy(point) for point in points]


def test_a_cosine_falls_from_the_rate_to_zero():
    cosine = Cosine(2.0)
    found = [cosine(Point(progress, [], 1, None)) for progress in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([2.0, 1.0, 0.0])


def test_the_plateau_falls_at_the_second_epoch_without_a_lower_loss_and_counts_anew():
    losses = [1.0, 0.99995, 0.5, 0.6, 0.6, 0.6, None, 0.6, 0.2]
    found = rates(Plateau(1.0, factor=0.5), validation=losses)
    assert found == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_the_reactive_one_compares_whole_epochs():
    losses = [3.0, 1.0, 2.0, 1.0, 2.0, 2.0, 9.0]  # epochs of 4, 3 and 4 in sum
    found = rates(Reactive(1.0, up=2.0, down=8.0), losses=losses)
    assert found == [1.0, 1.0, 1.0, 2.0, 2.0, 0.25, 0.25]


@pytest.mark.slow
def test_a_constant_policy_trains_as_the_environment_does_where_the_rate_is_held():
    env = ScheduledEnv(templates=(TINY,), num_steps=(20, 60), schedule=None)
    seen = set()
    for seed in range(12):
        _, info = env.reset(seed=seed)
        gain = 1.0
        if env.family() == "sgd":
            gain -= float(env._training.rollout.optimizers.momentum.numpy()[0])
        seen.add(env.family())
        factor = info["learning_rate"] / Constant().rate / gain
        found = env.run("constant", {env.family(): factor})
        env.reset(seed=seed)
        held, is_over, info = 0.0, False, {"action": 2}
        while not is_over and info["action"] == 2:
            _, reward, is_over, _, info = env.step(2)
            held += reward
        if is_over:  # and no step back was taken
            assert math.isclose(found, held, abs_tol=1e-4)
    assert seen == {"sgd", "adam"}


@pytest.mark.slow
def test_the_rate_is_tuned_for_each_family(monkeypatch):
    env = ScheduledEnv(templates=(TINY,), num_steps=(20, 30))
    best = {"sgd": 1.0, "adam": 10.0}
    monkeypatch.setattr(
        ScheduledEnv,
        "run",
        lambda env, name, factors: -abs(factors[env.family()] - best[env.family()]),
    )
    assert tune(env, "cosine", episodes=2) == pytest.approx(best)
