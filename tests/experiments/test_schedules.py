"""A bare callback beside other schedules: the arms, the records, the report, going on."""

from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
from helpers.scripts import Script

from keras_qan.experiments.schedules import (
    CosineRate,
    FitRecorder,
    ScheduleExperiment,
    compare,
)
from keras_qan.storage.run_log import InMemoryRunLog, read

SMALL = {
    "model": "mlp",
    "train_fraction": 0.1,
    "epochs": 2,
    "seeds": 1,
    "learning_rate": (0.01, 0.1),
}


def tiny_model(rate=0.5):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse", run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("schedules") / "run"
    return ScheduleExperiment(**SMALL, directory=str(directory)).run()


@pytest.mark.slow
def test_every_arm_is_trained_from_every_rate_and_adamw_once(finished):
    episodes = read(finished.directory, "episodes")
    found = sorted((record["arm"], record["initial_learning_rate"]) for record in episodes)
    at_each = [
        (arm, rate) for arm in ("constant", "cosine", "plateau", "qan") for rate in (0.01, 0.1)
    ]
    assert found == sorted([("adamw", 0.001), *at_each])
    assert len(finished.rows) == 2 * 5
    assert {row["arm"] for row in finished.rows} == {
        "qan",
        "constant",
        "cosine",
        "plateau",
        "adamw",
    }


@pytest.mark.slow
def test_arms_begin_with_the_same_weights_and_batches(finished):
    first = {
        record["arm"]: record["loss"]
        for record in read(finished.directory, "epochs")
        if record["epoch"] == 0
        and record["arm"] in ("constant", "plateau")
        and record["episode"] < 4
    }
    assert first["constant"] == first["plateau"]  # nothing differs before the second epoch


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again_and_other_flags_are_refused(finished):
    before = (finished.directory / "episodes.jsonl").read_text()
    again = ScheduleExperiment(**SMALL, directory=str(finished.directory)).run()
    assert (finished.directory / "episodes.jsonl").read_text() == before
    assert again.rows == finished.rows
    with pytest.raises(ValueError, match=r"other flags: --epochs=2 there and --epochs=3 here\."):
        ScheduleExperiment(**SMALL | {"epochs": 3}, directory=str(finished.directory)).run()


@pytest.mark.slow
def test_the_script_prints_lines_of_progress_a_table_and_its_report(finished, tmp_path):
    text = "".join(
        f"--{name}={value}\n" for name, value in SMALL.items() if name != "learning_rate"
    )
    flags = tmp_path / "small.flags"
    flags.write_text(text + "--learning_rate=0.01,0.1\n")
    script = Script(
        "compare_schedules", f"--flagfile={flags}", f"--directory={finished.directory}",
        output=tmp_path / "output",
    )  # fmt: skip
    assert script.wait() == 0, script.output
    assert "fits: 9 of 9" in script.output
    report = finished.directory / "report.html"
    assert f"Report: {report}" in script.output
    assert "plateau" in report.read_text(encoding="utf-8")


def test_adamw_stands_beside_every_initial_rate(tmp_path):
    records = [
        {"arm": arm, "phase": "evaluate", "episode": number, "seed": 1, "val_loss": loss,
         "initial_learning_rate": rate, "test_accuracy": 0.5, "diverged": False}
        for number, (arm, rate, loss) in enumerate(
            [("qan", 0.01, 0.5), ("qan", 0.1, 0.25), ("adamw", 0.001, 1.0)]
        )
    ]  # fmt: skip
    (tmp_path / "episodes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    rows = {
        (row["initial_learning_rate"], row["arm"]): row for row in compare(tmp_path, (0.01, 0.1))
    }
    assert rows[0.01, "adamw"]["minus_reference"] == pytest.approx(math.log(2))
    assert rows[0.1, "adamw"]["minus_reference"] == pytest.approx(math.log(4))


def test_the_cosine_goes_from_the_initial_rate_to_nothing():
    rates = []
    model = tiny_model(0.5)
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(float(model.optimizer.learning_rate))
    )
    x = np.ones((8, 2))
    model.fit(x, x[:, :1], batch_size=2, epochs=2, verbose=0, callbacks=[CosineRate(), watch])
    expected = [0.25 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert rates == pytest.approx(expected, abs=1e-6)


def test_rates_are_recorded_where_they_change_and_at_each_epoch():
    log = InMemoryRunLog()
    x = np.ones((4, 2))
    recorder = FitRecorder(log, keeps_rates=True)
    tiny_model(0.125).fit(
        x, x[:, :1], batch_size=2, epochs=2, verbose=0, validation_data=(x, x[:, :1]),
        callbacks=[recorder],
    )  # fmt: skip
    lines = [json.loads(line) for line in log.state()["lines"]["decisions"]]
    assert [(line["step"], line["learning_rate"]) for line in lines] == [(0, 0.125), (2, 0.125)]
    assert recorder.step == 4
    assert math.isfinite(recorder.val_loss)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"arms": ("qan", "cosin")}, r"arms is 'cosin'"),
        ({"arms": ()}, r"arms is \(\)"),
        ({"learning_rate": ()}, r"learning_rate is \(\)"),
        ({"learning_rate": (0.1, -1.0)}, r"learning_rate is \(0\.1, -1\.0\)"),
        ({"seeds": 0}, r"seeds is 0"),
    ],
)
def test_fields_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        ScheduleExperiment(**wrong)
