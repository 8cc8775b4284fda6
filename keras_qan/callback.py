"""QANCallback: Keras's hooks → Controller."""

from __future__ import annotations

import contextlib
import inspect
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_qan import actions as action_room
from keras_qan import observations as observation_room
from keras_qan.actions import Action
from keras_qan.agents import DQN, Agent
from keras_qan.brain import Brain, Settings
from keras_qan.controller import PARTS_OF_TRAINING, Decision
from keras_qan.observations import Observation
from keras_qan.rewards import LogLossDrop, Reward
from keras_qan.student import LossSums, find_student, require_keras_3

#: Steps between decisions while the length of the training is not known yet.
STEPS_WHILE_LENGTH_UNKNOWN = 25

#: Callbacks of Keras that set the learning rate too.
RIVALS = ("ReduceLROnPlateau", "LearningRateScheduler")


class QANCallback(keras.callbacks.Callback):
    """Tunes the learning rate while a model trains, and learns to do it better with each `fit`.

    Every `fit` is one episode: at each decision an agent observes the statistics of the model's
    weights, the rate, the time and the loss, and chooses what happens to the learning rate next;
    what the loss did afterwards is its reward. One callback can go through any number of `fit`
    calls, of fresh models or of the same; what it learned stays with it, and is written to
    `directory` after each. Copies (KerasTuner makes one for each trial) share what they learn.

    Args:
      directory: where agent, counters and logs live; made if missing, gone on from if not. Without
        it everything stays in memory.
      actions: what the agent can choose among; by default steps of the rate both ways, and none.
      observations: what the state is made of; by default the weight statistics of the first
        convolution (else the first kernel), the rate, and the state of the training.
      reward: what a decision is worth; by default the fall of the log loss, down to the last
        validation loss.
      agent: what decides; by default a double DQN.
      decide_every: optimizer steps between decisions; by default a twentieth of the training.
      rate_bounds: the lowest and the highest learning rate that is ever assigned.

    Attributes:
      explore: whether it acts at random with probability ε and learns. When set to False, it acts
        greedily and changes nothing of what it knows.
      context: what the log's records start with (`arm`, `phase`, `episode`, `seed`), where it is to
        be something else than the callback's own count.

    Raises:
      ValueError: an argument is out of range, or the directory holds a run with other settings.
      OSError: the directory cannot be written.

    Example:
      >>> import numpy as np
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
      >>> model.compile("sgd", "mse")
      >>> x, y = np.ones((64, 4)), np.ones((64, 1))
      >>> history = model.fit(x, y, epochs=5, verbose=0, callbacks=[QANCallback()])
      >>> sorted(history.history)
      ['learning_rate', 'loss']
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        actions: Sequence[Action] | None = None,
        observations: Sequence[Observation] | None = None,
        reward: Reward | None = None,
        agent: Agent | None = None,
        decide_every: int | None = None,
        rate_bounds: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        given = Settings(actions, observations, reward, agent, decide_every, rate_bounds)
        self._brain = Brain(given, _default_settings(), directory)
        self.explore = True
        self.context: dict[str, Any] = {}
        self._defers_writing = False
        self._reset()

    @classmethod
    def load(cls, directory: str | Path, explore: bool = True) -> QANCallback:
        """Loads what an earlier run learned.

        Args:
          directory: the earlier callback's directory.
          explore: whether to go on exploring, learning and writing there; if False, it acts
            greedily, frozen, and the directory is only read.

        Raises:
          FileNotFoundError: there is no run in the directory.
          CheckpointError: the run's checkpoints are damaged.
        """
        callback = cls.__new__(cls)
        keras.callbacks.Callback.__init__(callback)
        callback._brain = Brain.load(directory, _default_settings(), writable=explore)
        callback.explore = explore
        callback.context = {}
        callback._defers_writing = False
        callback._reset()
        return callback

    @property
    def episodes(self) -> int:
        """How many trainings it has learned from."""
        return self._brain.episodes

    @property
    def agent(self) -> Agent:
        """What decides."""
        return self._brain.controller.agent

    @property
    def settings(self) -> Settings:
        """What it is made of."""
        return self._brain.settings

    @property
    def directory(self) -> Path | None:
        """Where it is kept."""
        return self._brain.directory

    def has_finished(self, arm: str, phase: str, episode: int) -> bool:
        """Whether the directory held the records of that episode when it was opened."""
        return (arm, phase, episode) in self._brain.finished

    def log_to(self, other: QANCallback) -> None:
        """Writes records to the other callback's directory from now on."""
        self._brain.log = other._brain.log

    @contextlib.contextmanager
    def writing_later(self) -> Iterator[Callable[..., None]]:
        """Within the block, an episode's records wait for a call with what else is to be noted."""
        self._defers_writing = True
        try:
            yield lambda **more: self._brain.write_episode(self.explore, **more)
        finally:
            self._defers_writing = False

    def save(self, directory: str | Path | None = None) -> Path:
        """Writes what was learned, to its own directory or to another.

        Returns:
          The new checkpoint.

        Raises:
          ValueError: nothing was learned yet, or no directory is known.
        """
        return self._brain.save(directory)

    def __deepcopy__(self, memo: dict[int, Any]) -> QANCallback:
        """A callback for another training that shares agent, counters and directory."""
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        keras.callbacks.Callback.__init__(copy)
        copy._brain = self._brain
        copy.explore = self.explore
        copy.context = {}
        copy._defers_writing = False
        copy._reset()
        return copy

    def __reduce__(self) -> Any:
        """Refuses to be pickled: an agent is saved as data."""
        raise TypeError(
            "QANCallback cannot be pickled. Give it a directory and use "
            "QANCallback.load(directory) on the other side."
        )

    # Keras's hooks.

    def set_model(self, model: keras.Model) -> None:
        """Notes the model, and warns of callbacks in the same `fit` that set the rate too."""
        super().set_model(model)
        for neighbour in _callbacks_of_same_fit():
            kind = next((name for name in RIVALS if name in _class_names(neighbour)), None)
            if kind is not None and not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"{kind} sets the learning rate in the same fit as QANCallback: they will "
                    "overrule each other. Leave one of them out.",
                    UserWarning,
                    stacklevel=2,
                )

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Finds what is to be watched and steered."""
        self._started = time.perf_counter()
        had_warned = self._has_warned
        self._reset()
        self._has_warned = had_warned
        require_keras_3(self.model)
        observations = self._brain.controller.observations
        self._sums = LossSums(self.model)
        self._student = find_student(self.model, observations, self._sums)
        self._brain.begin_episode(len(self._student.kernels), self.explore, self.context)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Takes the first decision of the training."""
        self._epoch_start = self._step
        self._loss_is_kept = False
        if self._num_steps is None and self._first_epoch is None:
            self._first_epoch = epoch
            self._plan()
            num_decisions = self._num_decisions
            self._log(self._controller.begin(self._student, num_decisions, self.explore))

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Takes a decision when one is due."""
        self._step = self._epoch_start + batch + 1
        loss = (logs or {}).get("loss", 0.0)
        self._sums.add(loss)
        if self._step < self._due and math.isfinite(loss):
            return
        if self._first_loss is None:
            self._first_loss = self._controller.mean_loss(self._student)
            self._check_first_loss()
            self._controller.start_from(self._first_loss)
            self._hook_every = batch + 1
        if not math.isfinite(loss):
            self._stop_diverged()
            return
        if self._step >= self._last_decision + self._decide_every:
            if self._may_decide():
                self._decide()
        else:
            self._controller.mark(self._student)
            self._due = self._last_decision + self._decide_every

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Keeps the epoch's last losses before validation begins its own sums."""
        self._keep_loss()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keeps the epoch's last losses, notes its length, and reports the rate as Keras does."""
        self._keep_loss()
        logs = {} if logs is None else logs
        rate = float(self._student.rates[0].numpy())
        logs["learning_rate"] = rate
        self._validation_loss = logs.get("val_loss", self._validation_loss)
        if self._num_steps is None:
            self._steps_an_epoch = self._step - self._epoch_start
            self._plan()
        self._brain.record("epochs", epoch=epoch, step=self._step, **_floats(logs))
        self._brain.scalar("learning_rate", rate, self._step)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Closes the episode and writes down what was learned."""
        if self._student is None or self._first_epoch is None or self._step == 0:
            self._controller.abandon()
            return
        final_loss = None
        if self._has_diverged:
            final_loss = math.nan
        elif self._controller.reward.uses_validation:
            final_loss = self._validation_loss
        last = self._controller.end(self._student, self._num_decisions, self.explore, final_loss)
        self._count_reward(last)
        self._brain.end_episode(
            self.explore,
            steps=self._step,
            decisions=self._decisions,
            initial_learning_rate=self._initial_rate,
            final_loss=last.loss,
            val_loss=self._validation_loss,
            last_reward=last.reward,
            td_loss=last.td_loss,
            diverged=self._has_diverged,
            seconds=time.perf_counter() - self._started,
            **{"return": self._return},
        )
        self._student = None
        if not self._defers_writing:
            self._brain.write_episode(self.explore)

    # What they are made of.

    def _reset(self) -> None:
        """What belongs to one `fit` alone."""
        self._controller = self._brain.controller
        self._student: Any = None
        self._step = self._epoch_start = self._last_decision = self._decisions = 0
        self._due = self._hook_every = 1
        self._first_epoch: int | None = None
        self._steps_an_epoch: int | None = None
        self._num_steps: int | None = None
        self._num_decisions = PARTS_OF_TRAINING
        self._decide_every = self._brain.settings.decide_every or STEPS_WHILE_LENGTH_UNKNOWN
        self._first_loss: float | None = None
        self._validation_loss: float | None = None
        self._initial_rate = self._last_rate = math.nan
        self._return = 0.0
        self._loss_is_kept = self._has_diverged = self._has_warned = False

    def _plan(self) -> None:
        """Works out how long the training is and when decisions are due, as far as is known."""
        steps = self._steps_an_epoch or self.params.get("steps")
        num_epochs = self.params.get("epochs", 1) - (self._first_epoch or 0)
        asked = self._brain.settings.decide_every
        if steps is None:
            self._decide_every = asked or STEPS_WHILE_LENGTH_UNKNOWN
            return
        self._num_steps = max(steps * num_epochs, 1)
        self._decide_every = asked or max(1, round(self._num_steps / PARTS_OF_TRAINING))
        self._num_decisions = max(1, round(self._num_steps / self._decide_every))

    def _progress(self) -> float:
        if self._num_steps is not None:
            return min(self._step / self._num_steps, 1.0)
        return 0.0  # in a first epoch of unknown length

    def _may_decide(self) -> bool:
        """Whether enough of the training is left for a decision to show."""
        if self._num_steps is None:
            return True
        return self._num_steps - self._step >= max(self._decide_every / 2, 1)

    def _decide(self) -> None:
        # Where every call of Keras's hook brings a decision, no loss in between is its own doing.
        delayed = self._decide_every <= self._hook_every
        decision = self._controller.decide(
            self._student, self._progress(), self._num_decisions, self.explore, delayed
        )
        self._last_decision = self._step
        self._due = self._step + (self._decide_every if delayed else 1)
        changed = not math.isclose(decision.rate_found, self._last_rate, rel_tol=1e-5)
        if changed and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"QAN left the learning rate at {self._last_rate:.6g} and found it at "
                f"{decision.rate_found:.6g}: another callback sets it too (ReduceLROnPlateau, "
                "LearningRateScheduler?). Leave one of them out.",
                UserWarning,
                stacklevel=2,
            )
        self._count_reward(decision)
        self._log(decision)

    def _count_reward(self, decision: Decision) -> None:
        if math.isfinite(decision.reward):
            self._return += decision.reward

    def _stop_diverged(self) -> None:
        self._has_diverged = True
        self.model.stop_training = True
        warnings.warn(
            f"The training loss is not finite at step {self._step}, with learning rate "
            f"{self._last_rate:.3g}: QAN ends this training, and counts it as its worst outcome. "
            "Lower the upper one of rate_bounds if this keeps happening.",
            RuntimeWarning,
            stacklevel=2,
        )

    def _check_first_loss(self) -> None:
        if self._first_loss is not None and self._first_loss <= 0.0:
            warnings.warn(
                f"The first training loss is {self._first_loss:.4g}; expected a positive one, as "
                "QAN's state and reward use its logarithm. Add a constant to the loss.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _keep_loss(self) -> None:
        if not self._loss_is_kept and self._student is not None:
            self._controller.keep_loss(self._student)
            self._loss_is_kept = True

    def _log(self, decision: Decision) -> None:
        if self._decisions == 0:
            self._initial_rate = decision.rate_found
        self._last_rate = decision.rate
        action = self._controller.actions[decision.action]
        self._brain.record_decision(
            decision,
            action_room.label(action),
            self._decisions,
            self._step,
            not (self.explore and decision.epsilon > 0.0),
        )
        self._decisions += 1


def _default_settings() -> Settings:
    return Settings(
        actions=action_room.default(),
        observations=observation_room.default(),
        reward=LogLossDrop(),
        agent=DQN(),
        decide_every=None,
        rate_bounds=(1e-6, 1.0),
    )


def _floats(logs: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}


def _class_names(value: object) -> set[str]:
    return {cls.__name__ for cls in type(value).__mro__}


def _callbacks_of_same_fit() -> list[Any]:
    """The callbacks beside ours; Keras tells a callback its model but not its neighbours."""
    frame = inspect.currentframe()
    while frame is not None:
        container = frame.f_locals.get("self")
        if isinstance(container, keras.callbacks.CallbackList):
            return list(container.callbacks)
        frame = frame.f_back
    return []
