"""Under MirroredStrategy; all in one process of its own, as devices are set up once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# A machine that others work on too takes many times what a quiet one does.
pytestmark = pytest.mark.timeout(2000)

PROGRAM = """
import json, warnings
warnings.simplefilter("error", UserWarning)
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import net2net
from keras_qan import Decay, Hold, QANCallback, Raise, StepBack, distribute, selection
from keras_qan.agents import DQN, Exploration

rng = np.random.default_rng(0)
x = rng.normal(size=(256, 8)).astype("float32")
y = (x[:, 0] * x[:, 1] > 0).astype("int64")
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
strategies = {name: distribute.from_name(name) for name in ("one_device", "mirrored")}


def build(strategy, rate=0.02, momentum=0.9):
    glorot = keras.initializers.GlorotUniform
    with strategy.scope():
        model = keras.Sequential([
            keras.layers.Input((8,)),
            keras.layers.Dense(16, "relu", kernel_initializer=glorot(1), name="hidden"),
            keras.layers.Dense(2, kernel_initializer=glorot(2), name="logits"),
        ])
        model.compile(
            keras.optimizers.SGD(rate, momentum=momentum),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
    return model


class Watch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.losses, self.rates = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])
        rate = self.model.optimizer._learning_rate.value
        self.rates.append([float(one) for one in getattr(rate, "values", [rate])])


def train(model, callback=None, epochs=3):
    watch = Watch()
    model.fit(data, epochs=epochs, verbose=0, shuffle=False,
              callbacks=([] if callback is None else [callback]) + [watch])
    return watch


def vars_of(watches):
    return {"losses": [w.losses for w in watches], "rates": [w.rates for w in watches]}


def learning():
    return QANCallback(
        actions=[Decay(0.5), Hold(), Raise(2.0), StepBack(0.5)],
        agent=DQN(exploration=Exploration(decisions=20), seed=1),
        decide_every=4,
    )


found = {"replicas": strategies["mirrored"].num_replicas_in_sync}
for name, strategy in strategies.items():
    found[name] = {"none": vars_of([train(build(strategy), epochs=4)])}
    shipped = QANCallback()
    # Two fresh models with one callback: the second one's variables are others.
    watches = [train(build(strategy), shipped, 7) for _ in range(1 if name == "one_device" else 2)]
    found[name]["shipped"] = vars_of(watches)
    found[name]["learning"] = vars_of([train(build(strategy), learning())])

