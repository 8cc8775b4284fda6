"""The learning rate of small trainings as a Gymnasium environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from numbers import Real
from typing import Any

import gymnasium
import numpy as np

from keras_qan.actions import Action, Cosine, OptionContext, Schedule
from keras_qan.pretraining.batched_control import BatchedController, Rollout, RolloutState
from keras_qan.pretraining.batched_training import Population
from keras_qan.pretraining.policy_iteration import (
    KINDS,
    batch_optimizers,
    draw_rate,
    draw_validations,
)
from keras_qan.pretraining.tasks import SMALL, TaskTemplate
from keras_qan.qan import presets
from keras_qan.qan.rewards import LogLossDrop
from keras_qan.qan.rule import option_context, option_under_way
from keras_qan.utils.validation import check

#: Every number of an observation lies within ± this.
LARGEST = 30.0

#: The fewest steps of a training: the first decisions lie close together.
FEWEST_STEPS = 20

#: Range of the number of steps in an episode, unless another one is asked for.
STEPS = (100, 700)


@dataclasses.dataclass
class _Training:
    """A training between two decisions.

    Attributes:
      controller: of the population, whose one member it is.
      rollout: its examples and times.
      state: its weights, rates and losses.
      number: of the decision that is due.
      log_loss: log(loss / first loss) that the last reward was reckoned to.
    """

    controller: BatchedController
    rollout: Rollout
    state: RolloutState
    number: int = 0
    log_loss: float = 0.0


class LearningRateEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One small training an episode; an action scales its learning rate.

    `reset` draws a task, a network, an optimizer (SGD with or without momentum, Adam, AdamW), a
    length and a first rate, which may be far too low or far too high. It is what the shipped policy
    learned on: state, actions and schedule are those of the preset `transfer`. `step` applies an
    action and trains on to the next decision. Where the loss has jumped, a step back is taken in
    the place of any action, as by the callback. With options among the actions a step is all the
    decisions of one, and its reward their sum. The reward is the fall of the log loss,
    r_t = log L_{t-1} - log L_t, where the last L is the validation loss; so the return is
    log(first loss / last validation loss), at least -2 for a training that diverged.

    A task's first episode compiles its program, which takes a few seconds.

    Args:
      templates: tasks and networks to draw from. Defaults to those that the shipped
        policy learned on.
      num_steps: the range of a training's length in optimizer steps, drawn log-uniformly. Defaults
        to (100, 700).
      actions: what can be done with the rate. Defaults to the preset's: a step back, a half, no
        change, 1.6 and 5 times.
      schedule: a factor of every rate, or None. Defaults to a cosine, as of the preset.
      render_mode: None; there is nothing to see.

    Attributes:
      observation_space: float32 `[21]`, within ±30; see `TrainingDynamics` and `Generalisation`.
      action_space: the number of the action.

    Raises:
      ValueError: an argument is out of range.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's declaration

    def __init__(
        self,
        templates: Sequence[TaskTemplate] = SMALL,
        num_steps: tuple[int, int] = STEPS,
        actions: Sequence[Action] | None = None,
        schedule: Schedule | None = Cosine(),  # noqa: B008 - it holds no state
        render_mode: str | None = None,
    ) -> None:
        check(render_mode is None, "LearningRateEnv's render_mode", render_mode, "None")
        _check_all("templates", templates, TaskTemplate, "pretraining.tasks.TRAINING[:1]")
        is_pair = isinstance(num_steps, Sequence) and len(num_steps) == 2
        low, high = num_steps if is_pair else (0, 0)
        check(
            all(isinstance(steps, Real) for steps in (low, high)) and FEWEST_STEPS <= low <= high,
            "LearningRateEnv's num_steps",
            num_steps,
            f"(fewest, most) with {FEWEST_STEPS} <= fewest <= most",
        )
        is_schedule = schedule is None or (callable(schedule) and not isinstance(schedule, type))
        check(is_schedule, "LearningRateEnv's schedule", schedule, "Cosine(), or None")
        if actions is not None:
            _check_all("actions", actions, Action, "[Decay(0.5), Hold(), Raise(2.0)]")
        settings = presets.transfer()
        self.render_mode = render_mode
        self._templates, self._num_steps = tuple(templates), (low, high)
        self._actions = tuple(settings["actions"] if actions is None else actions)
        self._observations, self._rate_bounds = settings["observations"], settings["rate_bounds"]
        self._schedule = schedule
        self._reward = LogLossDrop()
        self._controllers: dict[TaskTemplate, BatchedController] = {}
        self._training: _Training | None = None
        size = sum(part.size(2) for part in self._observations)
        self.observation_space = gymnasium.spaces.Box(-LARGEST, LARGEST, (size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(self._actions))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a training, and return its first state.

        Args:
          seed: of this episode and all that follow. Defaults to going on at random.
          options: not used.

        Returns:
          The observation, float32 `[21]`, and a dict with the task's `template`, its `num_steps`,
          the `step` it is at, its `learning_rate`, and `log_loss`, log(loss / first loss).
        """
        super().reset(seed=seed, options=options)
        rng = self.np_random
        template = self._templates[int(rng.integers(len(self._templates)))]
        kind = KINDS[int(rng.integers(len(KINDS)))]
        num_steps = round(float(np.exp(rng.uniform(*np.log(self._num_steps)))))
        drawn, rate = int(rng.integers(2**31 - 1)), draw_rate(kind, rng)
        controller = self._controller(template)
        data, weights = controller.population.draw_tasks(drawn)
        reports = draw_validations(rng)
        rollout = Rollout(
            data, batch_optimizers([kind], 1), num_steps, drawn, reports, controller.fewest
        )
        state = controller.initial_state(weights, np.array([rate]))
        self._training = _Training(controller, rollout, state)
        return self._observe(self._training), self._info(self._training)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply an action, and train on to the next choice or to the end.

        Args:
          action: its number, an integer.

        Returns:
          The observation (zeros at the end), the reward, whether the training is over,
          False, and a dict as `reset` gives it, with the `action` that was taken, and the
          `num_decisions` k that it lasted: 1 but for an option, whose successor's value a library
          discounts by γᵏ where its γ is below 1.

        Raises:
          ValueError: there is no such action.
          RuntimeError: no training is running.
        """
        training = self._training
        if training is None:
            raise RuntimeError(
                "LearningRateEnv.step was called without a running training; call reset() first, "
                "and again after each episode's end."
            )
        if not self.action_space.contains(action):
            raise ValueError(
                f"LearningRateEnv.step got action {action!r}; expected an integer from 0 to "
                f"{len(self._actions) - 1}."
            )
        begun, total = training.number, 0.0
        first, under_way = self._point(training), None
        while True:
            start = under_way or first
            observation, reward, taken = self._decide(training, int(action), first, under_way)
            total += reward
            if self._training is None:
                break
            first = self._point(training)
            start = start._replace(num_decisions=start.num_decisions + 1)
            context = training.rollout.context(training.number)
            under_way = option_under_way(self._actions[taken], start, training.state.rates, context)
            if under_way is None:
                break
        info = self._info(training) | {
            "action": taken,
            "num_decisions": training.number - begun,
        }
        return observation, total, self._training is None, False, info

    def _decide(
        self,
        training: _Training,
        action: int,
        first: OptionContext,
        under_way: OptionContext | None,
    ) -> tuple[np.ndarray, float, int]:
        """Take one decision; return the observation after it, its reward, and what was taken."""
        controller, rollout = training.controller, training.rollout
        training.state, row = controller.act(
            training.state,
            rollout,
            training.number,
            np.array([action]),
            controller.action_set.at(first, under_way, action),
        )
        training.number += 1
        if training.number == len(rollout.decisions):
            # The states of an end are not used: no decision follows.
            observation = np.zeros(self.observation_space.shape or (), np.float32)
            log_loss = float(controller.scores(rollout, training.state)[0])
            self._training = None
        else:
            observation = self._observe(training)
            log_loss = float(training.state.rates.history.now[0])
        reward = self._reward(training.log_loss, log_loss, len(rollout.decisions))
        training.log_loss = log_loss
        return observation, float(reward), int(row.actions[0])

    @staticmethod
    def _point(training: _Training) -> OptionContext:
        """Return the decision that is due as the first one of an option."""
        return option_context(training.state.rates, training.rollout.context(training.number))

    def _controller(self, template: TaskTemplate) -> BatchedController:
        if template not in self._controllers:
            self._controllers[template] = BatchedController(
                Population(template, 1, 1),
                self._actions,
                self._rate_bounds,
                self._observations,
                self._schedule,
            )
        return self._controllers[template]

    @staticmethod
    def _observe(training: _Training) -> np.ndarray:
        training.state, states = training.controller.observe(
            training.state, training.rollout, training.number
        )
        return np.clip(states[0], -LARGEST, LARGEST).astype(np.float32)

    @staticmethod
    def _info(training: _Training) -> dict[str, Any]:
        rollout = training.rollout
        return {
            "template": training.controller.population.template,
            "num_steps": rollout.num_steps,
            "step": rollout.bounds[training.number],
            "learning_rate": float(training.state.rates.rates[0]),
            "log_loss": training.log_loss,
        }


def _check_all(name: str, values: Any, kind: type, example: str) -> None:
    """Raise ValueError unless an argument is a sequence of at least one object of a class."""
    fits = isinstance(values, Sequence) and len(values) > 0
    check(
        fits and all(isinstance(value, kind) for value in values),
        f"LearningRateEnv's {name}",
        values,
        f"a list of at least one {kind.__name__}",
        f"Write for example {example}.",
    )
