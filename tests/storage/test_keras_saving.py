"""What is configurable goes through `keras.saving` and JSON, and comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import pytest

from keras_qan import QANCallback
from keras_qan.actions import Cosine, Decay, Hold
from keras_qan.agents import DQN, ConstantAgent
from keras_qan.diagnostics import SlopeRatio
from keras_qan.early_stopping import CurvePredictor, CurveStopping
from keras_qan.meta_momentum import ConstantStrength, Distillation, FixedTeacher, MetaMomentum
from keras_qan.observations import CurrentLearningRate
from keras_qan.qan.policy import Policy
from keras_qan.qan.rewards import LogLossDrop
from keras_qan.storage.serialization import to_config


def through_json(made):
    written = json.dumps(keras.saving.serialize_keras_object(made))
    return keras.saving.deserialize_keras_object(json.loads(written))


def test_the_bare_callback_comes_back_bare():
    again = through_json(QANCallback())
    assert type(again) is QANCallback
    assert again.settings.config() == QANCallback().settings.config()
    assert not again.explore


def test_a_callback_comes_back_with_its_parts_and_its_directory(tmp_path):
    made = QANCallback(
        tmp_path / "run",
        actions=[Decay(0.5), Hold()],
        observations=[CurrentLearningRate()],
        reward=LogLossDrop(),
        agent=DQN(hidden=(4,), seed=3),
        decide_every=2,
        rate_bounds=(1e-5, 0.1),
        schedule=Cosine(),
        restore_best=True,
        total_steps=40,
    )
    config = made.get_config()
    again = through_json(made)
    assert again.settings.config() == made.settings.config()
    assert again.directory == tmp_path / "run"
    assert type(again.agent) is DQN
    for name in ("restore_best", "total_steps", "decide_every"):
        assert again.get_config()[name] == config[name]


def test_a_copy_for_another_training_has_the_same_config():
    made = QANCallback(actions=[Hold()], agent=ConstantAgent(0), decide_every=3)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert to_config(list(copy.settings.actions)) == [{"class": "Hold"}]
    assert copy.settings.decide_every == 3


def test_a_policy_object_and_a_loaded_run_are_refused_with_the_way_out(tmp_path):
    shipped = Path(__file__).parents[2] / "keras_qan" / "policies" / "default.qan"
    policy = Policy.load(shipped)
    with pytest.raises(TypeError, match=r"given a Policy object.*Policy\.save"):
        keras.saving.serialize_keras_object(QANCallback(policy=policy))
    assert through_json(QANCallback(policy=shipped)).get_config()["policy"] == str(shipped)
    made = QANCallback(policy="slope")
    loaded = QANCallback.of(made.state, explore=False)
    with pytest.raises(TypeError, match=r"made by QANCallback\.load.*other side"):
        loaded.get_config()


def test_curve_stopping_comes_back_and_shares_the_directory(tmp_path):
    made = CurveStopping(
        tmp_path / "curves",
        "val_loss",
        confidence=0.95,
        keep_best=3,
        margin=0.1,
        features={"width": 8},
        predictor=CurvePredictor(families=["least_squares"], min_curves=6),
    )
    again = through_json(made)
    assert again.get_config()["features"] == {"width": 8}
    assert again.rule == made.rule
    assert again.monitor == "val_loss"
    assert again.history.directory == tmp_path / "curves"
    assert to_config(again.get_config()["predictor"]) == to_config(made.get_config()["predictor"])


def test_meta_momentum_comes_back_with_form_and_fade(tmp_path):
    made = MetaMomentum(
        "previous", 0.05, form=Distillation(3.0), fade=ConstantStrength(), directory=tmp_path
    )
    again = through_json(made)
    assert (again.strength, again.form.temperature) == (0.05, 3.0)
    assert type(again.fade) is ConstantStrength
    assert again.teacher.directory == tmp_path


def test_a_teacher_with_weights_is_refused_with_the_way_out():
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(TypeError, match=r"weights a config does not hold.*model\.save"):
        MetaMomentum(FixedTeacher(model)).get_config()


def test_the_slope_ratio_comes_back():
    again = through_json(SlopeRatio(every=50, window=8))
    assert (again.every, again.window) == (50, 8)