# What a step back restores, on both devices.
model = build(strategies["mirrored"], rate=5.0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    train(model, shipped)
weights = [v.value.values for v in [*model.variables, *model.optimizer.variables[2:]]]
found["apart"] = max(float(tf.reduce_max(tf.abs(a - b))) for a, b in weights)
found["finite"] = all(bool(tf.reduce_all(tf.math.is_finite(a))) for a, _ in weights)

# Growth, with the optimizer's state, inside and outside of the scope.
teacher = build(strategies["mirrored"])
train(teacher, epochs=1)
expected = teacher.predict(x, verbose=0)
for place in ("inside", "outside"):
    if place == "inside":
        with strategies["mirrored"].scope():
            wide = net2net.deepen(net2net.widen(teacher, "hidden", 24), "hidden")
    else:
        wide = net2net.deepen(net2net.widen(teacher, "hidden", 24), "hidden")
    slots = wide.optimizer.variables[2]
    found[place] = {
        "error": float(np.abs(wide.predict(x, verbose=0) - expected).max()),
        "kind": type(wide.distribute_strategy).__name__,
        "slot": type(slots.value).__name__,
        "slots": float(tf.reduce_sum(tf.abs(slots.value.values[1]))),
        "steps": int(wide.optimizer.iterations.numpy()),
        "losses": train(wide, epochs=1).losses if place == "inside" else [],
    }

try:
    model = build(strategies["mirrored"])
    model.steps_per_execution = 4
    model.fit(data, verbose=0, shuffle=False, callbacks=[QANCallback()])
except ValueError as error:
    found["refusal"] = str(error)

# Selection. Nothing is learned at this rate, so that one model does for all.
single = tf.data.Dataset.from_tensor_slices((x[:50], np.arange(50) % 3))
with strategies["mirrored"].scope():
    model = keras.Sequential([
        keras.layers.Input((8,)), keras.layers.Dense(3, "softmax", kernel_initializer="ones")
    ])
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
expected = -np.log(model.predict(x[:50], verbose=0)[np.arange(50), np.arange(50) % 3])


class Push(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 4:
            self.pushed = selector.trained
            selector.push(2)


def select(selector, steps, epochs, *callbacks):
    return model.fit(
        selector.dataset(), steps_per_epoch=steps, epochs=epochs, verbose=0, shuffle=False,
        callbacks=[selector.callback(), *callbacks],
    ).history["loss"]


for selector in (
    selection.Uniform(single, 10),
    selection.ClassMix(single, 3, 10, slots=3, newest=6),
    selection.LossRank(single, 10),
    selection.Prune(single, 10),
):
    losses = select(selector, 6, 2)
    values = {"trained": selector.trained, "staleness": selector.staleness,
              "finite": bool(np.isfinite(losses).all())}
    if selector.uses_losses:
        error = np.abs(selector._table.losses.numpy() - expected)
        values["error"] = float(error[np.isfinite(error)].max())
        values["known"] = float(np.isfinite(error).mean())
    found[type(selector).__name__] = values

# An action shows where it should, and twice the same.
found["shares"] = []
for _ in range(2):
    selector = selection.ClassMix(single, 3, 10, slots=3, newest=6)
    push = Push()
    select(selector, 20, 1, push)
    found["shares"].append(selector.shares().share[:, 2].tolist())
found["pushed"] = push.pushed
print("FOUND" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.split("FOUND")[1])


def largest_difference(one, other):
    one, other = np.asarray(one), np.asarray(other)
    assert one.shape == other.shape
    return np.max(np.abs(one - other) / np.maximum(np.abs(one), 1e-3))


@pytest.mark.slow
class TestTwoDevices:
    def test_mirrored_takes_both(self, found):
        assert found["replicas"] == 2

    @pytest.mark.parametrize("label", ["none", "shipped", "learning"])
    def test_the_losses_are_those_of_one_device(self, found, label):
        (one,), two = (found[name][label]["losses"] for name in ("one_device", "mirrored"))
        for losses in two:
            assert len(losses) >= 48
            assert largest_difference(one, losses) < 1e-4

    @pytest.mark.parametrize("label", ["shipped", "learning"])
    def test_both_devices_have_the_same_rate_at_each_step(self, found, label):
        for rates in found["mirrored"][label]["rates"]:
            assert all(first == second for first, second in rates)
            assert len({first for first, _ in rates}) > 3

    @pytest.mark.parametrize("label", ["shipped", "learning"])
    def test_the_rates_are_those_of_one_device(self, found, label):
        (one,), two = (found[name][label]["rates"] for name in ("one_device", "mirrored"))
        for rates in two:
            assert largest_difference(one, [pair[:1] for pair in rates]) < 1e-3

    def test_a_second_model_is_steered_as_the_first_was(self, found):
        first, second = found["mirrored"]["shipped"]["rates"]
        assert first == second

    def test_after_a_training_that_was_set_back_both_devices_hold_the_same(self, found):
        assert found["finite"]
        assert found["apart"] == 0.0

    @pytest.mark.parametrize("place", ["inside", "outside"])
    def test_a_grown_model_computes_the_same_and_trains_on_both(self, found, place):
        grown = found[place]
        assert grown["error"] < 1e-5
        assert grown["kind"] == "MirroredStrategy"
        assert grown["slot"] == "MirroredVariable"
        assert grown["slots"] > 0.0
        assert grown["steps"] == 16
        assert all(loss < 2.0 for loss in grown["losses"])

    def test_several_steps_in_one_call_are_refused_with_what_to_do(self, found):
        assert "steps_per_execution=4" in found["refusal"]
        assert "expected 1" in found["refusal"]

    @pytest.mark.parametrize("name", ["Uniform", "ClassMix", "LossRank", "Prune"])
    def test_selectors_train_on_two_devices(self, found, name):
        assert found[name]["trained"] == 12
        assert found[name]["staleness"] == 2 + 3
        assert found[name]["finite"]

    @pytest.mark.parametrize("name", ["LossRank", "Prune"])
    def test_losses_of_all_examples_reach_the_selector(self, found, name):
        assert found[name]["known"] == 1.0
        assert found[name]["error"] < 1e-5

    def test_a_push_shows_after_the_declared_number_of_batches(self, found):
        first, second = found["shares"]
        assert first == second
        # Three slots of 6, 2 and 2: class 2 is the oldest, then the newest and the oldest is 1.
        changes = [n for n in range(1, 20) if abs(first[n] - first[n - 1]) > 1e-6]
        assert changes == [found["pushed"] + 5]
