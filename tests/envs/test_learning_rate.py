"""Learning-rate control as a Gymnasium environment."""

from __future__ import annotations

import itertools
import math
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from keras_qan.actions import Anneal, Hold, StepBack
from keras_qan.envs import LearningRateEnv
from keras_qan.pretraining.tasks import TaskTemplate

TINY = TaskTemplate("clusters", 5, 2, (4,), batch_size=4, num_train=40, num_validation=20)

HOLD = 2


@pytest.fixture(scope="module")
def env():
    return LearningRateEnv(templates=(TINY,), num_steps=(20, 60))


def episode(env, seed, choose=lambda env: HOLD):
    """Return the return, the last info, and the rates after each decision."""
    _, info = env.reset(seed=seed)
    total, rates, is_over = 0.0, [info["learning_rate"]], False
    while not is_over:
        _, reward, is_over, truncated, info = env.step(np.int64(choose(env)))
        assert not truncated
        total += reward
        rates.append(info["learning_rate"])
    return total, info, rates


@pytest.mark.slow
def test_gymnasiums_own_check_finds_nothing(env):
    check_env(env, skip_render_check=True)  # a warning is an error in this suite


@pytest.mark.slow
def test_it_is_made_by_name():
    made = gymnasium.make("keras_qan.envs:keras_qan/LearningRate-v0", templates=(TINY,))
    assert isinstance(made.unwrapped, LearningRateEnv)
    assert made.observation_space.shape == (21,)
    assert made.action_space.n == 5


@pytest.mark.slow
def test_the_return_is_the_fall_of_the_log_loss_from_the_first_step_to_the_validation(env):
    for seed in range(3):
        total, info, _ = episode(env, seed)
        assert info["step"] == info["num_steps"]
        assert math.isclose(total, -info["log_loss"], abs_tol=1e-9)


@pytest.mark.slow
def test_an_action_scales_the_rate_and_a_jump_of_the_loss_takes_its_place(env):
    factors = (0.3, 0.5, 1.0, 1.6, 5.0)
    taken = set()
    for seed, asked in itertools.product(range(3), range(5)):
        _, before = env.reset(seed=seed)
        is_over = False
        while not is_over:
            _, _, is_over, _, info = env.step(asked)
            expected = factors[info["action"]] * before["learning_rate"]
            if 1e-7 < expected < 10.0 and info["action"] > 0:
                assert math.isclose(info["learning_rate"], expected, rel_tol=1e-6)
            assert info["action"] in (asked, 0)
            taken.add((asked, info["action"]))
            before = info
    assert {(number, number) for number in range(5)} < taken  # and some jumped


@pytest.mark.slow
def test_the_same_seed_is_the_same_training_and_another_is_another(env):
    first, second, other = (episode(env, seed)[0] for seed in (4, 4, 5))
    assert first == second != other


@pytest.mark.slow
def test_a_step_is_all_the_decisions_of_an_option():
    chosen = (StepBack(), Anneal(0.5, 3), Hold(), Anneal())
    options = LearningRateEnv((TINY,), (20, 60), actions=chosen, schedule=None)
    _, before = options.reset(seed=4)
    _, first, _, _, info = options.step(1)
    assert (info["num_decisions"], info["action"]) == (3, 1)
    assert info["learning_rate"] == pytest.approx(0.5 * before["learning_rate"])
    assert math.isclose(first, -info["log_loss"], abs_tol=1e-9)
    _, rest, is_over, _, info = options.step(3)
    assert is_over
    assert info["num_decisions"] > 3
    assert info["step"] == info["num_steps"]
    # The rewards of all decisions add up.
    assert math.isclose(first + rest, -info["log_loss"], abs_tol=1e-9)
    # Where the loss jumps, the option is over, and a step back takes the next one's place.
    options.reset(seed=0)
    taken = [options.step(1)[4] for _ in range(2)]
    assert [info["action"] for info in taken] == [1, 0]
    assert [info["num_decisions"] for info in taken] == [2, 1]


@pytest.mark.slow
def test_a_rate_that_is_driven_up_costs_the_return(env):
    held = np.mean([episode(env, seed)[0] for seed in range(4)])
    driven = np.mean([episode(env, seed, lambda env: 4)[0] for seed in range(4)])
    assert driven < held


def test_what_it_cannot_do_is_said(env):
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        LearningRateEnv(templates=(TINY,)).step(HOLD)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="got action 5; expected an integer from 0 to 4"):
        env.step(5)
    with pytest.raises(ValueError, match="at least one"):
        LearningRateEnv(templates=())
    with pytest.raises(ValueError, match=r"actions.*at least one"):
        LearningRateEnv(actions=())
    with pytest.raises(ValueError, match="20 <= fewest <= most"):
        LearningRateEnv(num_steps=(60, 20))
    with pytest.raises(ValueError, match="render_mode"):
        LearningRateEnv(render_mode="human")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("templates", TINY, "a list of at least one TaskTemplate"),
        ("templates", ["digits"], "a list of at least one TaskTemplate"),
        ("num_steps", 60, "fewest, most"),
        ("num_steps", (20, 40, 60), "fewest, most"),
        ("num_steps", ("20", "60"), "fewest, most"),
        ("schedule", 0.5, r"Cosine\(\), or None"),
        ("actions", Hold(), "a list of at least one Action"),
        ("actions", [0.5, 2.0], "a list of at least one Action"),
    ],
)
def test_an_argument_of_another_kind_is_refused_by_its_name(name, value, expected):
    with pytest.raises(ValueError, match=f"LearningRateEnv's {name} is .*{expected}"):
        LearningRateEnv(**{name: value})


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "gymnasium"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [n for n in sys.modules if n.startswith("keras_qan.envs")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ImportError, match=r"envs needs gymnasium.*'keras-qan\[envs\]'"):
        import keras_qan.envs  # noqa: F401
