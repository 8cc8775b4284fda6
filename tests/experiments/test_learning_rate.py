"""Experiment: fields, run directory, resuming; and the script that is made of it."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
from helpers.scripts import Script

from keras_qan import QANCallback, models
from keras_qan.experiments.flags import to_text
from keras_qan.experiments.learning_rate import LearningRateExperiment
from keras_qan.qan import presets
from keras_qan.storage import run_log

TINY = {
    "model": "mlp",
    "episodes": 2,
    "epochs": 1,
    "batch_size": 64,
    "train_fraction": 0.2,
    "eval_seeds": 1,
    "arms": ("qan", "constant"),
}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs is 0"),
        ("batch_size", 0, "batch_size is 0"),
        ("eval_seeds", 0, "eval_seeds is 0"),
        ("episodes", -1, "episodes is -1"),
        ("train_fraction", 0.0, r"\(0, 1\]"),
        ("train_fraction", 1.5, r"\(0, 1\]"),
        ("wrong_labels", 1.0, r"wrong_labels is 1\.0.*\[0, 1\)"),
        ("optimizer", "sdg", "expected one of sgd"),
        ("momentum", 1.0, r"\[0, 1\)"),
        ("learning_rate", (), "at least one"),
        ("learning_rate", (0.1, 0.01), "ascending"),
        ("learning_rate_spread", 0.5, "at least 1"),
        ("arms", ("qna",), "Did you mean 'qan'"),
        ("preset", "papr", "no preset 'papr'"),
        ("selection", "clas_mix", "expected one of class_mix, loss_rank, prune"),
        ("rate_actions", False, "Name a selection"),
    ],
)
def test_unusable_field_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        LearningRateExperiment(**{field: value})


@pytest.mark.slow
def test_wrong_labels_are_among_the_training_examples_alone_and_the_pressure_begins_at_none():
    settings = {"dataset": "digits", "epochs": 1, "selection": "loss_rank"}
    right, wrong = (
        LearningRateExperiment(**settings).task(),
        LearningRateExperiment(**settings, wrong_labels=0.5).task(),
    )
    labels = [
        {part: np.concatenate([y for _, y in getattr(t, part)]) for part in ("validation", "test")}
        for t in (right, wrong)
    ]
    for part in ("validation", "test"):
        np.testing.assert_array_equal(labels[0][part], labels[1][part])
    trained = [np.concatenate([y for _, y in t.train(0)]) for t in (right, wrong)]
    # Another class for half of them: the same order, so example by example.
    assert 0.4 < np.mean(trained[0] != trained[1]) < 0.6
    assert wrong.selector.pressure == 1.0
    assert not wrong.selector.anneal


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Directory of a run that is over; tests that change it take a copy."""
    directory = tmp_path_factory.mktemp("run")
    LearningRateExperiment(**TINY, directory=str(directory)).run()
    return directory


@pytest.mark.slow
def test_directory_holds_all_that_is_needed_to_repeat_and_to_read_the_run(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "agent",
        "decisions.jsonl",
        "epochs.jsonl",
        "episodes.jsonl",
        "evaluation.json",
        "flags.txt",
        "run.json",
        "tensorboard",
    }
    lines = (finished / "flags.txt").read_text().splitlines()
    assert "--epochs=1" in lines
    assert "--arms=qan,constant" in lines
    assert not any(line.startswith(("--directory", "--resume", "--noresume")) for line in lines)


@pytest.mark.slow
def test_directory_of_a_run_is_not_written_over_without_resume(finished):
    with pytest.raises(FileExistsError, match="--resume"):
        LearningRateExperiment(**TINY, directory=str(finished)).run()


@pytest.mark.slow
def test_run_can_be_lengthened_but_not_changed(finished, tmp_path):
    directory = shutil.copytree(finished, tmp_path / "longer")
    settings = TINY | {"directory": str(directory), "resume": True}
    assert LearningRateExperiment(**settings | {"episodes": 3}).run().episodes == 3
    with pytest.raises(ValueError, match=r"--batch_size=64 there and --batch_size=32 here"):
        LearningRateExperiment(**settings | {"batch_size": 32}).run()


def test_nothing_can_be_resumed_where_nothing_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        LearningRateExperiment(**TINY, directory=str(tmp_path / "empty"), resume=True).run()


def test_the_directory_of_a_callback_is_no_run_to_resume(tmp_path):
    (tmp_path / "agent").mkdir()
    with pytest.raises(FileNotFoundError, match=r"QANCallback has learned.*QANCallback\("):
        LearningRateExperiment(**TINY, directory=str(tmp_path), resume=True).run()
    (tmp_path / "run.json").touch()
    with pytest.raises(FileNotFoundError, match=r"flags\.txt is gone"):
        LearningRateExperiment(**TINY, directory=str(tmp_path), resume=True).run()


