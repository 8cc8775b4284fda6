"""Settings that belong together, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_qan import actions, observations
from keras_qan.agents import DQN, Exploration, Learning, SlopeRule
from keras_qan.agents.slope_rule import FACTORS
from keras_qan.qan.rewards import Equation9, LogLossDrop
from keras_qan.storage.serialization import from_config, to_config

if TYPE_CHECKING:
    from keras_qan.selection import Selector

#: The names that `by_name` knows.
NAMES = ("default", "paper", "transfer", "options", "scale_free")

#: The margin by which the value of a selection action must exceed that of `Hold()`, in nats of the
#: final loss.
SELECTION_MARGIN = 0.25


def default(seed: int = 0) -> dict[str, Any]:
    """Return the defaults of `QANCallback`, as its keyword arguments.

    Few decisions an episode, steps of the rate both ways, an undiscounted return down to the
    validation loss and episode-long targets: they learned where one-step values oscillated.
    """
    return {
        "actions": actions.default(),
        "observations": observations.default(),
        "reward": LogLossDrop(),
        "agent": DQN(seed=seed),
        "rate_bounds": (1e-6, 1.0),
    }


def options(seed: int = 0) -> dict[str, Any]:
    """Return the defaults of `QANCallback`, with options among the actions.

    By chance a training has some five choices instead of twenty decisions: ε falls over as many
    trainings as by default, which bring as many updates.
    """
    return default(seed) | {
        "actions": actions.hierarchical(),
        "agent": DQN(
            exploration=Exploration(decisions=250),
            learning=Learning(updates=8, warm_up=25),
            seed=seed,
        ),
    }


def paper(seed: int = 0) -> dict[str, Any]:
    """Return the settings of Fu et al. 2016 for CIFAR-10, where the paper or its code say any.

    A decision at every step, the rate cut by 5 % or set back, 192 weight statistics and the rate,
    equation 9. The agent's settings are those of the published code (γ 0.99, batches of 32, hidden
    layer of 256, replay memory of 1,000, ε from 1 to 0.1 over 10,000 decisions, an update every
    fourth step there and every step here). Its target network was copied every 10,000 steps; here
    it follows smoothly at the rate of 10⁻⁴.
    """
    return {
        "actions": (actions.Decay(0.95), actions.Restart()),
        "observations": (observations.WeightStatistics(), observations.CurrentLearningRate()),
        "reward": Equation9(),
        "agent": DQN(
            hidden=(256,),
            exploration=Exploration(start=1.0, end=0.1, decisions=10_000),
            learning=Learning(
                rate=2.5e-4,
                batch_size=32,
                updates=1,
                n_step=1,
                gamma=0.99,
                target_tau=1e-4,
                warm_up=500,
            ),
            replay_capacity=1_000,
            double=False,
            averaged=False,
            seed=seed,
        ),
        "decide_every": 1,
        "rate_bounds": (1e-5, 0.1),
    }


def transfer(seed: int = 0) -> dict[str, Any]:
    """Return the settings of the shipped policy.

    The state knows no scale of task or model, the first decisions lie close together, the rate can
    be changed by much at once, and a training that went astray can be set back. The rate anneals
    along a cosine by itself, which the actions scale: so that to do nothing is a good plan once
    the rate is right, and not the beginning of one. Above the compiled rate the slope ratio has to
    agree: the state holds the rate itself, and means another thing on a wider network.
    """
    return {
        "actions": (
            actions.StepBack(0.3),
            actions.Decay(0.5),
            actions.Hold(),
            actions.Raise(1.6),
            actions.Raise(5.0),
        ),
        "observations": (observations.TrainingDynamics(), observations.Generalisation()),
        "reward": LogLossDrop(),
        "agent": DQN(
            hidden=(128, 128),
            exploration=Exploration(start=0.1, end=0.02, decisions=600),
            learning=Learning(rate=1e-4, updates=4, n_step=48, warm_up=60),
            seed=seed,
            default_action=2,
            margin=0.01,
        ),
        "rate_bounds": (1e-7, 10.0),
        "dense_start": True,
        "schedule": actions.Cosine(),
        "raises_by_slope": True,
    }


def scale_free(seed: int = 0) -> dict[str, Any]:
    """Return the settings of a policy whose state has no unit, so that any network looks alike.

    Those of `transfer`, but for the rate: in its place in the state is the slope ratio. The policy
    sees what the limit of raises looks at, so that nothing limits it; its rate falls as that of
    the shipped policy does in a fit.
    """
    return transfer(seed) | {
        "observations": (observations.SlopeDynamics(), observations.Generalisation()),
        "schedule": actions.LinearFall(0.5),
        "raises_by_slope": False,
    }


def slope() -> dict[str, Any]:
    """Return the settings of the rule that follows the slope ratio.

    The rate begins low, rises to where the loss no longer falls at the end of a step, and falls to
    zero along a line. The rule has no parameters, and its state no units.
    """
    step_back, *factors = FACTORS
    return {
        "actions": (actions.StepBack(step_back), *(_scale(factor) for factor in factors)),
        "observations": (observations.SlopeObservation(),),
        "reward": LogLossDrop(),
        "agent": SlopeRule(),
        "rate_bounds": (1e-12, 1e4),
        "dense_start": True,
        "schedule": actions.LinearFall(0.4),
    }


def _scale(factor: float) -> actions.Action:
    if factor == 1.0:
        return actions.Hold()
    return actions.Raise(factor) if factor > 1.0 else actions.Decay(factor)


def with_selection(
    settings: dict[str, Any], selector: Selector, rate_actions: bool = True, raw: bool = False
) -> dict[str, Any]:
    """Return settings with a selector's actions beside the actions on the rate, or in their place.

    To hold is among the actions, and what the agent does unless another action is worth more by a
    margin: a policy that follows the noise of its values makes batches of a few classes, and the
    others are forgotten (benchmarks/selection).

    Args:
      settings: the settings of another preset.
      selector: the selector of the batches.
      rate_actions: whether the actions on the rate stay. Defaults to True.
      raw: whether the agent is given the selector's `raw_actions()` instead of its `actions()`.
        Defaults to False.
    """
    own = [action for action in settings["actions"] if rate_actions]
    if not any(isinstance(action, actions.Hold) for action in own):
        own = [actions.Hold(), *own]
    hold = next(n for n, action in enumerate(own) if isinstance(action, actions.Hold))
    agent = to_config(settings["agent"]) | {"default_action": hold, "margin": SELECTION_MARGIN}
    seen = [
        part
        for part in settings["observations"]
        if not isinstance(part, observations.WeightStatistics)
    ]
    return settings | {
        "actions": (*own, *(selector.raw_actions() if raw else selector.actions())),
        "observations": (*seen, *selector.observations()),
        "agent": from_config(agent),
    }


def by_name(name: str, seed: int = 0) -> dict[str, Any]:
    """Return the preset of that name, as keyword arguments of `QANCallback`.

    Raises:
      ValueError: there is none.
    """
    presets = {
        "default": default,
        "paper": paper,
        "transfer": transfer,
        "options": options,
        "scale_free": scale_free,
    }
    if name not in presets:
        raise ValueError(f"There is no preset {name!r}; expected one of {', '.join(NAMES)}.")
    return presets[name](seed)
