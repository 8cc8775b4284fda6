import json

import keras
import numpy as np
import pytest

from keras_qan import CheckpointError, Policy, QANCallback
from keras_qan.actions import Cosine, Decay
from keras_qan.pretraining.tasks import HELD_OUT, HELD_OUT_SEQUENCES, TRAINING
from keras_qan.qan import policy
from keras_qan.storage import checkpoint


def student():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, name="head")(x))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def fit(callback, epochs=3, verbose=0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype(np.float32)
    return student().fit(
        x, x[:, :1] * 2.0 + 1.0, batch_size=8, epochs=epochs, verbose=verbose, callbacks=[callback]
    )


def test_a_bare_callback_follows_the_shipped_policy_and_learns_nothing():
    callback = QANCallback()
    fit(callback)
    assert callback.explore is False
    assert callback.episodes == 0
    expected = policy.shipped().arrays
    found = callback.agent.parameters()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.slow
def test_with_a_directory_it_goes_on_learning_from_the_shipped_policy(tmp_path):
    callback = QANCallback(tmp_path)
    fit(callback)
    assert callback.explore is True
    fit(callback)
    assert callback.episodes == 2
    known = callback.agent.parameters()
    # The policy stays; what is learned is how far to lean to higher or lower rates.
    for name, array in policy.shipped().arrays.items():
        np.testing.assert_array_equal(known[name], array)
    assert known["leaning/counts"].sum() == 2.0
    again = QANCallback(tmp_path)
    assert again.episodes == 2
    fit(again)
    assert again.episodes == 3
    assert again.agent.parameters()["leaning/counts"].sum() == 3.0


def test_after_each_training_it_says_whether_it_still_gains(tmp_path, capsys):
    callback = QANCallback(tmp_path)
    fit(callback, verbose=2)
    assert "QAN, training 1: too early to say" in capsys.readouterr().out


def test_settings_of_ones_own_mean_learning_from_nothing():
    callback = QANCallback(actions=[Decay(0.5)])
    assert callback.explore is True
    assert callback.settings.dense_start is None


def test_none_means_learning_from_nothing():
    assert QANCallback(policy=None).explore is True


def test_a_policy_and_settings_of_ones_own_are_refused():
    with pytest.raises(ValueError, match=r"policy='shipped' and actions.*one or the other"):
        QANCallback(actions=[Decay(0.5)], policy="shipped")


def test_a_policy_comes_back_from_its_file(tmp_path):
    shipped = policy.shipped()
    path = shipped.save(tmp_path / "own" / "mine.qan")
    again = Policy.load(path)
    assert again.provenance == shipped.provenance
    assert again.settings.config() == shipped.settings.config()
    for name, value in shipped.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], value)
    callback = QANCallback(policy=path)
    fit(callback, epochs=1)


def test_the_shipped_policy_is_small_and_says_where_it_comes_from():
    shipped = policy.shipped()
    total = sum(array.nbytes for array in shipped.arrays.values())
    assert total < policy.LARGEST_FILE
    assert {"trained_on", "held_out", "command", "seed", "score"} <= shipped.provenance.keys()
    assert json.dumps(shipped.provenance)
    assert all(np.isfinite(array).all() for array in shipped.arrays.values())


def test_under_the_shipped_policy_the_rate_is_whole_for_half_of_a_training_and_then_falls():
    schedule = policy.shipped().settings.schedule
    assert [schedule(p) for p in (0.0, 0.5, 0.75, 1.0)] == pytest.approx([1.0, 1.0, 0.5, 0.0])
    own = QANCallback(schedule=Cosine())  # what the user asks for comes first
    assert isinstance(own.settings.schedule, Cosine)


def test_a_missing_policy_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no policy at .*nowhere.*train_policy"):
        QANCallback(policy=tmp_path / "nowhere.qan")


def test_a_damaged_policy_is_refused(tmp_path):
    path = policy.shipped().save(tmp_path / "a.qan")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        Policy.load(path)


def test_a_file_beyond_all_size_is_not_read(tmp_path):
    path = tmp_path / "large.qan"
    path.write_bytes(b"0" * (policy.LARGEST_FILE + 1))
    with pytest.raises(CheckpointError, match=r"1,048,577 bytes; expected .* at most"):
        Policy.load(path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path = tmp_path / "run.ckpt"
    checkpoint.write(path, {"a": np.zeros(2)}, {"episodes": 3})
    with pytest.raises(CheckpointError, match=r"expected 'keras_qan policy 1'.*QANCallback.load"):
        Policy.load(path)


def test_settings_that_are_none_are_refused(tmp_path):
    path = tmp_path / "odd.qan"
    data = {"format": policy.FORMAT, "settings": {"actions": [{"class": "os.system"}]}}
    checkpoint.write(path, {}, data | {"provenance": {}})
    with pytest.raises(CheckpointError, match=r"does not hold .*os.system"):
        Policy.load(path)


def test_policies_are_chosen_by_networks_that_they_were_not_trained_on():
    held_out = HELD_OUT + HELD_OUT_SEQUENCES
    assert not set(TRAINING) & set(held_out)
    assert not {t.hidden for t in TRAINING} & {t.hidden for t in held_out}
