"""A training that was broken off is resumed from an epoch's end, and ends as if it had not been."""

from __future__ import annotations

import dataclasses
import shutil

import keras
import pytest
import tensorflow as tf
from helpers.runs import Killed, assert_same_run, learner, make_task, records

from keras_qan import selection
from keras_qan.actions import Anneal, WarmUp
from keras_qan.experiments.fit_checkpoint import FOLDER
from keras_qan.experiments.runner import Evaluation, run_episodes
from keras_qan.qan.callback import QANCallback
from keras_qan.storage import checkpoint

EPOCHS = 3
OPTIONS = {"episodes": 2, "evaluation": Evaluation(("random",), seeds=1)}


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


@pytest.fixture(scope="module")
def task():
    return make_task(epochs=EPOCHS, dropout=0.2)


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """Directory and learner of the run that nothing breaks off."""
    directory = tmp_path_factory.mktemp("whole")
    found = learner(directory)
    run_episodes(task, found, **OPTIONS, save_every_epochs=None)
    return directory, found


@pytest.fixture(scope="module")
def killed(task, tmp_path_factory):
    """Directory of the run that was broken off after two epochs of its second training."""
    directory = tmp_path_factory.mktemp("killed")
    with pytest.raises(BaseException, match="Killed"):
        run_episodes(killing(task, EPOCHS + 2), learner(directory), **OPTIONS, save_every_epochs=1)
    return directory


def assert_resumes(task, directory, whole, trainings, save_every_epochs=1):
    """The run ends as the whole one, and what was finished is not trained again."""
    seen = []

    def train(seed):
        seen.append(seed)
        return task.train(seed)

    again, counted = learner(directory), dataclasses.replace(task, train=train)
    run_episodes(counted, again, **OPTIONS, save_every_epochs=save_every_epochs)
    assert len(seen) == trainings
    assert_same_run(whole[0], directory, (whole[1], again))
    assert not (directory / FOLDER).exists()


@pytest.mark.slow
def test_broken_off_within_its_first_training_it_ends_with_the_same_bits(task, whole, tmp_path):
    with pytest.raises(BaseException, match="Killed"):
        run_episodes(killing(task, 1), learner(tmp_path), **OPTIONS, save_every_epochs=1)
    assert checkpoint.read_newest(tmp_path / FOLDER, "training")[1]["epoch"] == 1
    assert_resumes(task, tmp_path, whole, trainings=3)


@pytest.mark.slow
def test_broken_off_within_a_later_training_it_ends_with_the_same_bits(
    task, whole, killed, tmp_path
):
    directory = shutil.copytree(killed, tmp_path / "broken")
    assert checkpoint.read_newest(directory / FOLDER, "training")[1]["epoch"] == 2
    assert_resumes(task, directory, whole, trainings=2)


@pytest.mark.slow
def test_broken_off_within_an_option_it_ends_with_the_same_bits(task, tmp_path):
    actions = [WarmUp(0.5, 3.0, 4), Anneal(0.1, 4)]
    directories = tmp_path / "whole", tmp_path / "broken"
    options = {"episodes": 2, "evaluation": Evaluation(("random",), seeds=1)}
    whole = learner(directories[0], actions=actions)
    run_episodes(task, whole, **options, save_every_epochs=None)
    broken = learner(directories[1], actions=actions)
    with pytest.raises(BaseException, match="Killed"):
        run_episodes(killing(task, 1), broken, **options, save_every_epochs=1)
    del broken
    again = learner(directories[1], actions=actions)
    run_episodes(task, again, **options, save_every_epochs=1)
    assert_same_run(*directories, (whole, again))
    # It was broken off after the epoch that ends with step 12, which lies within an option.
    within = [row for row in records(directories[1], "decisions") if row["step"] == 12]
    assert within[0]["option_decision"] == 3


@pytest.mark.stress
def test_without_saves_the_training_begins_again_and_ends_the_same(task, whole, tmp_path):
    with pytest.raises(BaseException, match="Killed"):
        run_episodes(killing(task, 1), learner(tmp_path), **OPTIONS, save_every_epochs=None)
    assert not (tmp_path / FOLDER).exists()
    assert_resumes(task, tmp_path, whole, trainings=3, save_every_epochs=None)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["newest", "all"])
def test_damaged_states_are_told_and_an_earlier_one_or_the_start_is_used(
    damage, task, whole, killed, tmp_path
):
    directory = shutil.copytree(killed, tmp_path / "broken")
    paths = checkpoint.series(directory / FOLDER, "training")
    assert len(paths) == 2
    for path in paths if damage == "all" else paths[-1:]:
        path.write_bytes(path.read_bytes()[:-9])
    told = "begun again from its start" if damage == "all" else "Going on from training-00000001"
    with pytest.warns(RuntimeWarning, match=told):
        assert_resumes(task, directory, whole, trainings=2)


@pytest.mark.slow
def test_a_selector_goes_on_with_the_very_same_batches(tmp_path):
    def chosen(directory, after=None):
        task = make_task(epochs=2)
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
        chosen(tmp_path / "broken", after=8)
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
        MAX_TIME_SHARE,
        FitCheckpoint,
        FitCheckpointCallback,
    )

    fit_checkpoint = FitCheckpoint(tmp_path)
    saver = FitCheckpointCallback(fit_checkpoint, learner(None))
    saver.set_params({"epochs": 10_000})
    saver.set_model(make_task().build_model(0))
    saver._state = lambda epoch: ({}, {"epoch": epoch})
    spent = []

    def write(arrays, data):
        clock[0] += 0.3
        spent.append(0.3)

    monkeypatch.setattr(fit_checkpoint, "write", write)
    saver.on_train_begin()
    for epoch in range(5000):
        clock[0] += 0.1
        saver.on_epoch_end(epoch)
    assert 0.5 * MAX_TIME_SHARE < sum(spent) / clock[0] <= 1.2 * MAX_TIME_SHARE


def test_a_negative_number_of_epochs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="save_every_epochs is -1"):
        run_episodes(make_task(), learner(tmp_path), episodes=0, save_every_epochs=-1)
