"""One training of a run, in this process or in a worker's."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_qan.agents.remote import TransitionCollector
from keras_qan.experiments.baselines import make_baseline
from keras_qan.experiments.fit_checkpoint import FitCheckpoint, FitCheckpointCallback
from keras_qan.experiments.model_factory import ModelFactory
from keras_qan.experiments.task import Task
from keras_qan.parallel import Call
from keras_qan.qan.agent_state import AgentState
from keras_qan.qan.callback import QANCallback
from keras_qan.qan.config import CallbackConfig
from keras_qan.qan.model_access import ModelAccess
from keras_qan.qan.presets import default
from keras_qan.storage.run_log import InMemoryRunLog
from keras_qan.utils.progress import Progress


@dataclass(frozen=True)
class EpisodeSpec:
    """A training of a run.

    Attributes:
      arm: of the comparison, from `keras_qan.experiments.baselines.NAMES`.
      phase: "train" or "evaluate".
      number: within its phase.
      seed: of the model's weights and the order of batches.
      rate: the initial learning rate. Defaults to the one that `build_model` compiles with.
    """

    arm: str
    phase: str
    number: int
    seed: int
    rate: float | None = None

    def context(self) -> dict[str, Any]:
        """Return the values that its records start with."""
        return {
            "arm": self.arm,
            "phase": self.phase,
            "episode": self.number,
            "seed": self.seed,
        }


class EpisodeRunner:
    """Runs episodes of one task; keeps the compiled model, and a callback for each arm.

    Args:
      task: the training.
      learner: the callback that learns, and whose policy is evaluated.
      seed: seed of the random arm.
      checkpoint: of trainings that are not over. Defaults to none.
    """

    def __init__(
        self, task: Task, learner: QANCallback, seed: int, checkpoint: FitCheckpoint | None = None
    ) -> None:
        self.task, self.learner = task, learner
        self.models = ModelFactory(task.build_model, task.validation)
        self._seed = seed
        self._checkpoint = checkpoint
        self._callbacks: dict[str, QANCallback] = {}

    def run(self, spec: EpisodeSpec, progress: Progress) -> QANCallback:
        """Train once, write the records, and return the callback of the arm."""
        model = self.models.build(spec.seed)
        if spec.rate is not None:
            model.optimizer.learning_rate = spec.rate
        callback = self._choose_callback(spec)
        callback.context = spec.context()
        self._train(model, callback, spec, progress)
        return callback

    def build_agent(self) -> None:
        """Build the learner's agent, so that it can be handed out and can learn."""
        state = self.learner.state
        controller = state.controller
        model = self.models.build(self._seed)
        access = ModelAccess(model, controller.observations)
        state.begin_episode(access.num_kernels, False, {})

    def _choose_callback(self, spec: EpisodeSpec) -> QANCallback:
        if spec.phase == "train":
            self.learner.explore = True
            return self.learner
        if spec.arm not in self._callbacks:
            self._callbacks[spec.arm] = self._make_evaluated(spec.arm)
        callback = self._callbacks[spec.arm]
        if spec.arm == "random":
            # Its numbers depend on the episode alone, not on the process or earlier episodes.
            callback.agent.restore({"num_choices": np.asarray(spec.number << 32)})
        return callback

    def _make_evaluated(self, arm: str) -> QANCallback:
        if arm == "qan":
            callback = copy.deepcopy(self.learner)
        else:
            callback = make_baseline(arm, self.learner, self._seed)
            callback.log_to(self.learner)
        callback.explore = False
        return callback

    def _train(
        self, model: keras.Model, callback: QANCallback, spec: EpisodeSpec, progress: Progress
    ) -> None:
        """Call `fit`; the record is written once the test set, if its turn has come, was seen."""
        task = self.task
        train, steps = task.train(spec.seed), None
        if task.selector is not None and callback.selector is task.selector:
            task.selector.restart(spec.seed)
            train, steps = task.selected, task.steps or task.selector.steps_per_epoch
        callbacks = [callback, progress.epochs()]
        first = 0
        if self._checkpoint is not None:
            keeper = FitCheckpointCallback(self._checkpoint, callback)
            callbacks.append(keeper)
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
                callbacks=callbacks,
            )
            scores = {}
            if task.test is not None and spec.phase == "evaluate":
                scores = model.evaluate(task.test, verbose=0, return_dict=True)
            more = {f"test_{name}": float(value) for name, value in scores.items()}
            if self._checkpoint is None:
                write(**more)
                return
            with self._checkpoint.hold():
                write(**more)
                self._checkpoint.clear()


