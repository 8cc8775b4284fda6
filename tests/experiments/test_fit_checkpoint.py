"""A training that was broken off goes on from an epoch's end, and ends as if it had not been."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.runs import learner, make_task

from keras_qan import selection
from keras_qan.experiments.fit_checkpoint import FOLDER
from keras_qan.experiments.runner import Evaluation, run_episodes
from keras_qan.qan.callback import QANCallback
from keras_qan.storage import checkpoint

EVALUATION = Evaluation(("constant", "random"), seeds=1)


class Killed(BaseException):
    """Nothing in the package catches this: it stands for kill -9."""


def killing(task, after_epochs):
    """The task, broken off in the middle of the epoch after so many of all trainings."""
    seen = []

    def train(seed):
        def guard(x, y):
            seen.append(1)
            if len(seen) == after_epochs * 12 + 5:
                raise Killed
            return x, y

        def guarded(x, y):
            x_, y_ = tf.numpy_function(guard, [x, y], (tf.float32, tf.int64))
            return tf.ensure_shape(x_, x.shape), tf.ensure_shape(y_, y.shape)

        return task.train(seed).map(guarded)

    return dataclasses.replace(task, train=train)


def records(directory, file="episodes"):
    lines = (directory / f"{file}.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def assert_same_run(one, other, callbacks=()):
    for file in ("decisions", "epochs", "episodes"):
        assert records(one, file) == records(other, file)
    if callbacks:
        arrays = [callback.agent.arrays() for callback in callbacks]
        for name, array in arrays[0].items():
            np.testing.assert_array_equal(array, arrays[1][name], err_msg=name)


@pytest.mark.parametrize("after_epochs", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_broken_off_within_a_training_it_ends_with_the_same_bits(tmp_path, after_epochs):
    task = make_task(epochs=4, dropout=0.2)
    options = {"episodes": 2, "evaluation": EVALUATION, "save_every_epochs": 1}
    whole, broken = learner(tmp_path / "whole"), learner(tmp_path / "broken")
    run_episodes(task, whole, **options)
    with pytest.raises(BaseException, match="Killed"):
        run_episodes(killing(task, after_epochs), broken, **options)
    saved = checkpoint.read_newest(tmp_path / "broken" / FOLDER, "training")
    assert saved[1]["epoch"] == after_epochs % 4
    seen = []

    def train(seed):
        seen.append(seed)
        return task.train(seed)

    again = learner(tmp_path / "broken")
    run_episodes(dataclasses.replace(task, train=train), again, **options)
    # What was finished was not trained again.
    assert len(seen) == 4 - after_epochs // 4
    assert_same_run(tmp_path / "whole", tmp_path / "broken", (whole, again))
    assert not (tmp_path / "broken" / FOLDER).exists()


@pytest.mark.slow
def test_without_saves_the_training_begins_again_and_ends_the_same(tmp_path):
    task = make_task(epochs=3)
    options = {"episodes": 1, "evaluation": EVALUATION, "save_every_epochs": None}
    run_episodes(task, learner(tmp_path / "whole"), **options)
    with pytest.raises(BaseException, match="Killed"):
        run_episodes(killing(task, 1), learner(tmp_path / "broken"), **options)
    assert not (tmp_path / "broken" / FOLDER).exists()
    run_episodes(task, learner(tmp_path / "broken"), **options)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["newest", "all"])
def test_damaged_states_are_told_and_an_earlier_one_or_the_start_is_used(tmp_path, damage):
    task = make_task(epochs=4)
    options = {"episodes": 1, "evaluation": EVALUATION, "save_every_epochs": 1}
    run_episodes(task, learner(tmp_path / "whole"), **options)
    with pytest.raises(BaseException, match="Killed"):
        run_episodes(killing(task, 2), learner(tmp_path / "broken"), **options)
    paths = checkpoint.series(tmp_path / "broken" / FOLDER, "training")
    assert len(paths) == 2
    for path in paths if damage == "all" else paths[-1:]:
        path.write_bytes(path.read_bytes()[:-9])
    told = "begun again from its start" if damage == "all" else "Going on from training-00000001"
    with pytest.warns(RuntimeWarning, match=told):
        run_episodes(task, learner(tmp_path / "broken"), **options)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_a_selector_goes_on_with_the_very_same_batches(tmp_path):
    def chosen(directory, after=None):
        task = make_task(epochs=3)
        x, y = next(iter(task.train(0).unbatch().batch(96)))
        examples = tf.data.Dataset.from_tensor_slices((x, y))
        mix = selection.ClassMix(examples, num_classes=2, batch_size=16)
        task = dataclasses.replace(task, selector=mix)
        if after is not None:
            build = task.build_model
            count = []

            def build_model(seed):
                model = build(seed)
                return _KilledIn(model, after) if not count.append(1) and len(count) == 1 else model

            task = dataclasses.replace(task, build_model=build_model)
        agent = QANCallback(directory, actions=mix.raw_actions(), decide_every=5)
        run_episodes(
            task, agent, episodes=1, evaluation=Evaluation(("qan",), 1), save_every_epochs=1
        )

    chosen(tmp_path / "whole")
    with pytest.raises(BaseException, match="Killed"):
        chosen(tmp_path / "broken", after=16)
    chosen(tmp_path / "broken")
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def _KilledIn(model, step):
    """The model, whose fit is broken off after so many steps."""
    fit = model.fit

    class Kill(keras.callbacks.Callback):
        done = 0

        def on_train_batch_begin(self, batch, logs=None):
            self.done += 1
            if self.done > step:
                raise Killed("Killed")

    model.fit = lambda *a, callbacks, **k: fit(*a, callbacks=[*callbacks, Kill()], **k)
    return model


def test_by_default_saves_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("keras_qan.experiments.fit_checkpoint.time.perf_counter", lambda: clock[0])
    from keras_qan.experiments.fit_checkpoint import (
        MOST_OF_TIME,
        FitCheckpoint,
        FitCheckpointCallback,
    )

    midway = FitCheckpoint(tmp_path)
    saver = FitCheckpointCallback(midway, learner(None))
    saver.set_params({"epochs": 10_000})
    saver.set_model(make_task().build_model(0))
    saver._state = lambda epoch: ({}, {"epoch": epoch})
    spent = []

    def write(arrays, data):
        clock[0] += 0.3
        spent.append(0.3)

    monkeypatch.setattr(midway, "write", write)
    saver.on_train_begin()
    for epoch in range(5000):
        clock[0] += 0.1
        saver.on_epoch_end(epoch)
    assert 0.5 * MOST_OF_TIME < sum(spent) / clock[0] <= 1.2 * MOST_OF_TIME


def test_a_negative_number_of_epochs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="save_every_epochs is -1"):
        run_episodes(make_task(), learner(tmp_path), episodes=0, save_every_epochs=-1)
