"""run_episodes: learning, pairing, evaluation, resuming."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.runs import Killed, assert_same_run, learner, records
from helpers.students import data, student

from keras_qan.experiments.runner import FIRST_UNSEEN_SEED, Evaluation, Task, run_episodes


def task(seen: list | None = None, epochs: int = 2) -> Task:
    """12 steps an epoch; `seen` collects the seeds that models were built with."""

    def build_model(seed: int) -> keras.Model:
        if seen is not None:
            seen.append(seed)
        return student(seed=seed % 1000)

    def batches(seed: int) -> tf.data.Dataset:
        x, y = data(seed=3)
        order = np.random.default_rng(seed).permutation(len(x))
        return tf.data.Dataset.from_tensor_slices((x[order], y[order])).batch(8)

    held_out = tf.data.Dataset.from_tensor_slices(data(40, seed=1)).batch(40)
    tested = tf.data.Dataset.from_tensor_slices(data(40, seed=2)).batch(40)
    return Task(build_model, batches, held_out, epochs, tested)


SEED = 5
OPTIONS = {"episodes": 2, "evaluation": Evaluation(("qan", "constant", "random"), 2), "seed": SEED}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Directory and report of a run that is over; it is only read."""
    directory = tmp_path_factory.mktemp("finished")
    return directory, run_episodes(task(), learner(directory), **OPTIONS)


@pytest.mark.slow
def test_evaluation_uses_seeds_that_no_training_episode_had(finished):
    seeds = {phase: set() for phase in ("train", "evaluate")}
    for record in records(finished[0]):
        seeds[record["phase"]].add(record["seed"])
    assert seeds["train"] == {SEED, SEED + 1}
    assert seeds["evaluate"] == {FIRST_UNSEEN_SEED + SEED, FIRST_UNSEEN_SEED + SEED + 1}


@pytest.mark.slow
def test_evaluation_is_greedy_and_leaves_the_agent_as_it_was(tmp_path):
    callback = learner(tmp_path)
    run_episodes(task(), callback, episodes=1, evaluation=Evaluation(("constant",), 1))
    before = callback.agent.arrays()
    run_episodes(task(), callback, episodes=1, evaluation=Evaluation(("qan",), 1))
    for name, array in callback.agent.arrays().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    evaluated = [r for r in records(tmp_path, "decisions") if r["phase"] == "evaluate"]
    greedy = [r for r in evaluated if r["arm"] == "qan"]
    assert greedy
    assert all(r["epsilon"] == 0.0 and r["greedy"] for r in greedy)
    assert all(r["action_index"] == int(np.argmax(r["q_values"])) for r in greedy)


@pytest.mark.slow
def test_arms_start_from_the_same_weights_and_see_the_same_batches(finished, tmp_path):
    first = [
        r
        for r in records(finished[0], "decisions")
        if r["phase"] == "evaluate" and r["decision"] == 1 and r["episode"] == 0
    ]
    assert len(first) == 3
    # An arm that has the same rate over the same interval has the same loss to the last bit.
    evaluation = Evaluation(("constant",), 2)
    run_episodes(task(), learner(tmp_path), episodes=0, evaluation=evaluation, seed=SEED)
    constant = [r["val_loss"] for r in records(finished[0]) if r["arm"] == "constant"]
    assert constant == [r["val_loss"] for r in records(tmp_path)]


@pytest.mark.slow
def test_test_set_is_looked_at_once_for_each_evaluated_training_and_never_while_learning(finished):
    for record in records(finished[0]):
        assert ("test_loss" in record) == (record["phase"] == "evaluate")


@pytest.mark.slow
def test_initial_rates_of_training_are_spread_and_those_of_evaluation_given(tmp_path):
    evaluation = Evaluation(("constant",), seeds=1, learning_rates=(0.01, 0.1))
    run_episodes(
        task(epochs=1),
        learner(tmp_path),
        episodes=6,
        evaluation=evaluation,
        learning_rates=(0.001, 0.1),
    )
    rates = [r["initial_learning_rate"] for r in records(tmp_path) if r["phase"] == "train"]
    assert len(set(rates)) == 6
    assert all(0.001 <= rate <= 0.1 for rate in rates)
    given = [r["initial_learning_rate"] for r in records(tmp_path) if r["phase"] == "evaluate"]
    assert given == pytest.approx([0.01, 0.1])