@dataclass(frozen=True, eq=False)
class EpisodeResult:
    """An episode as a worker sends it back.

    Attributes:
      log: its records; see `RunLog.state`.
      values: of its own record.
      transitions: to learn from; empty for an evaluation.
    """

    log: dict[str, Any]
    values: dict[str, Any]
    transitions: dict[str, np.ndarray]


def make_call(
    spec: EpisodeSpec, task: Task, learner: QANCallback, seed: int, stream: int = 0
) -> Call:
    """Return an episode as a task for any executor.

    Args:
      spec: the episode.
      task: the training; it must say its `source`.
      learner: whose present policy is followed; its agent is built.
      seed: see `EpisodeRunner`.
      stream: of random numbers; see `DQN.arrays_to_act`. Defaults to 0.

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
        f"{__name__}:run_call",
        {
            "source": task.source,
            "data": learner.state.as_data(),
            "arrays": learner.state.arrays_to_act(stream),
            "spec": spec,
            "seed": seed,
        },
    )


#: The last runner of this process, by a digest of its task, so that the same need not be compiled
#: again.
_runner: tuple[str, EpisodeRunner] | None = None


def run_call(
    source: Call, data: dict[str, Any], arrays: dict[str, np.ndarray], spec: EpisodeSpec, seed: int
) -> EpisodeResult:
    """Run an episode with a policy from another process; see `make_call`.

    Raises:
      TypeError: the source gave no task.
    """
    global _runner
    key = _digest([source, data["settings"], data["num_kernels"], seed])
    if _runner is None or _runner[0] != key:
        _runner = (key, _make_runner(source, data, arrays, seed))
    runner = _runner[1]
    state = runner.learner.state
    log, agent = state.log, state.controller.agent
    assert isinstance(log, InMemoryRunLog)
    assert isinstance(agent, TransitionCollector)
    state.restore_agent_later(arrays)
    state.steps, state.episodes = 0, data["episodes"]
    callback = runner.run(spec, Progress())
    callback.state.steps = 0
    return EpisodeResult(log.kept, callback.state.last_episode, agent.take())


def _digest(value: Any) -> str:
    """Return the SHA-256 sum of the plain data that a `Call` can hold."""

    def encode(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            content = hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest()
            return ["array", str(part.dtype), part.shape, content]
        if isinstance(part, np.generic):
            return ["scalar", str(part.dtype), part.item()]
        if isinstance(part, bytes):
            return ["bytes", part.hex()]
        values = {each.name: getattr(part, each.name) for each in dataclasses.fields(part)}
        return [type(part).__qualname__, values]

    return hashlib.sha256(json.dumps(value, default=encode).encode()).hexdigest()


def _make_runner(
    source: Call, data: dict[str, Any], arrays: dict[str, np.ndarray], seed: int
) -> EpisodeRunner:
    task = source.perform()
    if not isinstance(task, Task):
        raise TypeError(
            f"{source.function} returned {task!r}; expected the "
            "keras_qan.experiments.runner.Task that it is the source of."
        )
    state = AgentState.of(arrays, data, CallbackConfig(**default()), task.selector)
    state.replace_agent(TransitionCollector(state.controller.agent))
    state.log = InMemoryRunLog()
    return EpisodeRunner(task, QANCallback.of(state, explore=True), seed)


def learn_from_result(learner: QANCallback, result: EpisodeResult) -> None:
    """Let the learner learn from a worker's episode, and write its records."""
    learner.state.learn_from(result.transitions)
    learner.state.end_episode(True, **result.values)
    learner.state.steps = write_records(learner, result, learner.state.steps)


def write_records(learner: QANCallback, result: EpisodeResult, first_step: int) -> int:
    """Write the records of an episode; the steps of its scalars count on from `first_step`.

    Returns:
      The step that the next episode's count on from.
    """
    log = learner.state.log
    if log is not None:
        log.restore(result.log, first_step)
        log.write()
    return first_step + int(result.values["steps"])
