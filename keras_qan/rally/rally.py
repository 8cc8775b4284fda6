"""The rally itself: stage after stage, resumable."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import numpy as np

from keras_qan.qan.callback import QANCallback
from keras_qan.qan.training_memory import rates_to_go_on_with
from keras_qan.qan.variables import assign_rates, rate_variables, read_rates
from keras_qan.rally.checkpoint import RallyStore, roll_back
from keras_qan.rally.growth_rule import GrowthRule
from keras_qan.rally.plan import (
    NetworkGrower,
    PlannedStage,
    call_build_model,
    grow_through,
    plan_stages,
    require_number_as_rate,
    spend_savings,
)
from keras_qan.rally.report import RallyReport, describe_stage
from keras_qan.rally.stage import Stage, check_stages
from keras_qan.rally.subsets import Subsets, as_examples
from keras_qan.rally.training import (
    EVALUATION_BATCH,
    StageRun,
    Totals,
    falling_rates,
    numbers_of,
    train_stage,
)
from keras_qan.utils.experimental import experimental
from keras_qan.utils.progress import for_verbosity
from keras_qan.utils.validation import (
    check,
    check_choice,
    check_folder,
    check_integer,
    check_number,
)
from net2net.weights import NewUnits


@experimental(
    "our own figures do not show yet that growing pays where the full network fits its budget, and "
    "the middle network alone did as well at the same cost (`benchmarks/rally`)."
)
class Rally:
    """Trains in stages: the subset of the data grows, and the network with it.

    The subsets are stratified and nested. Between stages the network grows by `net2net`: it
    computes the same function, and the optimizer's state is mapped along. After each stage a
    checkpoint is written, and a rally that was killed resumes with the stage it was in. All growths
    are tried out on untrained networks before anything is trained.

    To a QAN policy all stages are one training: each goes on from the rate that the last one found,
    and it falls to zero at the end of them all. An agent that learns can go through all stages too:
    each is an episode to it. Its state does not depend on the network's width, and each stage's
    rate begins anew, so that what the actions change is counted from there.

    Args:
      stages: stages in ascending order, the last one usually with all examples and full widths.
      directory: folder to keep the rally in, and to resume it from. Defaults to memory alone.
      qan: callback that steers the learning rate, with a directory of its own if it learns.
        Defaults to none.
      batch_size: number of examples in a batch. Defaults to 32.
      look_every: number of optimizer steps between evaluations on the validation examples; a
        stage's steps are rounded to a multiple. Defaults to a pass over the stage's subset, or to
        equal parts of at most a pass where its epochs are not whole.
      seed: of the first network, the subsets, the order of examples, and the growths. Defaults
        to 0.
      rule: ends a stage early when growth is expected to bring more. Defaults to never.
      new: kind of new units: "net2net" for copies; "zero_out" and "random" for controls. Defaults
        to "net2net".
      final_learning_rate: rate that the last stage ends with: from the one that the model was
        compiled with it falls linearly in the steps of all stages. Where a rule ends a stage early,
        it goes on from there. Defaults to each stage's own rates.
      keep_budget: whether the stage after one that the rule ended early is longer by what that one
        saved, in multiply-adds, so that the rally costs what its stages come to, or less than an
        evaluation's steps below it. Defaults to False: it costs less.

    Raises:
      ValueError: an argument is out of range, or the stages shrink.
      TypeError: an element is no stage.

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
      >>> report = rally.run(  # doctest: +ELLIPSIS
      ...     build_model, splits.train, splits.validation
      ... )
      stages: 0 of 2, 0 s
      stages: 2 of 2, ... s
      >>> [(stage["examples"], stage["parameters"]) for stage in report.stages]
      [(301, 610), (1202, 2410)]
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        directory: str | Path | None = None,
        qan: QANCallback | None = None,
        *,
        batch_size: int = 32,
        look_every: int | None = None,
        seed: int = 0,
        rule: GrowthRule | None = None,
        new: NewUnits = "net2net",
        final_learning_rate: float | None = None,
        keep_budget: bool = False,
    ) -> None:
        self.stages = check_stages(stages)
        check_integer("batch_size", batch_size, 1)
        check_integer("seed", seed, 0)
        if look_every is not None:
            check_integer("look_every", look_every, 1, hint="None is about a pass.")
        check_choice("new", new, get_args(NewUnits))
        check(isinstance(rule, GrowthRule | None), "rule", rule, "GrowthRule(), or None")
        check(isinstance(qan, QANCallback | None), "qan", qan, "a QANCallback, or None")
        self.directory = None if directory is None else check_folder("directory", directory)
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
        if final_learning_rate is not None:
            hint = "None leaves the rates to the stages."
            check_number("final_learning_rate", final_learning_rate, above=0, hint=hint)
            own = [n for n, s in enumerate(self.stages, 1) if s.learning_rate is not None]
            if qan is not None or falling or own:
                other = "a QANCallback" if qan is not None else f"stage {min(falling + own)}"
                raise ValueError(
                    f"Rally got final_learning_rate={final_learning_rate}, and {other} sets the "
                    "rate too; expected one of both, since each would undo what the other does. "
                    "Leave one out."
                )
        self.final_learning_rate = final_learning_rate
        if keep_budget and rule is None:
            raise ValueError(
                "Rally got keep_budget=True and no rule; expected both, since stages that no rule "
                "ends early save nothing. Give rule=GrowthRule() too, or leave it out."
            )
        self.keep_budget = bool(keep_budget)
        self.qan = qan
        self.batch_size, self.look_every, self.seed = batch_size, look_every, seed
        self.rule, self.new = rule, new

    def plan(self, build_model: Callable[[int], keras.Model], train: Any) -> list[PlannedStage]:
        """Try all growths on untrained networks.

        Args:
          build_model: seed → the compiled network of the first stage.
          train: `keras_qan.data.Examples`, or a pair of arrays (x, y) with integer classes.

        Returns:
          Examples, steps, parameters and multiply-adds of each stage.

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
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        *,
        verbose: int | Literal["auto"] = 1,
    ) -> RallyReport:
        """Train through all stages, or resume.

        Args:
          build_model: seed → the compiled network of the first stage; its weights follow from the
            seed, and layers that are to grow have names.
          train: `keras_qan.data.Examples`, or a pair of arrays (x, y) with integer classes.
          validation: the same; evaluated on, never trained on.
          test: the same; evaluated on once, in the end. Defaults to none.
          callbacks: other callbacks of each stage's `fit`. Defaults to None.
          verbose: as in Keras: 0 for silence, 1 for bars on a terminal and lines elsewhere, with
            what is decided, 2 for a line a stage. Defaults to 1.

        Returns:
          The trained network and the records of all stages.

        Raises:
          ValueError: as `plan`; or the directory holds another rally.
          TypeError: `build_model` did not return a compiled Keras model.
          CheckpointError: the directory's files are damaged.
          RuntimeError: a stage diverged.
        """
        progress = for_verbosity(verbose)
        subsets = Subsets(as_examples(train, "train"), self.seed)
        plan = self._plan(build_model, subsets)
        store = RallyStore(self.directory, self._settings(plan))
        data = store.data
        done = len(data["stages"])
        if self.qan is not None and self.qan.explore and data["qan_episodes"] is not None:
            self.qan = roll_back(self.qan, int(data["qan_episodes"]))
        held_out = as_examples(validation, "validation").batches(EVALUATION_BATCH)
        grower = NetworkGrower(self.seed, self.new)
        model = grow_through(call_build_model(build_model, self.seed), plan[:done], grower)
        if self.final_learning_rate is not None:
            require_number_as_rate(model, f"final_learning_rate={self.final_learning_rate}")
        first_rate = _rate(model)
        follows_policy = self.qan is not None and not self.qan.explore
        if done:
            store.restore(model)
        elif self.qan is not None:
            # An agent may have learned elsewhere before.
            data["qan_episodes"] = self.qan.episodes
            store.write(model, data)
        with progress as shown, self._total_steps_given_back():
            shown.start("stages", done, len(plan), 0)
            for stage in plan[done:]:
                started = time.perf_counter()
                if stage.number > 1:
                    model = grow_through(model, [stage], grower)
                run = self._stage_run(plan, data, started, first_rate)
                if follows_policy:
                    run = self._go_on(run, plan, data)
                record, looks = train_stage(
                    model,
                    run,
                    subsets.take(stage.examples),
                    held_out,
                    [*(callbacks or ()), *self._steering(stage), shown.epochs()],
                )
                data["stages"] = [*data["stages"], record]
                data["looks"] = [*data["looks"], *looks]
                if follows_policy:
                    data["rate_found"] = _rate_found(model)
                data["qan_episodes"] = None if self.qan is None else self.qan.episodes
                store.write(model, data)
                shown.advance()
                shown.say(describe_stage(record, len(plan)), record["ended_by_rule"])
        if follows_policy and first_rate is not None:
            rates = rate_variables(model)
            assign_rates(rates, np.full(len(rates), first_rate))
        if test is not None and not data["test"]:
            batches = as_examples(test, "test").batches(EVALUATION_BATCH)
            found = model.evaluate(batches, verbose=0, return_dict=True)
            data["test"] = numbers_of(found)
            store.write(model, data)
        return RallyReport(model, data["stages"], data["looks"], data["test"], self.directory)

    def _stage_run(
        self,
        plan: Sequence[PlannedStage],
        data: dict[str, Any],
        started: float,
        first_rate: float | None,
    ) -> StageRun:
        """Settings of the first stage that is not done."""
        steps = [int(record["steps"]) for record in data["stages"]]
        done = len(steps)
        asked = self.stages[done]
        first = first_rate if asked.learning_rate is None else asked.learning_rate
        final = asked.final_learning_rate
        # For each stage so far, it and those after it as they were planned when it began.
        ahead = [self._stages_left(plan, steps[:number]) for number in range(done + 1)]
        if self.final_learning_rate is not None and first_rate is not None:
            planned = [[stage.steps for stage in stages] for stages in ahead]
            first, final = falling_rates(first_rate, self.final_learning_rate, planned, steps)
        here, *later = ahead[done]
        return StageRun(
            plan=here,
            following=later[0] if later else None,
            before=_totals(data),
            started=started,
            batch_size=self.batch_size,
            seed=self.seed,
            learning_rate=first,
            final_learning_rate=final,
            rule=self.rule,
        )

    def _stages_left(self, plan: Sequence[PlannedStage], done: Sequence[int]) -> list[PlannedStage]:
        return spend_savings(plan, done) if self.keep_budget else list(plan[len(done) :])

    def _plan(
        self, build_model: Callable[[int], keras.Model], subsets: Subsets
    ) -> list[PlannedStage]:
        grower = NetworkGrower(self.seed, self.new)
        return plan_stages(
            self.stages, build_model, subsets, grower, self.batch_size, self.look_every
        )

    @contextlib.contextmanager
    def _total_steps_given_back(self) -> Iterator[None]:
        """Leave the callback as it was, for other trainings."""
        given = None if self.qan is None else self.qan.total_steps
        try:
            yield
        finally:
            if self.qan is not None:
                self.qan.total_steps = given

    def _go_on(self, run: StageRun, plan: Sequence[PlannedStage], data: dict[str, Any]) -> StageRun:
        """Return a stage's settings where a policy steers all stages as one training."""
        assert self.qan is not None
        here, done = run.plan, [int(record["steps"]) for record in data["stages"]]
        # At the beginning of a training alone the policy looks for a rate.
        first = max(round(run.before.steps / here.steps_per_look), 1) if done else 0
        left = sum(stage.steps for stage in self._stages_left(plan, done))
        self.qan.total_steps = first * here.steps_per_look + left
        rate = run.learning_rate
        if done and self.stages[len(done)].learning_rate is None:
            rate = data.get("rate_found")
        return dataclasses.replace(run, first_epoch=first, learning_rate=rate)

    def _steering(self, stage: PlannedStage) -> list[keras.callbacks.Callback]:
        if self.qan is None:
            return []
        self.qan.context = {**self.qan.context, "stage": stage.number}
        return [self.qan]

    def _settings(self, plan: Sequence[PlannedStage]) -> dict[str, Any]:
        """All that a resumed rally has to share with the one in the directory."""
        return {
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
            "plan": [dataclasses.asdict(stage) for stage in plan],
            "batch_size": self.batch_size,
            "look_every": self.look_every,
            "seed": self.seed,
            "rule": None if self.rule is None else dataclasses.asdict(self.rule),
            "new": self.new,
            "final_learning_rate": self.final_learning_rate,
            "keep_budget": self.keep_budget or None,  # as rallies of before it have none
            "steered": self.qan is not None,
        }


def _rate(model: keras.Model) -> float | None:
    """Rate that the model is compiled with; None where it follows a schedule of its own."""
    try:
        return float(rate_variables(model)[0].numpy())
    except ValueError:
        return None


def _rate_found(model: keras.Model) -> float:
    """The learning rate that a policy left off with, whose training goes on."""
    rates = read_rates(rate_variables(model))
    found = rates_to_go_on_with(model, rates)
    return float((rates if found is None else found)[0])


def _totals(data: dict[str, Any]) -> Totals:
    """Costs of the stages that are done."""
    if not data["stages"]:
        return Totals()
    last = data["looks"][-1]
    return Totals(last["step"], last["multiply_adds"], last["seconds"])
