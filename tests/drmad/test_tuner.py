"""The search as a user meets it."""

import json

import keras
import numpy as np
import pytest
from helpers.drmad_cases import batches, build, data, tuner

from keras_qan import drmad
from keras_qan.storage import checkpoint

SOME = (drmad.L2(per="weight"), drmad.LearningRate(per="layer", schedule_points=2))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    found = tuner(SOME, steps=30, directory=tmp_path_factory.mktemp("search"))
    return found.search(outer_steps=6)


@pytest.mark.slow
def test_the_validation_loss_falls(searched):
    losses = [record["val_loss"] for record in searched.history]
    assert len(losses) == 6
    assert losses[-1] < 0.98 * losses[0]
    assert searched.val_loss == min(losses)


def test_the_best_model_is_the_one_that_was_measured(searched):
    x, y = data(seed=1)
    measured = searched.best_model().evaluate(x, y, verbose=0, return_dict=True)
    assert measured["loss"] == pytest.approx(searched.val_loss, rel=1e-6)
    assert 0.0 <= measured["accuracy"] <= 1.0


def test_the_log_and_the_figures_are_in_the_directory(searched):
    lines = (searched.directory / "outer_steps.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["outer_step"] for record in records] == list(range(6))
    assert records[0]["hyperparameters"]["L2(per='weight')"]["mean"] == pytest.approx(1e-4)
    drawn = sorted(path.name for path in (searched.directory / "figures").iterdir())
    assert drawn == ["learning_rates.png", "penalties.png", "validation_loss.png"]


@pytest.mark.slow
def test_the_check_reports_cosine_and_signs(searched):
    found = searched.check(steps=10)
    assert found.steps == 10
    assert 0.5 < found.cosine <= 1.0
    assert 0.5 < found.sign_agreement <= 1.0
    assert set(found.by_hyperparameter) == set(searched.values)
    assert "cosine" in str(found)


def test_searching_again_for_as_many_steps_does_nothing(searched):
    before = list(searched.history)
    assert searched.search(outer_steps=6).history == before


@pytest.mark.slow
def test_a_search_tells_each_outer_step_when_asked_and_nothing_when_silenced(capsys):
    found = tuner(SOME[:1], steps=2)
    found.search(outer_steps=1, verbose=0)
    assert capsys.readouterr().out == ""
    found.search(outer_steps=2, verbose=2)
    loss = found.history[1]["val_loss"]
    best = ", the lowest so far" if loss < found.history[0]["val_loss"] else ""
    first, *told = capsys.readouterr().out.splitlines()
    assert first.startswith("outer steps: 1 of 2, ")
    assert told[-1] == f"outer step 2: validation loss {loss:.4g}{best}"


@pytest.mark.slow
def test_a_search_that_was_broken_off_goes_on_bit_for_bit(searched, tmp_path):
    tuner(SOME, steps=30, directory=tmp_path).search(outer_steps=2)
    again = tuner(SOME, steps=30, directory=tmp_path)
    assert len(again.history) == 2
    again.search(outer_steps=6)
    for name, value in searched.values.items():
        np.testing.assert_array_equal(again.values[name], value)
    losses = [[record["val_loss"] for record in t.history] for t in (again, searched)]
    assert losses[0] == losses[1]
    for a, b in zip(
        again.best_model().get_weights(), searched.best_model().get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_initial_weights_without_a_seed_are_kept_over_a_break(tmp_path):
    def unseeded():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    options = {"build_model": unseeded, "steps": 5, "directory": tmp_path}
    options["train"] = batches(*(part.astype("float32") for part in data()))
    first = tuner([drmad.L2()], **options).search(outer_steps=1)
    again = tuner([drmad.L2()], **options)
    assert again.evaluate(again.initial_unconstrained()) == first.history[0]["val_loss"]


def test_a_directory_of_another_search_is_refused(searched):
    with pytest.raises(ValueError, match=r"holds a search with other hyperparameters; expected"):
        tuner([drmad.L2(per="unit")], steps=30, directory=searched.directory)


@pytest.mark.slow
def test_damaged_files_are_told_and_the_one_before_is_used(tmp_path):
    tuner([drmad.L2()], directory=tmp_path).search(outer_steps=2)
    newest = checkpoint.series(tmp_path, "search")[-1]
    newest.write_bytes(newest.read_bytes()[:-9])
    with pytest.warns(RuntimeWarning, match="damaged"):
        again = tuner([drmad.L2()], directory=tmp_path)
    assert len(again.history) == 1


@pytest.mark.slow
def test_a_step_that_makes_training_diverge_is_halved_and_counted():
    search = tuner(
        [drmad.LearningRate(per="universal", initial=0.001, bounds=(1e-6, 1e9))],
        steps=40,
        outer=drmad.OuterOptimizer(step_size=30.0),
    )
    search.search(outer_steps=3)
    assert search.divergences >= 1
    losses = [record["val_loss"] for record in search.history]
    assert np.isfinite(losses).all()
    assert search.val_loss < losses[0]
    assert search.history[-1]["divergences"] == search.divergences


@pytest.mark.slow
def test_a_first_training_that_diverges_is_told():
    search = tuner([drmad.LearningRate(initial=1e8, bounds=(1e-6, 1e9))], steps=400)
    with pytest.raises(drmad.DivergedError, match=r"began with; expected .* Lower the learning"):
        search.search(outer_steps=1)


@pytest.mark.parametrize(("rule", "moved"), [("sign", 0.07), ("adam", 0.07)])
@pytest.mark.slow
def test_the_first_step_of_these_rules_moves_every_number_alike(rule, moved):
    search = tuner(SOME, steps=3, outer=drmad.OuterOptimizer(rule=rule, step_size=0.07))
    before = search.initial_unconstrained()
    search.search(outer_steps=1)
    after = [
        h.transform.unconstrained(v) for h, v in zip(SOME, search.values.values(), strict=True)
    ]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(np.abs(a - b), moved, rtol=1e-4)


@pytest.mark.slow
def test_the_plain_rule_follows_the_hypergradient():
    search = tuner(
        [drmad.L2(per="unit")], steps=3, outer=drmad.OuterOptimizer("plain", step_size=0.5)
    )
    (gradient,) = search.hypergradient().values()
    search.search(outer_steps=1)
    moved = np.log(search.values["L2(per='unit')"]) - np.log(1e-4)
    np.testing.assert_allclose(moved, -0.5 * gradient, rtol=1e-6)


@pytest.mark.slow
def test_random_layers_are_replayed_and_batch_statistics_come_from_the_forward_pass():
    def noisy(seed):
        del seed
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((4,), dtype="float64"),
                layers.Dense(6, "tanh", dtype="float64"),
                layers.BatchNormalization(dtype="float64", momentum=0.5),
                layers.Dropout(0.4, dtype="float64"),
                layers.Dense(3, dtype="float64"),
            ]
        )
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    search = tuner([drmad.L2(per="unit", initial=0.01)], steps=9, build_model=noisy)
    every_step = drmad.Drmad(legs=tuple(range(1, 9)))
    found = search.hypergradient(method=every_step)["L2(per='unit')"]
    exact = search.hypergradient(method="exact")["L2(per='unit')"]
    np.testing.assert_allclose(found, exact, rtol=1e-8)
    search.search(outer_steps=1)
    x, y = data(seed=1)
    model = search.best_model()
    assert not np.allclose(model.layers[1].moving_mean, 0.0)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(search.val_loss, rel=1e-5)


@pytest.mark.slow
def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search = tuner([drmad.L2()], steps=3, build_model=lambda: build()).search(outer_steps=1)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="draw got no output"):
        search.draw()
    assert [path.name for path in search.draw(tmp_path / "here")] == ["validation_loss.png"]


@pytest.mark.slow
def test_a_sequential_without_an_input_is_built_on_the_data():
    def deferred():
        model = keras.Sequential([keras.layers.Dense(3, dtype="float64")])
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    search = tuner([drmad.L2()], steps=4, build_model=deferred).search(outer_steps=1)
    x, y = data(seed=1)
    assert search.best_model().evaluate(x, y, verbose=0) == pytest.approx(search.val_loss, rel=1e-6)


@pytest.mark.slow
def test_asking_for_the_best_before_searching_is_told():
    search = tuner([drmad.L2()], steps=2)
    with pytest.raises(RuntimeError, match="no best model yet"):
        search.best_model()
    with pytest.raises(ValueError, match="outer_steps is -1; expected at least 0"):
        search.search(-1)
    with pytest.raises(ValueError, match="steps is 0; expected at least 1"):
        search.check(0)
