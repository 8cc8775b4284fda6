"""The cost of choosing the mini-batches, and its gain.

    TFDS_DATA_DIR=… python benchmarks/selection/run.py --part=pipelines
    TFDS_DATA_DIR=… python benchmarks/selection/run.py --part=trainings --task=mnist
    TFDS_DATA_DIR=… python benchmarks/selection/run.py --part=trainings --schedule=cosine \
      --passes=20 --arms=uniform,uniform@0.6,prune@0.6
    python benchmarks/selection/run.py --part=table

`pipelines`: batches a second beside `shuffle().batch().prefetch()`, in turn, and bytes an example
beside the data. `trainings`: passes over as many examples as there are until a fixed accuracy, for
each arm and seed, from the same weights; each is a line of the results file, and those that are
there are not trained again; `arm@0.6` has 0.6 of the task's passes, and its schedule over them;
`arm_tried` is turned off by a `SelectionTrial` where it does not pay; with `--learnings=5` an arm
with an agent takes part five times, as `arm` and as `arm#1` to `arm#4`: an agent that learned from
other seeds and trainings, or whose moves by chance are others.
`table`: the results as Markdown.
"""

from __future__ import annotations

import gc
import itertools
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from arms import ARMS, selector_for
from learned import (
    LEARNED,
    callback_of,
    learn,
    learnings_of,
    selector_of,
    without_learning,
)
from report import learning_table, pipeline_table, training_table
from tasks import TASKS, Task

from benchmarks.common import machine
from benchmarks.common.records import Records, read_rows
from keras_qan import data, models, selection
from keras_qan.experiments.model_factory import ModelFactory
from keras_qan.qan import presets

_PART = flags.DEFINE_enum(
    "part", "pipelines", ["pipelines", "trainings", "table"], "what to measure or show"
)
_TASK = flags.DEFINE_enum("task", "mnist", list(TASKS), "what is trained")
_ARMS = flags.DEFINE_list(
    "arms", list(ARMS), f"who takes part; with an agent: {', '.join(LEARNED)}"
)
_DATA = flags.DEFINE_list("data", ["mnist", "cifar10"], "what the pipelines are of")
_EPISODES = flags.DEFINE_integer("episodes", 20, "trainings that an agent learns from")
_LEARNINGS = flags.DEFINE_integer(
    "learnings", 1, "agents of each arm with one, each of another seed"
)
_SEEDS = flags.DEFINE_integer("seeds", 5, "trainings of each arm")
_PASSES = flags.DEFINE_float("passes", 0.0, "length of a training; 0 for the task's own")
_MARGIN = flags.DEFINE_float(
    "margin", presets.SELECTION_MARGIN, "nats by which an agent's move has to beat holding"
)
_SCHEDULE = flags.DEFINE_enum(
    "schedule", "constant", ["constant", "cosine"], "how the rate goes where no agent steers it"
)
_ROUNDS = flags.DEFINE_integer("rounds", 10, "turns of each pipeline")
_BATCHES = flags.DEFINE_integer("batches", 300, "batches in a turn")
_RESULTS = flags.DEFINE_string("results", "runs/benchmarks/selection", "where results are kept")


def baseline(dataset: tf.data.Dataset, size: int, batch_size: int) -> tf.data.Dataset:
    """The usual pipeline."""
    return dataset.shuffle(size, seed=0).repeat().batch(batch_size).prefetch(2)


def pipelines() -> list[dict[str, Any]]:
    """Batches a second of each pipeline, turn by turn."""
    rows = []
    for name in _DATA.value:
        train = data.load(name).train
        source = tf.data.Dataset.from_tensor_slices((train.x, train.y))
        selectors = {arm: selector_for(arm, source, 10, 128, 0) for arm in _ARMS.value}
        made = {"shuffle().batch().prefetch()": baseline(source, len(train), 128)}
        made |= {arm: selector.dataset() for arm, selector in selectors.items()}
        iterators = {arm: iter(pipeline) for arm, pipeline in made.items()}
        for arm, iterator in iterators.items():
            warm_up(iterator, selectors.get(arm))
        for turn in range(_ROUNDS.value):
            order = list(iterators)
            for arm in order if turn % 2 else reversed(order):
                start, cpu = time.perf_counter(), time.process_time()
                for _ in range(_BATCHES.value):
                    next(iterators[arm])
                seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
                rate = _BATCHES.value / seconds
                kept = bytes_an_example(selectors[arm]) if arm in selectors else None
                row = {"data": name, "arm": arm, "turn": turn, "rate": rate, "bytes": kept}
                rows.append(row | {"cpu": cpu / _BATCHES.value})
    return rows


