"""State shared by all copies of a `QANCallback`: agent, counters and directory."""

from __future__ import annotations

import copy
import importlib
import math
import sys
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_qan.actions import Option, label
from keras_qan.agents import Agent
from keras_qan.agents.remote import SharedAgent
from keras_qan.qan.config import CallbackConfig, as_json
from keras_qan.qan.controller import Controller
from keras_qan.qan.rule import Decision
from keras_qan.storage import checkpoint
from keras_qan.storage.lock import Lock
from keras_qan.storage.run_log import RunLog
from keras_qan.storage.serialization import is_configurable
from keras_qan.utils.backend import backend_name
from keras_qan.utils.validation import check_folder

__all__ = ["RETURNS_KEPT", "AgentState"]

#: Returns of single trainings that are kept to tell whether the agent still gains.
RETURNS_KEPT = 100


class AgentState:
    """Settings, controller, counters and directory.

    Attributes:
      episodes: trainings that it learned from.
      steps: the models' steps in all trainings so far.
      returns: returns of the last trainings that it learned from, `RETURNS_KEPT` at most.
      log: the log of records, or None.
      finished: (arm, phase, episode) of each episode that the directory held already.
      last_episode: the last episode's record.
      selector: the selector that actions or observations are bound to, or None.

    Args:
      given: the user's arguments.
      defaults: the values of arguments that were left out.
      directory: the run directory, or None.
      parameters: the agent's initial parameters, unless the directory holds later ones; see
        `Agent.adopt`. Defaults to none.
      selector: the selector to bind an earlier run's actions and observations to. Defaults to none.

    Raises:
      ValueError: the settings are unusable, or the directory holds a run with others.
      OSError: the directory cannot be written.
      DirectoryInUseError: another process writes to it.
    """

    STEM = "agent"

    def __init__(
        self,
        given: CallbackConfig,
        defaults: CallbackConfig,
        directory: str | Path | None,
        parameters: dict[str, np.ndarray] | None = None,
        selector: Any = None,
    ) -> None:
        given.check()
        self.selector: Any = given.selector(selector)
        self.workers: Any = None
        folder = None if directory is None else check_folder("QANCallback's directory", directory)
        self.directory = None if folder is None else _directory_here(folder)
        self.episodes = 0
        self.steps = 0
        self.returns: list[float] = []
        self._arrays: dict[str, np.ndarray] | None = None
        self._parameters = parameters
        self._num_kernels: int | None = None
        self._is_built = False
        self.log: RunLog | None = None
        self.finished: set[tuple[str, str, int]] = set()
        self.last_episode: dict[str, Any] = {}
        saved = None
        if self.directory is not None:
            _check_writable(self.directory)
            # The lock is held until the last callback that shares this state is gone.
            weakref.finalize(self, Lock(self.directory).release)
            saved = checkpoint.read_newest(self.directory / "agent", self.STEM)
        self.settings = given.over(defaults)
        if given.observations is None and self.selector is not None and self.selector.summary_size:
            parts = (*(self.settings.observations or ()), self.selector.observation())
            self.settings = replace(self.settings, observations=parts)
        if saved is not None:
            self._take_over(given, *saved)
        if self.directory is not None:
            self.log = RunLog(self.directory)
            self.finished = self.log.keep_finished(self.episodes)
        self._make_controller()

    @classmethod
    def load(
        cls, directory: str | Path, defaults: CallbackConfig, writable: bool, selector: Any = None
    ) -> AgentState:
        """Load a run.

        Args:
          directory: the run directory.
          defaults: settings for a run that left some out.
          writable: whether to go on writing there.
          selector: the selector that the run's selection actions act on. Defaults to none.

        Raises:
          FileNotFoundError: there is no run.
          ValueError: the run's actions do not fit the selector.
          CheckpointError: its checkpoints are damaged.
        """
        folder = Path(directory) / "agent"
        if not checkpoint.series(folder, cls.STEM):
            raise FileNotFoundError(
                f"{directory} holds no agent; expected {folder}/{cls.STEM}-*.ckpt, which "
                "QANCallback(directory=...) writes after every fit."
            )
        if writable:
            return cls(CallbackConfig(), defaults, directory, selector=selector)
        saved = checkpoint.read_newest(folder, cls.STEM)
        assert saved is not None
        return cls.of(*saved, defaults, selector)

    @classmethod
    def of(
        cls,
        arrays: dict[str, np.ndarray],
        data: dict[str, Any],
        defaults: CallbackConfig,
        selector: Any = None,
    ) -> AgentState:
        """Return a state without a directory, from what `save` writes.

        Raises:
          ValueError: it does not fit the selector, or is not what this version expects.
        """
        state = cls(CallbackConfig(), defaults, None, selector=selector)
        state._take_over(CallbackConfig(), arrays, data)
        state._make_controller()
        return state

    def _make_controller(self) -> None:
        settings = self.settings
        # The callback's own agent, even where one object is handed to several callbacks.
        agent = copy.deepcopy(settings.agent) if is_configurable(settings.agent) else settings.agent
        self.controller = Controller(
            agent,  # type: ignore[arg-type]
            settings.actions or (),
            settings.observations or (),
            settings.reward,  # type: ignore[arg-type]
            settings.rate_bounds or (0.0, math.inf),
            settings.schedule,
        )

    def _take_over(
        self, given: CallbackConfig, arrays: dict[str, np.ndarray], data: dict[str, Any]
    ) -> None:
        """Resume from a checkpoint, unless the user asks for something else than it holds."""
        # The classes of selection actions are registered when their package is imported.
        if backend_name() == "tensorflow":
            importlib.import_module("keras_qan.selection")
        try:
            saved = CallbackConfig.from_config(data["settings"])
            saved.check()
            self.episodes, self.steps = int(data["episodes"]), int(data["steps"])
            self._num_kernels = int(data["num_kernels"])
            self.returns = [float(value) for value in data.get("returns", [])]
        except Exception as error:  # any error means that the checkpoint is unusable
            raise checkpoint.CheckpointError(
                f"The checkpoint does not hold what this version expects: {error}."
            ) from error
        given.require_in(saved, self.directory)
        self.settings = saved
        self._bind()
        self._arrays = arrays

    def _bind(self) -> None:
        """Bind actions and observations of a directory, where a selector is known."""
        if self.selector is not None:
            self.settings = self.settings.bound_to(self.selector)

    def check_selector(self) -> None:
        """Raise ValueError where an action or observation has no selector yet."""
        self.settings.check_bound()

    # One episode.

    def join(self, workers: Any) -> None:
        """Share the chief's agent, settings and counts with all workers of a training.

        The others let go of agent and directory, and take over the chief's settings and counts.

        Args:
          workers: the workers that train the model, or None where one process does it all.

        Raises:
          ValueError: it has been in trainings with others, or alone, or has options: their ends
            depend on losses, which the workers' sums may round differently.
        """
        if workers is self.workers:
            return
        if self.workers is not None or self._is_built:
            raise ValueError(
                "A QANCallback that has been in trainings by itself got a model of a multi-worker "
                "strategy, or the other way round; expected one or the other for all its life. "
                "Save it, and go on with QANCallback.load(directory) in another process."
            )
        assert workers is not None
        self.workers = workers
        shared = workers.broadcast(
            {
                "settings": self.settings.config(),
                "episodes": self.episodes,
                "steps": self.steps,
                "num_kernels": self._num_kernels,
                "returns": self.returns,
                "finished": sorted(self.finished),
            }
        )
        if not workers.is_chief:
            self.directory = self.log = self._arrays = self._parameters = None
            if as_json(self.settings.config()) != shared["settings"]:
                self.settings = CallbackConfig.from_config(shared["settings"])
                self._bind()
                self._make_controller()
            self.episodes, self.steps = shared["episodes"], shared["steps"]
            self._num_kernels, self.returns = shared["num_kernels"], shared["returns"]
            self.finished = {(arm, phase, number) for arm, phase, number in shared["finished"]}
        options = [action for action in self.controller.actions if isinstance(action, Option)]
        if options:
            raise ValueError(
                f"QANCallback got the option {label(options[0])} in a training of several workers; "
                "expected actions of one decision there, on which all workers agree. Use Decay, "
                "Raise and Hold, or a strategy within one process."
            )
        self.controller.agent = SharedAgent(self.controller.agent, workers)

    def begin_episode(self, num_kernels: int, explore: bool, context: dict[str, Any]) -> None:
        """Prepare the agent for a model with so many watched kernels.

        Raises:
          ValueError: the agent knows states of another size.
        """
        self._is_built = True
        first = self._num_kernels if self._num_kernels is not None else num_kernels
        self.controller.build(first)
        if self._arrays is not None:
            self.controller.agent.restore(self._arrays)
            self._arrays = None
            self._parameters = None
        if self._parameters is not None:
            self.controller.agent.adopt(self._parameters)
            self._parameters = None
        self.controller.build(num_kernels)
        self._num_kernels = num_kernels
        self.controller.abandon()
        if self.log is not None:
            self.log.drop()
            defaults = {"arm": "qan", "phase": "train", "episode": self.episodes, "seed": 0}
            if not explore:
                defaults["phase"] = "evaluate"
            self.log.context = defaults | context

    def record(self, file: str, **values: Any) -> None:
        """Add a record to the log, if there is one."""
        if self.log is not None:
            self.log.record(file, **values)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Add a TensorBoard scalar; `step` counts within the episode."""
        if self.log is not None:
            self.log.scalar(name, value, self.steps + step)

    def record_decision(self, decision: Decision, number: int, step: int, greedy: bool) -> None:
        """Log one decision, which has to be the same on all workers."""
        if self.workers is not None:
            self.workers.check_equal(
                "step, action, learning rate", step, decision.action, decision.rate
            )
        if self.log is None:
            return
        action = label(self.controller.actions[decision.action])
        self.log.record(
            "decisions",
            decision=number,
            step=step,
            learning_rate=decision.rate,
            action=action,
            action_index=decision.action,
            reward=decision.reward,
            loss=decision.loss,
            q_values=decision.q_values,
            epsilon=decision.epsilon,
            td_loss=decision.td_loss,
            greedy=greedy,
            **_slope_fields(decision),
            **_option_field(decision),
            **self._shares(),
        )
        self.scalar("qan/action", decision.action, step)
        for name in ("reward", "loss", "epsilon", "td_loss"):
            self.scalar(f"qan/{name}", getattr(decision, name), step)
        self.scalar("learning_rate", decision.rate, step)
        for name, value in (_slope_fields(decision) | _option_field(decision)).items():
            self.scalar(f"qan/{name}", value, step)
        for index, value in enumerate(decision.q_values):
            self.scalar(f"qan/q_values/{index}", value, step)

    def _shares(self) -> dict[str, Any]:
        """Return the share of each group of examples in the batches before a decision, by name."""
        if self.selector is None or not self.selector.groups:
            return {}
        shares = self.selector.recent_shares()
        return {"shares": {name: round(value, 4) for name, value in shares.items()}}

    def end_episode(self, learned: bool, **values: Any) -> None:
        """Count the episode; `write_episode` writes it."""
        self.last_episode = values
        if learned:
            self.episodes += 1
            self.returns = [*self.returns, values["return"]][-RETURNS_KEPT:]

    def write_episode(self, learned: bool, **more: Any) -> None:
        """Write the last episode's records, and the checkpoint if it was learned from."""
        values = self.last_episode | more
        if self.log is not None:
            self.scalar("qan/return", values["return"], values["steps"])
            self.record("episodes", **values)
            self.log.write()
        self.steps += values["steps"]
        if learned and self.directory is not None:
            self.save(None)

    def save(self, directory: str | Path | None) -> Path:
        """Write a checkpoint to the directory, or to another."""
        target = self.directory if directory is None else Path(directory)
        if target is None:
            raise ValueError(
                "This QANCallback was made without a directory; say where: save('runs/mine')."
            )
        if self._num_kernels is None or self._arrays is not None:
            raise ValueError(
                "There is nothing to save yet: the agent is built in the first fit. Train first."
            )
        arrays = self.controller.agent.arrays()
        return checkpoint.write_next(target / "agent", self.STEM, arrays, self.as_data())

    def as_data(self) -> dict[str, Any]:
        """Return settings and counters as plain data."""
        return {
            "settings": self.settings.config(),
            "episodes": self.episodes,
            "steps": self.steps,
            "num_kernels": self._num_kernels,
            "returns": self.returns,
        }

    # Episodes in other processes.

    def arrays_to_act(self, stream: int) -> dict[str, np.ndarray]:
        """Return what the agent of another process needs to act as this one; see `Agent`."""
        return self.controller.agent.arrays_to_act(stream)

    def restore_agent_later(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore the agent from these arrays when the next episode begins."""
        self._arrays = arrays

    def replace_agent(self, agent: Agent) -> None:
        """Let another agent decide in this process, for example one that gathers transitions."""
        self.controller.agent = agent

    def log_to(self, other: AgentState) -> None:
        """Write records where the other one writes them."""
        self.log = other.log

    def learn_from(self, transitions: dict[str, np.ndarray]) -> None:
        """Go through an episode that another process played: look at each state, then learn.

        Args:
          transitions: see `agents.remote.TransitionCollector.take`.
        """
        agent = self.controller.agent
        for observation, action, reward, discount in zip(*transitions.values(), strict=True):
            agent.act(observation, True)
            agent.learn(observation, int(action), float(reward), float(discount))


def _slope_fields(decision: Decision) -> dict[str, float]:
    if decision.slope is None:
        return {}
    ratio, error = decision.slope
    return {"slope_ratio": ratio, "slope_error": error}


def _option_field(decision: Decision) -> dict[str, int]:
    number = decision.option_decision
    return {} if number is None else {"option_decision": number}


def _directory_here(directory: Path) -> Path:
    """Return where this process writes: not every worker of a group writes the run directory."""
    if backend_name() != "tensorflow" or "tensorflow" not in sys.modules:
        return directory
    from keras_qan.distribute import worker_directory

    return worker_directory(directory)


def _check_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise OSError(
            f"The directory {str(directory)!r} cannot be written: {error}. Give QANCallback a "
            "folder that you may write to."
        ) from error
