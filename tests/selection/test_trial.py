"""Turning the choice of a selector off, and the rule that does so where it does not pay."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from helpers.selectors import Training, dataset, examples, ready

from keras_qan import selection


def hard_share(numbers):
    """The share of the examples of the highest losses, 45 to 59 of 60."""
    return np.mean(numbers >= 45)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LossRank", "Prune"])
def test_all_examples_come_alike_between_turn_off_and_turn_on(kind):
    selector = ready(kind)
    training = Training(selector)
    training.steps(40)
    selector.turn_off()
    assert selector.staleness == 2
    training.steps(2)
    off = training.steps(30)  # 240 examples
    assert np.bincount(off.ravel(), minlength=60).min() >= 3  # passes over all 60
    assert hard_share(off) == pytest.approx(0.25, abs=0.02)
    selector.turn_off()  # once more changes nothing
    assert hard_share(training.steps(15)) == pytest.approx(0.25, abs=0.03)
    selector.turn_on()
    training.steps(10)
    assert hard_share(training.steps(30)) > 0.3


@pytest.mark.slow
def test_classes_come_as_in_the_data_between_turn_off_and_turn_on():
    selector = ready("ClassMix")  # the slots hold classes 0, 1 and 2
    training = Training(selector)
    assert set(training.steps(10).ravel() % 4) == {0, 1, 2}
    selector.turn_off()
    training.steps(2)
    off = training.steps(60)
    shares = np.bincount(off.ravel() % 4) / off.size
    np.testing.assert_allclose(shares, 0.25, atol=0.08)
    for label in range(4):  # without replacement: each 15 in a row of a class are its 15
        of_class = off.ravel()[off.ravel() % 4 == label]
        assert np.ptp(np.bincount(of_class, minlength=60)[label::4]) <= 2
    selector.turn_on()
    training.steps(2)
    assert set(training.steps(10).ravel() % 4) == {0, 1, 2}


@pytest.mark.slow
def test_what_is_off_is_kept_and_an_older_save_is_on():
    selector = ready("ClassMix")
    training = Training(selector)
    training.steps(3)
    older = {name: a for name, a in selector.arrays().items() if name != "off"}
    selector.turn_off()
    arrays = selector.arrays()
    training.steps(2)
    expected = training.steps(8)
    other = ready("ClassMix", 1)
    other.restore(arrays)
    again = Training(other)
    again.steps(2)
    np.testing.assert_array_equal(again.steps(8), expected)
    other.restore(older)
    assert set(Training(other).steps(10).ravel() % 4) == {0, 1, 2}


class Recorder:
    """A selector of which only the switching is asked."""

    def __init__(self, monkeypatch, selector):
        self.calls = []
        monkeypatch.setattr(selector, "turn_on", lambda: self.calls.append(True))
        monkeypatch.setattr(selector, "turn_off", lambda: self.calls.append(False))


def run(trial, losses):
    trial.set_params({"epochs": len(losses)})
    trial.on_train_begin()
    for epoch, loss in enumerate(losses):
        trial.on_epoch_end(epoch, {"val_loss": loss})


ON = (True, False, False, True, False, True, True, False)


@pytest.mark.parametrize(("gain", "pays"), [(0.1, True), (0.0, False), (-0.1, False)])
def test_it_stays_where_epochs_with_it_bring_more(monkeypatch, capsys, gain, pays):
    selector = ready("ClassMix")
    calls = Recorder(monkeypatch, selector).calls
    trial = selection.SelectionTrial(selector)
    # Falls by a trend that is square in time, and by the gain where the choice is on.
    falls = [0.3 - 0.05 * t + 0.004 * t**2 + gain * on for t, on in enumerate(ON)]
    run(trial, np.exp(-np.cumsum([0.0, *falls, 0.1, 0.1])))
    assert calls == [True, *ON, pays]
    assert trial.pays is pays
    assert np.mean(trial.gains) == pytest.approx(gain, abs=1e-9)
    said = capsys.readouterr().out
    assert said.count("The choice of ClassMix") == 1
    assert ("stays on" if pays else "is turned off") in said


def test_what_it_cannot_use_is_refused():
    with pytest.raises(ValueError, match="expected a ClassMix, LossRank or Prune"):
        selection.SelectionTrial(selection.Uniform(dataset(), 8))
    selector = ready("ClassMix")
    with pytest.raises(ValueError, match="expected a multiple of 8"):
        selection.SelectionTrial(selector, epochs=12)
    trial = selection.SelectionTrial(selector)
    with pytest.raises(ValueError, match="expected at least 10"):
        run(trial, [1.0] * 9)
    with pytest.raises(ValueError, match="Give fit validation_data"):
        run(trial, [1.0] * 3 + [np.nan] * 7)


@pytest.mark.slow
def test_in_a_fit_it_decides_and_the_training_goes_on():
    x, y = examples()
    selector = ready("ClassMix")
    trial = selection.SelectionTrial(selector, verbose=0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(
        selector.dataset(),
        steps_per_epoch=4,
        epochs=10,
        shuffle=False,
        verbose=0,
        validation_data=(x / 60.0, y),
        callbacks=[selector.callback(), trial],
    )
    assert len(history.history["val_loss"]) == 10
    assert trial.pays in (True, False)
    assert len(trial.gains) == 4