def warm_up(iterator: Any, selector: selection.Selector | None) -> None:
    """Fills the buffers; a selector by loss is told losses until it chooses by them."""
    steps = 20
    if selector is not None and selector.uses_losses:
        selector.begin()
        steps += selector.steps_per_epoch
    for step in range(steps):
        next(iterator)
        if selector is not None and selector.uses_losses:
            losses = tf.random.stateless_uniform([1, selector.batch_size], [0, step])
            selector.advance(1, losses)


def bytes_an_example(selector: selection.Selector) -> float:
    """Bytes that grow with the data, beside the data: variables, constants, iterators' orders."""
    size = selector.num_examples
    arrays = [v for v in selector.variables if v.shape.rank and v.shape[0] == size]
    arrays.append(selector._stream.sampler.initial_orders().members)
    if isinstance(selector, selection.ClassMix):
        arrays.append(selector._label_of)
    if selector._stream.sampler._by_group is not None:
        arrays.append(selector._stream.sampler._by_group)
    return sum(array.dtype.size * array.shape.num_elements() for array in arrays) / size


class Player(NamedTuple):
    """An arm ready to train.

    Attributes:
      selector: what chooses the batches.
      batches: its dataset.
      callback: what steers, if anything does.
    """

    selector: selection.Selector
    batches: tf.data.Dataset
    callback: Any


