"""One training of a run, here or in a worker: who steers it, from which seed, what it came to."""

from __future__ import annotations

import copy
import hashlib
import pickle
import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_qan.agents.remote import TransitionCollector as GatheringAgent
from keras_qan.experiments import baselines as arm_room
from keras_qan.experiments.fit_checkpoint import FitCheckpoint, FitCheckpointCallback
from keras_qan.experiments.model_factory import ModelFactory
from keras_qan.experiments.task import Task
from keras_qan.parallel import Call
from keras_qan.qan.agent_state import AgentState
from keras_qan.qan.callback import QANCallback
from keras_qan.qan.config import CallbackConfig
from keras_qan.qan.model_access import ModelAccess
from keras_qan.qan.presets import default
from keras_qan.storage.run_log import InMemoryRunLog as GatheringLog
from keras_qan.utils.progress import Progress


@dataclass(frozen=True)
class EpisodeSpec:
    """A training of a run.

    Attributes:
      arm: who steers it, from `keras_qan.experiments.baselines.NAMES`.
      phase: "train" or "evaluate".
      number: within its phase.
      seed: of the model's weights and the order of batches.
      rate: the initial learning rate; by default the one that `build_model` compiles with.
    """

    arm: str
    phase: str
    number: int
    seed: int
    rate: float | None = None

    def context(self) -> dict[str, Any]:
        """What its records start with."""
        return {
            "arm": self.arm,
            "phase": self.phase,
            "episode": self.number,
            "seed": self.seed,
        }


class EpisodeRunner:
    """What plays of one task need: compiled students, and a callback for each arm.

    Args:
      task: what is trained.
      learner: the callback that learns, and whose policy is evaluated.
      seed: where the random arm's numbers start.
      midway: where trainings that are not over are kept; None for nowhere.
    """

    def __init__(
        self, task: Task, learner: QANCallback, seed: int, midway: FitCheckpoint | None = None
    ) -> None:
        self.task, self.learner = task, learner
        self.students = ModelFactory(task.build_model, task.validation)
        self._seed = seed
        self._midway = midway
        self._callbacks: dict[str, QANCallback] = {}

    def play(self, play: EpisodeSpec, progress: Progress) -> QANCallback:
        """Trains once and writes its records.

        Returns:
          The callback that steered it.
        """
        model = self.students.fresh(play.seed)
        if play.rate is not None:
            model.optimizer.learning_rate = play.rate
        callback = self._steering(play)
        callback.context = play.context()
        self._train(model, callback, play, progress)
        return callback

    def _steering(self, play: EpisodeSpec) -> QANCallback:
        if play.phase == "train":
            self.learner.explore = True
            return self.learner
        if play.arm not in self._callbacks:
            self._callbacks[play.arm] = self._evaluated(play.arm)
        callback = self._callbacks[play.arm]
        if play.arm == "random":
            # Its numbers depend on the play alone, whoever plays it and whatever was before.
            callback.agent.restore({"num_choices": np.asarray(play.number << 32)})
        return callback

    def _evaluated(self, arm: str) -> QANCallback:
        if arm == "qan":
            callback = copy.deepcopy(self.learner)
        else:
            callback = arm_room.scripted(arm, self.learner, self._seed)
            callback.log_to(self.learner)
        callback.explore = False
        return callback

    def _train(
        self, model: keras.Model, callback: QANCallback, play: EpisodeSpec, progress: Progress
    ) -> None:
        """One `fit`; its record is written when the test set, if its turn has come, was seen."""
        task = self.task
        train, steps = task.train(play.seed), None
        if task.selector is not None and callback.selector is task.selector:
            task.selector.restart(play.seed)
            train, steps = task.selected(), task.steps or task.selector.steps_per_epoch
        watchers = [callback, progress.epochs()]
        first = 0
        if self._midway is not None:
            keeper = FitCheckpointCallback(self._midway, callback)
            watchers.append(keeper)
            first = keeper.epoch
        if steps is None:
            # The order of an epoch may depend on how often the batches were gone through.
            for _ in range(first):
                for _ in train:
                    pass
        with callback.writing_later() as write, warnings.catch_warnings():
            # A training that diverges is an outcome here: its record and the table say so.
            warnings.filterwarnings("ignore", "The training loss is not finite", RuntimeWarning)
            model.fit(
                train,
                steps_per_epoch=steps,
                validation_data=task.validation,
                epochs=task.epochs,
                initial_epoch=first,
                shuffle=False,  # the batches are shuffled already, by their seed
                verbose=0,
                callbacks=watchers,
            )
            scores = {}
            if task.test is not None and play.phase == "evaluate":
                scores = model.evaluate(task.test, verbose=0, return_dict=True)
            more = {f"test_{name}": float(value) for name, value in scores.items()}
            if self._midway is None:
                write(**more)
                return
            with self._midway.held():
                write(**more)
                self._midway.clear()