@pytest.mark.slow
def test_report_sums_up_what_the_records_say(finished):
    directory, report = finished
    assert {row["arm"] for row in report.rows} == {"qan", "constant", "random"}
    for row in report.rows:
        losses = [
            np.log(r["val_loss"])
            for r in records(directory)
            if r["phase"] == "evaluate" and r["arm"] == row["arm"]
        ]
        assert row["log_val_loss"] == pytest.approx(np.mean(losses))
    rows = json.loads((directory / "evaluation.json").read_text())
    assert rows[0]["arm"] == report.rows[0]["arm"]
    assert json.loads((directory / "run.json").read_text())["versions"]["keras"]


def killing(task_: Task, after: int) -> Task:
    """The task, broken off in the middle of its nth training."""
    count = [0]

    def train(seed: int) -> tf.data.Dataset:
        count[0] += 1
        if count[0] <= after:
            return task_.train(seed)

        def batches():
            for number, batch in enumerate(task_.train(seed)):
                if number == 5:
                    raise Killed
                yield batch

        signature = (
            tf.TensorSpec((None, 6, 6, 1), tf.float32),
            tf.TensorSpec((None,), tf.int64),
        )
        return tf.data.Dataset.from_generator(batches, output_signature=signature)

    return Task(task_.build_model, train, task_.validation, task_.epochs, task_.test)


@pytest.mark.slow
@pytest.mark.parametrize("over", [1, 4], ids=["learning", "evaluating"])
def test_run_that_was_killed_resumes_and_ends_as_if_it_had_not_been(tmp_path, finished, over):
    directory, report = finished
    with pytest.raises(Exception, match="Killed"):
        run_episodes(killing(task(), over), learner(tmp_path), **OPTIONS)
    assert len(records(tmp_path)) == over  # all that was over when the kill came
    resumed = run_episodes(task(), learner(tmp_path), **OPTIONS)
    assert_same_run(directory, tmp_path)
    assert resumed.rows == report.rows


@pytest.mark.slow
def test_finished_run_is_not_done_again(finished):
    seen = []
    run_episodes(task(seen), learner(finished[0]), **OPTIONS)
    assert seen == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": -1}, "episodes is -1; expected at least 0"),
        ({"seed": FIRST_UNSEEN_SEED}, "expected 0 to 499999"),
        ({"learning_rates": (0.1, 0.01)}, "ascending"),
        ({"learning_rates": (0.0, 0.01)}, "positive"),
    ],
)
def test_unusable_argument_is_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run_episodes(task(), learner(tmp_path), **{"episodes": 1, **arguments})


def test_callback_without_a_directory_is_refused():
    with pytest.raises(ValueError, match="without a directory"):
        run_episodes(task(), learner(None), episodes=1)


def test_training_of_no_epochs_is_refused():
    with pytest.raises(ValueError, match="epochs is 0"):
        Task(student, lambda seed: None, None, epochs=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arms": ("qan", "cosin")}, "Did you mean 'cosine'"),
        ({"arms": ()}, "at least one"),
        ({"arms": ("qan", "qan")}, "different names"),
        ({"seeds": 0}, "at least 1"),
        ({"learning_rates": (-1.0,)}, "positive"),
    ],
)
def test_unusable_evaluation_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Evaluation(**arguments)


def test_model_builder_that_returns_no_compiled_model_is_refused(tmp_path):
    bare = keras.Sequential([keras.layers.Input((6, 6, 1)), keras.layers.Flatten()])
    broken = Task(lambda seed: bare, task().train, task().validation, epochs=1)
    with pytest.raises(TypeError, match="expected a compiled"):
        run_episodes(broken, learner(tmp_path), episodes=1)
