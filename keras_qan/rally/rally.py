"""The rally itself: stage after stage, resumable."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import keras

from keras_qan.qan.callback import QANCallback
from keras_qan.qan.model_access import rate_variables
from keras_qan.rally.checkpoint import RallyStore, roll_back
from keras_qan.rally.growth_rule import GrowthRule
from keras_qan.rally.plan import (
    GrowthPlan,
    PlannedStage,
    call_build_model,
    grown_like,
    plan_stages,
)
from keras_qan.rally.report import RallyReport
from keras_qan.rally.stage import Stage, check_stages
from keras_qan.rally.subsets import Subsets, as_examples
from keras_qan.rally.training import EVALUATION_BATCH, Spent, train_stage
from net2net.planning import NewUnits


class Rally:
    """Trains in stages: the subset of the data grows, and the network with it.

    The subsets are stratified and nested. Between stages the network grows by `net2net`: it
    computes what it did, and the optimizer's state is mapped along. After each stage everything is
    written, so that a rally that was killed goes on with the stage it was in. All growths are tried
    out on untrained networks before anything is trained.

    One QAN agent can go through all stages: each is an episode to it. Its state does not depend on
    the network's width, and each stage's rate begins anew, so that what the actions change is
    counted from there.

    Args:
      stages: in ascending order; the last one usually with all examples and the full widths.
      directory: where it is kept, and gone on from; by default in memory alone.
      qan: steers the learning rate; with a directory of its own, or one that learns nothing.
      batch_size: examples in a batch, at least 1.
      look_every: optimizer steps between looks at the validation examples, and a stage's steps are
        rounded to whole looks; by default a pass over its subset, or equal parts of at most a pass
        where its epochs are not whole.
      seed: of the first network, the subsets, the order of examples, and the growths.
      rule: ends a stage early when growth is expected to bring more; by default each stage takes
        all its epochs.
      new: what new units are: "net2net" for copies; "zero_out" and "random" for controls.

    Raises:
      ValueError: an argument is out of range, or the stages shrink.
      TypeError: something else than stages.

    Example:
      >>> from keras_qan.data import load
      >>> splits = load("digits")
      >>> def build_model(seed):
      ...     start = keras.initializers.GlorotUniform
      ...     model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
      ...         keras.layers.Dense(8, "relu", name="hidden", kernel_initializer=start(seed)),
      ...         keras.layers.Dense(10, name="logits", kernel_initializer=start(seed + 1))])
      ...     loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
      ...     model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
      ...     return model
      >>> rally = Rally([Stage(0.25, epochs=2), Stage(1.0, epochs=2, widths={"hidden": 32})])
      >>> report = rally.run(build_model, splits.train, splits.validation)
      >>> [(stage["examples"], stage["parameters"]) for stage in report.stages]
      [(301, 610), (1202, 2410)]
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        directory: str | Path | None = None,
        qan: QANCallback | None = None,
        batch_size: int = 32,
        look_every: int | None = None,
        seed: int = 0,
        rule: GrowthRule | None = None,
        new: NewUnits = "net2net",
    ) -> None:
        self.stages = check_stages(stages)
        if batch_size < 1 or (look_every is not None and look_every < 1) or seed < 0:
            raise ValueError(
                f"Rally got batch_size={batch_size}, look_every={look_every}, seed={seed}; "
                "expected at least one example in a batch, one step between looks, and a seed of "
                "at least 0."
            )
        if new not in get_args(NewUnits):
            raise ValueError(f"Rally got new={new!r}; expected one of {get_args(NewUnits)}.")
        if rule is not None and not isinstance(rule, GrowthRule):
            raise ValueError(f"Rally got rule={rule!r}; expected GrowthRule(), or None.")
        if qan is not None and not isinstance(qan, QANCallback):
            raise ValueError(f"Rally got qan={qan!r}; expected a QANCallback, or None.")
        self.directory = None if directory is None else Path(directory)
        if qan is not None and qan.explore and self.directory is not None and qan.directory is None:
            raise ValueError(
                f"Rally got directory={str(directory)!r} and a QANCallback that learns and has "
                "none, so that the rally could not go on after a kill; expected one with a "
                "directory too, for example "
                f"QANCallback({str(self.directory / 'qan')!r}, policy=None)."
            )
        falling = [n for n, one in enumerate(self.stages, 1) if one.final_learning_rate is not None]
        if qan is not None and falling:
            raise ValueError(
                f"Rally got a QANCallback, and stage {falling[0]} has final_learning_rate="
                f"{self.stages[falling[0] - 1].final_learning_rate}; expected one of both, since "
                "each would undo what the other does to the rate. Leave one out."
            )
        self.qan = qan
        self.batch_size, self.look_every, self.seed = batch_size, look_every, seed
        self.rule, self.new = rule, new

    def plan(self, build_model: Callable[[int], keras.Model], train: Any) -> list[PlannedStage]:
        """Tries everything out on untrained networks.

        Args:
          build_model: seed → the compiled network of the first stage.
          train: `keras_qan.data.Examples`, or a pair of arrays (x, y) with integer classes.

        Returns:
          Each stage's examples, steps, parameters and multiply-adds.

        Raises:
          ValueError: a stage shrinks, net2net refuses its growth, or its subset is smaller than a
            batch or lacks a class.
          TypeError: `build_model` did not return a compiled Keras model.
        """
        subsets = Subsets(as_examples(train, "train"), self.seed)
        return self._plan(build_model, subsets)

    def run(
        self,
        build_model: Callable[[int], keras.Model],
        train: Any,
        validation: Any,
        test: Any = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> RallyReport:
        """Trains, or goes on training, through all stages.

        Args:
          build_model: seed → the compiled network of the first stage; its weights follow from the
            seed, and layers that are to grow have names.
          train: `keras_qan.data.Examples`, or a pair of arrays (x, y) with integer classes.
          validation: the same; looked at, never trained on.
          test: the same; looked at once, in the end.
          callbacks: what else takes part in each stage's `fit`.

        Returns:
          What it came to.

        Raises:
          ValueError: as `plan`; or the directory holds another rally.
          TypeError: `build_model` did not return a compiled Keras model.
          CheckpointError: the directory's files are damaged.
          RuntimeError: a stage diverged.
        """
        examples = as_examples(train, "train")
        subsets = Subsets(examples, self.seed)
        growing = GrowthPlan(self.seed, self.new)
        plan = self._plan(build_model, subsets)
        store = RallyStore(self.directory, self._settings(plan))
        data = store.data
        done = len(data["stages"])
        if self.qan is not None and self.qan.explore and data["qan_episodes"] is not None:
            self.qan = roll_back(self.qan, int(data["qan_episodes"]))
        looked_at = as_examples(validation, "validation").batches(EVALUATION_BATCH)
        model = grown_like(call_build_model(build_model, self.seed), plan[:done], growing)
        first_rate = _rate(model)
        if done:
            store.restore(model)
        elif self.qan is not None:
            # An agent may have learned elsewhere before.
            data["qan_episodes"] = self.qan.episodes
            store.write(model, data)
        for stage in plan[done:]:
            started = time.perf_counter()
            if stage.number > 1:
                model = grown_like(model, [stage], growing)
            asked = self.stages[stage.number - 1]
            record, looks = train_stage(
                model,
                plan[stage.number - 1 :],
                subsets.of(stage.examples),
                looked_at,
                self.batch_size,
                self.seed,
                _spent(data),
                started,
                first_rate if asked.learning_rate is None else asked.learning_rate,
                asked.final_learning_rate,
                self.rule,
                [*callbacks, *self._steering(stage)],
            )
            data["stages"] = [*data["stages"], record]
            data["looks"] = [*data["looks"], *looks]
            data["qan_episodes"] = None if self.qan is None else self.qan.episodes
            store.write(model, data)
        if test is not None and not data["test"]:
            batches = as_examples(test, "test").batches(EVALUATION_BATCH)
            found = model.evaluate(batches, verbose=0, return_dict=True)
            data["test"] = {name: float(value) for name, value in found.items()}
            store.write(model, data)
        return RallyReport(model, data["stages"], data["looks"], data["test"], self.directory)

    def _plan(
        self, build_model: Callable[[int], keras.Model], subsets: Subsets
    ) -> list[PlannedStage]:
        growing = GrowthPlan(self.seed, self.new)
        return plan_stages(
            self.stages, build_model, subsets, growing, self.batch_size, self.look_every
        )

    def _steering(self, stage: PlannedStage) -> list[keras.callbacks.Callback]:
        if self.qan is None:
            return []
        self.qan.context = {**self.qan.context, "stage": stage.number}
        return [self.qan]

    def _settings(self, plan: Sequence[PlannedStage]) -> dict[str, Any]:
        """What a rally that goes on has to share with the one in the directory."""
        return {
            "stages": [stage.config() for stage in self.stages],
            "plan": [dataclasses.asdict(stage) for stage in plan],
            "batch_size": self.batch_size,
            "look_every": self.look_every,
            "seed": self.seed,
            "rule": None if self.rule is None else dataclasses.asdict(self.rule),
            "new": self.new,
            "steered": self.qan is not None,
        }


def _rate(model: keras.Model) -> float | None:
    """The rate that the model is compiled with; None where it follows a schedule of its own."""
    try:
        return float(rate_variables(model)[0].numpy())
    except ValueError:
        return None


def _spent(data: dict[str, Any]) -> Spent:
    if not data["stages"]:
        return Spent()
    last = data["looks"][-1]
    return Spent(last["step"], last["multiply_adds"], last["seconds"])