# In a worker.


@dataclass(frozen=True, eq=False)
class EpisodeResult:
    """What a worker sends back of a play.

    Attributes:
      log: its records; see `RunLog.gathered`.
      values: of its own record.
      transitions: what there is to learn from; empty for an evaluation.
    """

    log: dict[str, Any]
    values: dict[str, Any]
    transitions: dict[str, np.ndarray]


def call_for(
    play: EpisodeSpec, task: Task, learner: QANCallback, seed: int, stream: int = 0
) -> Call:
    """The play as a task for any engine.

    Args:
      play: the training.
      task: what is trained; it must say its `source`.
      learner: whose present policy is played; its agent is built.
      seed: see `Stage`.
      stream: see `DQN.arrays_to_act`.

    Raises:
      ValueError: the task does not say how another process makes it.
    """
    if task.source is None:
        raise ValueError(
            "The task has no source, so that no worker could make it; expected for example "
            "Task(..., source=Call('my_module:make_task', {'size': 3})), with a function that "
            "returns the same task. Or use engine=local with workers=1."
        )
    return Call(
        f"{__name__}:play_call",
        {
            "source": task.source,
            "data": learner.state.as_data(),
            "arrays": learner.state.arrays_to_act(stream),
            "play": play,
            "seed": seed,
        },
    )


#: The last stage of this process: whoever plays the same task again need not compile anew.
_runner: tuple[str, EpisodeRunner] | None = None


def run_episode_call(
    source: Call, data: dict[str, Any], arrays: dict[str, np.ndarray], play: EpisodeSpec, seed: int
) -> EpisodeResult:
    """Plays with a policy from elsewhere; what `call_for` names.

    Raises:
      TypeError: the source gave no task.
    """
    global _runner
    stable = (source.function, source.arguments, data["settings"], data["num_kernels"], seed)
    key = hashlib.sha256(pickle.dumps(stable)).hexdigest()
    if _runner is None or _runner[0] != key:
        _runner = (key, _make_runner(source, data, arrays, seed))
    stage = _runner[1]
    brain = stage.learner.state
    log, agent = brain.log, brain.controller.agent
    assert isinstance(log, GatheringLog)
    assert isinstance(agent, GatheringAgent)
    brain.restore_agent_later(arrays)
    brain.steps, brain.episodes = 0, data["episodes"]
    callback = stage.play(play, Progress())
    callback.state.steps = 0
    return EpisodeResult(log.kept, callback.state.last_episode, agent.take())


def _make_runner(
    source: Call, data: dict[str, Any], arrays: dict[str, np.ndarray], seed: int
) -> EpisodeRunner:
    task = source.perform()
    if not isinstance(task, Task):
        raise TypeError(
            f"{source.function} returned {task!r}; expected the "
            "keras_qan.experiments.runner.Task that it is the source of."
        )
    brain = AgentState.of(arrays, data, CallbackConfig(**default()), task.selector)
    brain.replace_agent(GatheringAgent(brain.controller.agent))
    brain.log = GatheringLog()
    return EpisodeRunner(task, QANCallback.of(brain, explore=True), seed)


def build_agent(learner: QANCallback, stage: EpisodeRunner, seed: int) -> None:
    """Builds the agent, so that it can be handed out and can learn; from the seed's model."""
    controller = learner.state.controller
    model = stage.students.fresh(seed)
    access = ModelAccess(model, controller.observations)
    learner.state.begin_episode(access.num_kernels, False, {})


def learn_from_result(learner: QANCallback, played: EpisodeResult) -> None:
    """Lets the learner learn from an episode that a worker played, and writes its records."""
    learner.state.learn_from(played.transitions)
    learner.state.end_episode(True, **played.values)
    learner.state.steps = write_records(learner, played, learner.state.steps)


def write_records(learner: QANCallback, played: EpisodeResult, first_step: int) -> int:
    """Writes down the records of a play; the steps of its scalars count on from `first_step`.

    Returns:
      The step that the next play's count on from.
    """
    log = learner.state.log
    if log is not None:
        log.take_up(played.log, first_step)
        log.write()
    return first_step + int(played.values["steps"])
