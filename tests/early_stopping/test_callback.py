"""CurveStopping in `fit`, under KerasTuner, and as a name of the package."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from helpers.curves import saturating
from helpers.students import data, student

import keras_qan
from keras_qan import CurveStopping, early_stopping
from keras_qan.early_stopping import CurveHistory, CurvePredictor, FinishedCurve

EPOCHS = 6


class Scripted(keras.callbacks.Callback):
    """Puts a curve of ours into the logs."""

    def __init__(self, values):
        super().__init__()
        self._values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self._values[epoch]


MODEL = student()


def fit(stopper, values, epochs=EPOCHS, **arguments):
    x, y = data(8)
    history = MODEL.fit(
        x, y, epochs=epochs, verbose=0, callbacks=[Scripted(values), stopper], **arguments
    )
    return len(history.history["loss"])


def learned(directory, count=40, monitor="score", **arguments):
    """A stopper with finished curves of EPOCHS values in its history."""
    history = CurveHistory(directory)
    curves, features = saturating(count, EPOCHS)
    for curve, (best, speed) in zip(curves, features, strict=True):
        named = {"best": best, "speed": speed}
        history.add(FinishedCurve(monitor, tuple(curve.tolist()), named, EPOCHS))
    arguments = {
        "confidence": 0.9,
        "mode": "max",
        "predictor": CurvePredictor(["least_squares"]),
    } | arguments
    return CurveStopping(directory, monitor, **arguments)


def curve(best):
    return best * (1 - np.exp(-np.arange(1, EPOCHS + 1) / 3.0))


def test_public_names_lead_to_the_same_class():
    assert keras_qan.CurveStopping is early_stopping.CurveStopping
    assert "CurveStopping" in dir(keras_qan)


@pytest.mark.slow
def test_hopeless_training_is_stopped_and_reports_its_predicted_end(tmp_path):
    stopper = learned(tmp_path)
    assert fit(stopper, curve(0.5)) < EPOCHS
    assert stopper.stopped_epoch is not None
    assert stopper.predicted_end == pytest.approx(curve(0.5)[-1], abs=0.1)
    last = CurveHistory(tmp_path).curves()[-1]
    assert last.stopped
    assert len(last.values) == stopper.stopped_epoch + 1
    assert last.predictions[-1][:2] == (len(last.values), stopper.predicted_end)


@pytest.mark.slow
def test_promising_training_runs_to_its_end_and_is_learned_from(tmp_path):
    stopper = learned(tmp_path)
    before = len(stopper.history.finished_curves("score"))
    assert fit(stopper, curve(1.2)) == EPOCHS
    assert stopper.stopped_epoch is None
    assert stopper.prediction is not None
    assert stopper.history.finished_curves("score")[-1].values == pytest.approx(curve(1.2))
    assert len(stopper.history.finished_curves("score")) == before + 1


@pytest.mark.slow
def test_losses_stop_on_the_other_side(tmp_path):
    history = CurveHistory(tmp_path)
    curves, _ = saturating(40, EPOCHS)
    for one in curves:
        history.add(FinishedCurve("score", tuple((2 - one).tolist()), {}, EPOCHS))
    stopper = CurveStopping(
        tmp_path, "score", 0.9, mode="min", predictor=CurvePredictor(["least_squares"])
    )
    assert fit(stopper, 2 - curve(1.2)) == EPOCHS
    assert fit(stopper, 2 - curve(0.5)) < EPOCHS


@pytest.mark.slow
def test_keeping_more_of_the_best_lets_the_middling_go_on(tmp_path):
    middling = curve(0.75)
    assert fit(learned(tmp_path / "a"), middling) < EPOCHS
    assert fit(learned(tmp_path / "b", keep_best=30), middling) == EPOCHS


def test_with_too_few_finished_curves_it_trains_on_and_says_how_many_are_missing(tmp_path):
    stopper = learned(tmp_path, count=4)
    assert stopper.num_missing == 6  # the regressors' ten; the confidence of 0.9 needs nine
    assert fit(stopper, curve(0.1)) == EPOCHS
    assert stopper.prediction is None
    assert stopper.num_missing == 5


@pytest.mark.slow
def test_it_learns_from_nothing_over_fits(tmp_path):
    stopper = CurveStopping(
        tmp_path,
        "score",
        0.75,
        mode="max",
        predictor=CurvePredictor(["least_squares"], min_curves=6),
    )
    ran = [fit(stopper, curve(best)) for best in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)]
    assert ran == [EPOCHS] * 6
    assert fit(stopper, curve(0.45)) < EPOCHS


@pytest.mark.slow
def test_it_starts_afresh_in_every_fit(tmp_path):
    stopper = learned(tmp_path)
    assert fit(stopper, curve(0.5)) < EPOCHS
    assert fit(stopper, curve(1.2)) == EPOCHS
    assert stopper.stopped_epoch is None


@pytest.mark.slow
def test_shorter_trainings_are_compared_with_where_longer_ones_stood_by_then(tmp_path):
    stopper = learned(tmp_path)
    assert fit(stopper, curve(1.2), epochs=4) == 4
    assert stopper.history.curves()[-1].planned == 4
    assert stopper.predicted_end == pytest.approx(curve(1.2)[3], abs=0.1)
    assert fit(stopper, curve(0.1), epochs=1) == 1  # nothing to predict, nothing to save
    assert fit(stopper, curve(0.4), epochs=4) < 4


def test_a_training_that_goes_on_is_compared_with_others_that_went_on(tmp_path):
    stopper = learned(tmp_path)
    assert fit(stopper, curve(0.1), epochs=EPOCHS, initial_epoch=3) == 3
    assert stopper.prediction is None
    last = stopper.history.curves()[-1]
    assert (last.planned, last.first_epoch) == (3, 3)
    assert last not in stopper.history.finished_curves("score")


def test_features_of_the_model_and_given_ones_are_kept(tmp_path):
    stopper = CurveStopping(tmp_path, "loss", features=lambda model: {"name": model.name})
    x, y = data(8)
    model = student(keras.optimizers.SGD(0.03), name="abc")
    model.fit(x, y, epochs=2, verbose=0, callbacks=[stopper])
    found = stopper.history.curves()[0].features
    assert found["num_weights"] == model.count_params()
    assert found["num_layers"] == 3
    assert found["learning_rate"] == pytest.approx(0.03)
    assert found["name"] == model.name


def test_a_training_that_something_else_ended_is_not_learned_from(tmp_path):
    class Ends(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    stopper = CurveStopping(tmp_path, "loss")
    x, y = data(8)
    student().fit(x, y, epochs=3, verbose=0, callbacks=[stopper, Ends()])
    assert stopper.history.curves() == []


def test_nan_ends_the_predicting_with_a_warning_and_not_the_training(tmp_path):
    stopper = learned(tmp_path)
    values = curve(1.2)
    values[2] = np.nan
    with pytest.warns(RuntimeWarning, match="TerminateOnNaN"):
        assert fit(stopper, values) == EPOCHS
    assert len(stopper.history.finished_curves("score")) == 40


def test_a_metric_that_is_not_there_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"monitor='val_accuracy'.*validation_data"):
        fit(CurveStopping(tmp_path), curve(0.5))


def compiled(*metrics):
    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(2, activation="softmax"))
    model.compile("sgd", "categorical_crossentropy", metrics=list(metrics), run_eagerly=True)
    return model


def trained(model, stopper, epochs=2, **more):
    x, y = data(8)
    y = np.eye(2, dtype="float32")[y]
    model.fit(x, y, epochs=epochs, verbose=0, callbacks=[stopper], validation_data=(x, y), **more)
    return stopper


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "name", "mode"),
    [
        ("accuracy", "val_accuracy", "max"),
        (keras.metrics.MeanSquaredError(name="precision"), "val_precision", "min"),
        (keras.metrics.AUC(name="error"), "error", "max"),
        ("accuracy", "val_loss", "min"),
    ],
)
def test_which_way_is_better_is_what_the_metrics_object_says(tmp_path, metric, name, mode):
    assert trained(compiled(metric), CurveStopping(tmp_path, name, mode="auto")).rule.mode == mode


@pytest.mark.slow
@pytest.mark.parametrize("name", ["brier_score", "energy_score", "accumulated_cost", "placc"])
def test_the_name_of_a_metric_alone_asks_for_the_mode(tmp_path, name):
    own = keras.metrics.MeanMetricWrapper(lambda y, p: keras.ops.mean(y - p), name=name)
    with pytest.raises(ValueError, match=f'monitor=\'val_{name}\'.*mode="max" or mode="min"'):
        trained(compiled(own), CurveStopping(tmp_path, f"val_{name}"))
    stopper = CurveStopping(tmp_path, f"val_{name}", mode="min")
    assert trained(compiled(own), stopper).rule.mode == "min"


def test_a_metric_that_is_a_vector_is_refused_by_name(tmp_path):
    of_classes = keras.metrics.F1Score(average=None)
    with pytest.raises(ValueError, match=r"val_f1_score=.*single number.*average='macro'"):
        trained(compiled(of_classes), CurveStopping(tmp_path, "val_f1_score"))


@pytest.mark.parametrize(("freq", "known"), [(2, (1, 1, 1, 3, 3)), ([3], (2, 2, 2, 2, 2))])
def test_the_last_validation_stands_for_epochs_without(tmp_path, freq, known):
    seen = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: (
            logs.update({"val_loss": float(epoch)}) if "val_loss" in logs else None
        )
    )
    stopper = CurveStopping(tmp_path, "val_loss")
    x, y = data(8)
    model = compiled()
    model.fit(
        x,
        np.eye(2)[y],
        epochs=5,
        verbose=0,
        validation_data=(x, np.eye(2)[y]),
        validation_freq=freq,
        callbacks=[seen, stopper],
    )
    found = stopper.history.curves()[0]
    assert found.planned == 5
    assert found.values == known


def test_numbers_of_numpy_are_kept_as_features(tmp_path):
    features = {
        "depth": np.int64(3),
        "rate": np.float32(0.5),
        "is_wide": np.bool_(True),
        "width": np.array(64),
        "kind": np.str_("a"),
    }
    trained(compiled(), CurveStopping(tmp_path, "val_loss", features=lambda _: features))
    found = CurveHistory(tmp_path).curves()[0].features
    expected = {"depth": 3, "rate": 0.5, "is_wide": True, "width": 64, "kind": "a"}
    assert {name: found[name] for name in expected} == expected


def test_a_curve_of_numpys_numbers_is_kept(tmp_path):
    history = CurveHistory(tmp_path)
    values = np.array([0.5, np.nan, 0.75], np.float32)
    history.add(FinishedCurve("loss", values, {"a": np.float64(1.5)}, np.int64(3)))
    found = history.curves()[0]
    np.testing.assert_array_equal(found.values, [0.5, np.nan, 0.75])
    assert (found.features, found.planned) == ({"a": 1.5}, 3)


def test_a_feature_that_was_a_number_before_ends_the_predicting_and_not_the_training(tmp_path):
    stopper = learned(tmp_path, features={"best": "very", "speed": 1.0})
    with pytest.warns(RuntimeWarning, match=r"best='very'.*predicts nothing"):
        assert fit(stopper, curve(0.5)) == EPOCHS


def test_stopping_says_so_where_fit_is_not_silent(tmp_path, capsys):
    x, y = data(8)
    stopper = learned(tmp_path)
    MODEL.fit(x, y, epochs=EPOCHS, verbose=2, callbacks=[Scripted(curve(0.5)), stopper])
    assert "score is predicted to end at" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verbose", "stopped", "predictions"), [(None, 0, 0), (0, 0, 0), (1, 1, 0), (2, 1, 1)]
)
def test_its_own_verbosity_holds_in_a_silent_fit(tmp_path, capsys, verbose, stopped, predictions):
    fit(learned(tmp_path, verbose=verbose), curve(0.5))
    fit(learned(tmp_path, verbose=verbose), curve(1.2))
    out = capsys.readouterr().out
    assert ("stopped, as score is predicted to end at" in out) == stopped
    assert ("not surely behind" in out) == predictions


def test_it_says_how_many_curves_are_missing(tmp_path, capsys):
    stopper = learned(tmp_path, count=3, verbose=2)
    fit(stopper, curve(0.5))
    assert f"cannot stop yet: {stopper.num_missing + 1} finished curves" in capsys.readouterr().out


def test_another_verbosity_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"verbose is 3; expected 0, 1, 2 or None"):
        CurveStopping(tmp_path, verbose=3)


@pytest.mark.slow
def test_copies_share_history_and_what_was_learned(tmp_path):
    stopper = learned(tmp_path)
    fit(stopper, curve(1.2))
    twin = copy.deepcopy(stopper)
    assert twin.history is stopper.history
    assert twin.prediction is None
    assert fit(twin, curve(0.5)) < EPOCHS


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"mode": "up"}, "mode is 'up'"),
        ({"confidence": 2}, "confidence is 2"),
        ({"features": {"depth": None}}, "depth=None"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, arguments, says):
    with pytest.raises(ValueError, match=says):
        CurveStopping(tmp_path, **arguments)


@pytest.mark.stress
def test_keras_tuner_trials_share_the_history_and_are_stopped(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras_tuner

    def build(space):
        space.Int("number", 0, 100)
        return MODEL  # one for all trials: each of its own would be compiled anew

    class Falling(keras.callbacks.Callback):
        """Later trials are worse; the seventh is hopeless."""

        trial = 0

        def on_train_begin(self, logs=None):
            type(self).trial += 1

        def on_epoch_end(self, epoch, logs=None):
            logs["val_accuracy"] = float(curve(1.0 - 0.1 * type(self).trial)[epoch])

    stopper = CurveStopping(
        tmp_path / "curves",
        mode="max",
        confidence=0.75,
        predictor=CurvePredictor(["least_squares"], min_curves=6),
    )
    tuner = keras_tuner.RandomSearch(
        build,
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_trials=7,
        seed=0,
        directory=tmp_path / "tuner",
        overwrite=True,
    )
    x, y = data(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner.search(
            x, y, validation_data=(x, y), epochs=EPOCHS, verbose=0, callbacks=[Falling(), stopper]
        )
    assert [one.stopped for one in stopper.history.curves()] == [False] * 6 + [True]


def test_the_package_loads_nothing_heavy_before_it_is_used():
    code = (
        "import sys, keras_qan; from keras_qan import early_stopping;"
        "assert not {'sklearn', 'tensorflow', 'optuna'} & set(sys.modules), 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_loop_that_does_not_say_how_many_epochs_it_has_is_asked_for_them(tmp_path):
    stopper, model = CurveStopping(tmp_path, "loss"), student()
    callbacks = keras.callbacks.CallbackList([stopper], model=model)
    callbacks.on_train_begin()
    with pytest.raises(ValueError, match=r"how many epochs.*epochs=\.\.\."):
        callbacks.on_epoch_begin(0)


def test_a_loop_that_says_how_many_epochs_it_has_is_learned_from(tmp_path):
    stopper, model = CurveStopping(tmp_path, "loss"), student()
    callbacks = keras.callbacks.CallbackList([stopper], model=model, epochs=2)
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_epoch_end(epoch, {"loss": 1.0 / (epoch + 1)})
    callbacks.on_train_end()
    (curve,) = stopper.history.finished_curves("loss")
    assert curve.values == (1.0, 0.5)


def test_the_weights_of_a_model_that_its_first_step_builds_are_counted(tmp_path):
    stopper = CurveStopping(tmp_path, "loss", features={"num_heads": 3})
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data(8), epochs=2, verbose=0, callbacks=[stopper])
    (curve,) = stopper.history.finished_curves("loss")
    assert curve.features["num_weights"] == 36 * 2 + 2
    assert curve.features["num_heads"] == 3
