"""QANCallback, as a user makes, asks, saves and loads it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_qan.actions import Action, Schedule
from keras_qan.agents import Agent
from keras_qan.observations import Observation
from keras_qan.qan import presets
from keras_qan.qan.agent_state import AgentState
from keras_qan.qan.config import CallbackConfig
from keras_qan.qan.convergence import ReturnTrend, return_trend
from keras_qan.qan.fit_hooks import FitHooks
from keras_qan.qan.policy import UNSET, Policy, starting_policy
from keras_qan.qan.rewards import Reward
from keras_qan.storage.serialization import keras_serializable
from keras_qan.utils.validation import check, check_integer, describe


@keras_serializable
class QANCallback(FitHooks):
    """Tunes the learning rate while a model trains, and learns to do it better with each `fit`.

    Every `fit` is one episode: at each decision an agent observes the statistics of the model's
    weights, the rate, the time and the loss, and chooses an action on the learning rate; the
    change of the loss afterwards is its reward. One callback can go through any number of `fit`
    calls, of fresh models or of the same; its agent goes on learning, and is written to `directory`
    after each. Copies (KerasTuner makes one for each trial) share the agent.

    Args:
      directory: the run directory with agent, counters and logs. It is made if missing; a run that
        it holds is resumed. Defaults to none: everything stays in memory.
      actions: the actions that the agent chooses from. Defaults to `actions.default()`: steps of
        the rate both ways, and none.
      observations: the parts of the state. Defaults to `observations.default()`: the weight
        statistics of the first convolution (else the first kernel), the rate, and the state of the
        training.
      reward: the reward of a decision. Defaults to `LogLossDrop()`: the fall of the log loss, down
        to the last validation loss.
      agent: the agent that decides. Defaults to `DQN()`.
      decide_every: optimizer steps between decisions. Defaults to a twentieth of the training.
      rate_bounds: the lowest and the highest learning rate that is ever assigned. Defaults to
        (1e-6, 1.0).
      dense_start: whether the first decisions lie close together; `decide_every` is ignored then.
        Defaults to False.
      schedule: a factor of every rate that the actions lead to, for example `Cosine()`; the actions
        then move the whole rest of the schedule up or down. Defaults to none.
      raises_by_slope: whether the rate rises above the one that the model was compiled with only
        while the slope ratio, measured from step to step, says that it is too low, and comes down
        again on a few batches (24 at most) that come five times or more. An agent that learns is
        not limited: it has to see the outcome of all its actions. Defaults to True with
        the policy that comes with the package, else to False.
      policy: the policy to start from: "shipped" for the one that comes with the package, "slope"
        for the rule that follows the slope ratio and learns nothing, the path of a policy file, a
        `Policy`, or None for no policy. Without a directory a policy is used as
        it is; with one the agent goes on learning on your own task. Defaults to "shipped" where no
        `actions`, `observations`, `reward` or `agent` is given, else to None.
      restore_best: whether the weights of the lowest validation loss are restored at the end of a
        `fit`; for small data. Defaults to False.
      total_steps: optimizer steps of a training that takes several calls of `fit`, for example one
        an epoch or one a batch. They are then one episode, whose rate falls once: it ends with
        these steps, or where a callback stops a `fit`. Defaults to None: each `fit` is a training.

    Where a policy is used, it replaces the defaults of the other arguments.

    Attributes:
      explore: whether it acts at random with probability ε and learns. When set to False, it acts
        greedily and learns nothing.
      context: fields of the log's records (`arm`, `phase`, `episode`, `seed`) that replace the
        callback's own.

    Raises:
      ValueError: an argument is out of range, or the directory holds a run with other settings.
      TypeError: an argument is of another kind.
      OSError: the directory cannot be written.

    Example:
      >>> import numpy as np
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
      >>> model.compile("sgd", "mse")
      >>> x, y = np.ones((64, 4)), np.ones((64, 1))
      >>> history = model.fit(x, y, epochs=5, verbose=0, callbacks=[QANCallback()])
      >>> sorted(history.history)
      ['learning_rate', 'loss', 'step_backs']
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        actions: Sequence[Action] | None = None,
        observations: Sequence[Observation] | None = None,
        reward: Reward | None = None,
        agent: Agent | None = None,
        decide_every: int | None = None,
        rate_bounds: tuple[float, float] | None = None,
        dense_start: bool | None = None,
        schedule: Schedule | None = None,
        raises_by_slope: bool | None = None,
        policy: Policy | str | Path | None = UNSET,
        restore_best: bool = False,
        total_steps: int | None = None,
    ) -> None:
        super().__init__()
        check(
            isinstance(restore_best, bool),
            "QANCallback's restore_best",
            restore_best,
            "True or False",
        )
        self._restores_best, self.total_steps = restore_best, total_steps
        self._given: dict[str, Any] = {
            "directory": directory,
            "policy": policy,
            "restore_best": restore_best,
        }
        if directory is not None and not isinstance(directory, str | os.PathLike):
            raise TypeError(
                f"QANCallback got directory={describe(directory)}; expected the path of a folder, "
                "or None to keep everything in memory. What else it takes is given by name: "
                "QANCallback(decide_every=3)."
            )
        given = CallbackConfig(
            actions=actions,
            observations=observations,
            reward=reward,
            agent=agent,
            decide_every=decide_every,
            rate_bounds=rate_bounds,
            dense_start=dense_start,
            schedule=schedule,
            raises_by_slope=raises_by_slope,
        )
        given.check()
        self._given |= {"total_steps": total_steps, **vars(given)}
        known = starting_policy(policy, given)
        if known is None:
            self._adopt(AgentState(given, _default_settings(), directory), explore=True)
            return
        learns = directory is not None and known.learns
        settings = known.learning_settings if learns else known.settings
        self._adopt(AgentState(given, settings, directory, known.arrays or None), explore=learns)
        if policy is not UNSET and type(self.agent) is not type(settings.agent):
            raise ValueError(
                f"The directory {directory} holds a run whose agent is a "
                f"{type(self.agent).__name__}, and policy={policy!r} is asked for, which comes "
                f"with a {type(settings.agent).__name__}. Leave policy out to go on with that run, "
                "or use another directory."
            )

    @classmethod
    def load(cls, directory: str | Path, explore: bool = True, selector: Any = None) -> QANCallback:
        """Load an earlier run.

        Args:
          directory: the earlier callback's directory.
          explore: whether to go on exploring, learning and writing there; if False, it acts
            greedily, learns nothing, and the directory is only read. Defaults to True.
          selector: the selector of the batches, where the run has selection actions: of the same
            kind, with as many classes. Defaults to none.

        Returns:
          The callback.

        Raises:
          FileNotFoundError: there is no run in the directory.
          CheckpointError: the run's checkpoints are damaged.
          ValueError: the run's actions do not fit the selector.
        """
        state = AgentState.load(directory, _default_settings(), writable=explore, selector=selector)
        return cls.of(state, explore)

    @classmethod
    def of(cls, state: AgentState, explore: bool) -> QANCallback:
        """Return a callback with an existing state.

        Args:
          state: of an agent.
          explore: whether to explore and learn.
        """
        callback = cls.__new__(cls)
        keras.callbacks.Callback.__init__(callback)
        callback._restores_best, callback._total_steps = False, None
        callback._given = {}
        callback._adopt(state, explore)
        return callback

    @property
    def state(self) -> AgentState:
        """The state shared with its copies."""
        return self._state

    @property
    def episodes(self) -> int:
        """The number of trainings it has learned from."""
        return self._state.episodes

    def gain(self) -> ReturnTrend:
        """Return how the returns of the last trainings compare with those before."""
        return return_trend(self._state.returns)

    @property
    def agent(self) -> Agent:
        """The agent that decides."""
        return self._state.controller.agent

    @property
    def settings(self) -> CallbackConfig:
        """The settings that it was made with, defaults included."""
        return self._state.settings

    @property
    def total_steps(self) -> int | None:
        """Steps of a training that takes several calls of `fit`; None where each is one."""
        return self._total_steps

    @total_steps.setter
    def total_steps(self, steps: int | None) -> None:
        if steps is not None:
            steps = check_integer("QANCallback's total_steps", steps, 1)
        self._total_steps = steps

    @property
    def selector(self) -> Any:
        """The selector that its actions or observations are bound to, or None."""
        return self._state.selector

    @property
    def directory(self) -> Path | None:
        """The folder where it is kept, or None."""
        return self._state.directory

    def has_finished(self, arm: str, phase: str, episode: int) -> bool:
        """Return whether the directory held the records of that episode when it was opened.

        Args:
          arm: the arm's name.
          phase: train or evaluate.
          episode: its number.
        """
        return (arm, phase, episode) in self._state.finished

    def log_to(self, other: QANCallback) -> None:
        """Write records to the other callback's directory from now on.

        Args:
          other: the callback whose directory is used.
        """
        self._state.log_to(other.state)

    def join(self, workers: Any) -> None:
        """Act on the chief's decisions, as one of several workers; `fit` calls it too.

        Args:
          workers: the group that this process is one of.
        """
        self._state.join(workers)

    @contextlib.contextmanager
    def writing_later(self) -> Iterator[Callable[..., None]]:
        """Write an episode's records only when the yielded function is called.

        Yields:
          The function, which takes further fields of the episode by name.
        """
        self._defers_writing = True
        try:
            yield lambda **more: self._state.write_episode(self.explore, **more)
        finally:
            self._defers_writing = False

    def save(self, directory: str | Path | None = None) -> Path:
        """Write a checkpoint.

        Args:
          directory: the directory to write to. Defaults to the callback's own.

        Returns:
          The new checkpoint.

        Raises:
          ValueError: nothing was learned yet, or no directory is known.
        """
        return self._state.save(directory)

    def __deepcopy__(self, memo: dict[int, Any]) -> QANCallback:
        """Return a callback for another training that shares agent, counters and directory."""
        memo[id(self)] = copy = type(self).of(self._state, self.explore)
        copy._restores_best, copy._total_steps = self._restores_best, self._total_steps
        copy._given = self._given
        return copy

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that it was made with, for `keras.saving`.

        What an agent has learned is no part of it: that is in the directory.

        Raises:
          TypeError: it was made by `load`, or has a policy that is no file.
        """
        if not self._given or isinstance(self._given["policy"], Policy):
            was = "made by QANCallback.load" if not self._given else "given a Policy object"
            raise TypeError(
                f"This QANCallback was {was}, which a config cannot hold; expected arguments that "
                "are plain data. Write the policy to a file with Policy.save and give its path, or "
                "use QANCallback.load(directory) on the other side."
            )
        config = {name: value for name, value in self._given.items() if value is not UNSET}
        for name in ("directory", "policy"):
            if isinstance(config.get(name), os.PathLike):
                config[name] = os.fspath(config[name])
        return config

    def __reduce__(self) -> Any:
        """Pickle the arguments, where nothing is learned; an agent that learns is saved as data."""
        if self.explore or self.episodes:
            raise TypeError(
                "A QANCallback that learns cannot be pickled. Give it a directory and use "
                "QANCallback.load(directory) on the other side."
            )
        return functools.partial(type(self), **self.get_config()), (), {"explore": False}


def _default_settings() -> CallbackConfig:
    return CallbackConfig(**presets.default())