class Annealed(keras.callbacks.Callback):
    """The rate at step t of T is its first times ½(1 + cos(π t/T)).

    Args:
      steps: T.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps, self._first, self._step = steps, 0.0, 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Notes the first rate."""
        del logs
        self._first, self._step = float(self.model.optimizer.learning_rate), 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the rate of this step."""
        del batch, logs
        share = 0.5 * (1.0 + np.cos(np.pi * self._step / self._steps))
        self.model.optimizer.learning_rate.assign(self._first * share)
        self._step += 1


class Trainer:
    """Trains fresh students of a task, from the same weights for the same seed.

    What is compiled is kept: a pipeline, a training step and a policy for each arm.

    Args:
      task: what is trained.
      splits: its data.
      policies: where agents are kept.
    """

    def __init__(self, task: Task, splits: data.Splits, policies: Path) -> None:
        self._task, self._splits, self._policies = task, splits, policies
        self._validation = splits.validation.batches(1_000).take(task.validation_batches).cache()
        self._test = splits.test.batches(1_000).cache()
        self._students = ModelFactory(self._build, self._validation)
        x, y = task.training_examples(splits, 0)
        self._source = tf.data.Dataset.from_tensor_slices((x, y))
        self._size = len(y)
        self._players: dict[str, Player] = {}
        self.passes = _PASSES.value or task.passes

    def _build(self, seed: int) -> keras.Model:
        splits, task = self._splits, self._task
        model = models.build(task.model, splits.input_shape, splits.num_classes, seed=seed)
        if task.augments:
            mirrored = keras.layers.RandomFlip("horizontal", seed=seed)
            shifted = keras.layers.RandomTranslation(0.125, 0.125, "constant", seed=seed)
            layers = [keras.Input(splits.input_shape), mirrored, shifted, model]
            model = keras.Sequential(layers)
        model.compile(
            keras.optimizers.SGD(task.learning_rate, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
        return model

    def fit(self, player: Player, seed: int, passes: float, validations: Any = 1) -> dict[str, Any]:
        """One training, validated four times a pass, or after those parts of a pass alone."""
        model = self._students.build(seed)
        player.selector.restart(seed)
        steps = max(1, player.selector.steps_per_epoch // 4)
        epochs = round(4 * passes)
        callbacks = [player.callback, player.selector.callback()]
        if _SCHEDULE.value == "cosine":
            callbacks.append(Annealed(steps * epochs))
        start, cpu = time.perf_counter(), time.process_time()
        history = model.fit(
            player.batches,
            steps_per_epoch=steps,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
            validation_data=self._validation,
            validation_freq=validations,
        )
        return {
            "examples_an_epoch": steps * self._task.batch_size,
            "accuracy": history.history.get("val_accuracy", []),
            "loss": history.history.get("val_loss", []),
            "seconds": time.perf_counter() - start,
            "cpu": time.process_time() - cpu,
            "model": model,
        }

    def player(self, arm: str) -> Player:
        """An arm ready to play, its agent having learned."""
        if arm in self._players:
            return self._players[arm]
        args = (self._source, self._splits.num_classes, self._task.batch_size)
        if without_learning(arm)[0] not in LEARNED:
            selector = selector_for(arm.removesuffix("_tried"), *args, 0)
            callback = keras.callbacks.Callback()
            if arm.endswith("_tried"):
                callback = selection.SelectionTrial(selector, verbose=0)
        else:
            policy = self._policies / f"{self._task.name}-{self.passes:g}-{_MARGIN.value:g}-{arm}"
            learn(
                arm,
                policy,
                _EPISODES.value,
                lambda: selector_of(arm, *args, 0),
                self._learn,
                _MARGIN.value,
            )
            selector = selector_of(arm, *args, 0)
            callback = callback_of(arm, policy, selector)
        self._players[arm] = Player(selector, selector.dataset(), callback)
        return self._players[arm]

    def _learn(self, selector: selection.Selector, callback: Any, seeds: range) -> None:
        """Trainings to learn from, validated at their ends alone."""
        player = Player(selector, selector.dataset(), callback)
        for seed in seeds:
            self.fit(player, seed, self.passes, validations=[round(4 * self.passes)])

    def row(self, arm: str, seed: int) -> dict[str, Any]:
        """One training of an arm, with its score on the test set."""
        selection_arm, _, share = arm.partition("@")
        player = self.player(selection_arm)
        steered = LEARNED.get(without_learning(arm)[0])
        if steered and not steered.learns:
            # Its numbers depend on the seed alone, also where a run goes on after a kill.
            player.callback.agent.restore({"num_choices": np.asarray(seed << 32)})
        found = self.fit(player, seed, self.passes * float(share or 1.0))
        if arm.endswith("_tried"):
            found |= {"pays": player.callback.pays, "gains": player.callback.gains}
        model = found.pop("model")
        loss, accuracy = model.evaluate(self._test, verbose=0)
        named = {"task": self._task.name, "arm": arm, "seed": seed, "passes": self.passes}
        named["schedule"] = _SCHEDULE.value
        return (
            named
            | {"examples": self._size}
            | found
            | {"test_accuracy": accuracy, "test_loss": loss}
        )


def trainings(path: Path) -> None:
    """Every arm and seed that the results file does not hold yet, arms in turn."""
    task = TASKS[_TASK.value]
    passes = _PASSES.value or task.passes
    records = Records(path, "task", "passes", "schedule", "seed", "arm")
    splits = data.load(task.data, train_fraction=task.train_fraction)
    trainer = Trainer(task, splits, path.parent / "policies")
    for arm in _ARMS.value:
        if _SCHEDULE.value != "constant" and arm.partition("@")[0] in LEARNED:
            raise app.UsageError(f"{arm} has its own schedule; leave out --schedule.")
    arms = [name for arm in _ARMS.value for name in learnings_of(arm, _LEARNINGS.value)]
    keys = itertools.product([task.name], [passes], [_SCHEDULE.value], range(_SEEDS.value), arms)
    for *_, seed, arm in records.missing(keys):
        row = trainer.row(arm, seed)
        records.add(row)
        print(
            f"{task.name} {arm} seed {seed}: test {100 * row['test_accuracy']:.2f} %, "
            f"{row['seconds']:.1f} s",
            flush=True,
        )
        gc.collect()


def main(_: list[str]) -> None:
    """Measures or shows."""
    folder = Path(_RESULTS.value)
    folder.mkdir(parents=True, exist_ok=True)
    if _PART.value == "pipelines":
        rows = pipelines()
        (folder / "pipelines.json").write_text(json.dumps(rows), encoding="utf-8")
        print(pipeline_table(rows))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"\nPeak resident memory: {peak:.2f} GiB.")
    elif _PART.value == "trainings":
        trainings(folder / "trainings.jsonl")
    else:
        rows = read_rows(folder / "trainings.jsonl")
        print(training_table(rows))
        if by_learning := learning_table(rows):
            print(f"\n{by_learning}")
    print(f"\n{machine.describe()}.")


if __name__ == "__main__":
    app.run(main)