@pytest.mark.slow
def test_an_unknown_data_set_leaves_no_run_behind(tmp_path):
    directory = tmp_path / "run"
    with pytest.raises(ValueError, match="Did you mean cifar10"):
        LearningRateExperiment(**TINY | {"dataset": "cifar-10"}, directory=str(directory)).run()
    assert not directory.exists()


def test_paper_preset_is_the_papers_setup():
    experiment = LearningRateExperiment(
        dataset="digits", model="wrn-10-1", preset="paper", learning_rate=(0.1,), nesterov=True
    )
    callback = experiment.learner(None)
    assert [type(action).__name__ for action in callback.settings.actions] == ["Decay", "Restart"]
    assert callback.settings.actions[0].factor == 0.95
    assert callback.settings.decide_every == 1
    sizes = [part.size(1) for part in callback.settings.observations]
    assert sum(sizes) == 193


@pytest.mark.slow
def test_the_script_repeats_a_run_from_its_flags_evaluates_and_draws(finished, tmp_path):
    directory = tmp_path / "again"
    flags = f"--flagfile={finished / 'flags.txt'}", f"--directory={directory}"
    script = Script("train_qan", *flags, output=tmp_path / "output.txt")
    assert script.wait() == 0, script.output
    assert "constant" in script.output
    assert f"Run: {directory}" in script.output.replace("\n", "")
    figures = {path.name for path in (directory / "figures").iterdir()}
    assert {"accuracy_by_epoch.png", "learning_rate.png", "actions.png"} <= figures
    for file in ("decisions.jsonl", "epochs.jsonl"):
        assert (directory / file).read_text() == (finished / file).read_text()


def build_wide(name):
    model = models.build(name, (32, 32, 3), 10, weight_decay=5e-4)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return model


@pytest.mark.slow
def test_papers_model_has_its_size():
    assert build_wide("wrn-40-4").count_params() == pytest.approx(8.9e6, rel=0.01)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("wrn-10-4", marks=pytest.mark.slow),
        pytest.param("wrn-40-4", marks=pytest.mark.stress),
    ],
)
def test_papers_model_takes_a_few_steps_under_its_settings(name, tmp_path):
    """A wide residual network, images of CIFAR-10's size, two actions, a decision at each step."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 32, 32, 3)).astype("float32"), rng.integers(0, 10, 8)
    callback = QANCallback(tmp_path, **presets.paper())
    history = build_wide(name).fit(x, y, batch_size=2, verbose=0, callbacks=[callback])
    assert 0.1 * 0.95**4 - 1e-6 <= history.history["learning_rate"][0] <= 0.1 + 1e-6
    assert callback.agent.arrays()["replay/observation"].shape == (4, 193)


@pytest.mark.slow
def test_the_arms_that_choose_batches_share_their_number_with_those_that_do_not(tmp_path):
    settings = TINY | {"selection": "class_mix", "arms": ("qan", "random", "constant")}
    LearningRateExperiment(**settings, decide_every=4, directory=str(tmp_path)).run()
    steps = {record["arm"]: record["step"] for record in run_log.read(tmp_path, "epochs")}
    assert set(steps) == {"qan", "random", "constant"}
    assert len(set(steps.values())) == 1
    decisions = run_log.read(tmp_path, "decisions")
    assert {record["arm"] for record in decisions if "shares" in record} == {"qan", "random"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"engine": "cluster"}, "expected one of local, ray"),
        ({"ray_address": "auto"}, "an address with ray alone"),
        ({"workers": 0}, "workers is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"save_every_epochs": -2}, r"at least -1\. -1 is never"),
    ],
)
def test_unusable_engine_or_saving_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LearningRateExperiment(**fields)


def test_a_run_of_an_earlier_version_is_gone_on_with(tmp_path):
    later = ("--engine", "--workers", "--ray_address", "--threads", "--save_every_epochs")
    lines = [
        x for x in to_text(LearningRateExperiment(**TINY)).splitlines() if not x.startswith(later)
    ]
    (tmp_path / "flags.txt").write_text("\n".join(lines))
    LearningRateExperiment(**TINY, directory=str(tmp_path), resume=True)._open(tmp_path)
    (tmp_path / "flags.txt").write_text("\n".join(lines))
    other = LearningRateExperiment(**TINY, workers=2, directory=str(tmp_path), resume=True)
    with pytest.raises(ValueError, match="--workers=2"):
        other._open(tmp_path)


def test_a_run_that_was_killed_before_it_noted_its_flags_is_begun(tmp_path):
    LearningRateExperiment(**TINY, directory=str(tmp_path), resume=True)._open(tmp_path)
    assert "--epochs=1" in (tmp_path / "flags.txt").read_text()


def test_workers_make_the_same_task():
    experiment = LearningRateExperiment(**TINY, learning_rate=(0.01, 0.1))
    made = experiment.task().source.perform()
    model = made.build_model(4)
    expected = experiment.task().build_model(4)
    for one, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    batches = [next(iter(task.train(7)))[0].numpy() for task in (made, experiment.task())]
    np.testing.assert_array_equal(*batches)
