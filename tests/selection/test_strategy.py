"""Under tf.distribute.MirroredStrategy; in a process of its own, as devices are set up once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import keras, numpy as np
from keras_qan import selection

rng = np.random.default_rng(0)
x = rng.normal(size=(50, 3)).astype("float32")
y = np.arange(50) % 3
data = tf.data.Dataset.from_tensor_slices((x, y))
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def model(rate):
    with strategy.scope():
        net = keras.Sequential(
            [
                keras.layers.Input((3,)),
                keras.layers.Dense(3, activation="softmax", kernel_initializer="ones"),
            ]
        )
        net.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    return net


class Push(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 4:
            self.pushed = selector.trained
            selector.push(2)


found = {}
for make in (
    lambda: selection.Uniform(data, 10),
    lambda: selection.ClassMix(data, 3, 10, slots=3, newest=6),
    lambda: selection.LossRank(data, 10),
    lambda: selection.Prune(data, 10),
):
    selector = make()
    net = model(0.0)
    history = net.fit(
        selector.dataset(), steps_per_epoch=6, epochs=2, verbose=0, shuffle=False,
        callbacks=[selector.callback()],
    )
    values = {"trained": selector.trained, "staleness": selector.staleness,
              "finite": bool(np.isfinite(history.history["loss"]).all())}
    if selector.uses_losses:
        expected = -np.log(net.predict(x, verbose=0)[np.arange(50), y])
        error = np.abs(selector._table.losses.numpy() - expected)
        values["error"] = float(error[np.isfinite(error)].max())
        values["known"] = float(np.isfinite(error).mean())
    found[type(selector).__name__] = values

# An action shows where it should, and twice the same.
shares = []
for _ in range(2):
    selector = selection.ClassMix(data, 3, 10, slots=3, newest=6)
    push = Push()
    model(0.1).fit(selector.dataset(), steps_per_epoch=20, verbose=0, shuffle=False,
                   callbacks=[selector.callback(), push])
    shares.append(selector.shares().share[:, 2].tolist())
found["pushed"] = push.pushed
found["shares"] = shares
print("FOUND" + json.dumps(found))
"""


@pytest.mark.slow
def test_selectors_train_on_two_devices():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("FOUND")[1])
    for name in ("Uniform", "ClassMix", "LossRank", "Prune"):
        assert found[name]["trained"] == 12
        assert found[name]["staleness"] == 2 + 3
        assert found[name]["finite"]
    for name in ("LossRank", "Prune"):
        assert found[name]["known"] == 1.0
        assert found[name]["error"] < 1e-5
    first, second = found["shares"]
    assert first == second
    # Three slots of 6, 2 and 2: class 2 is the oldest, then the newest and the oldest is class 1.
    changes = [n for n in range(1, 20) if abs(first[n] - first[n - 1]) > 1e-6]
    assert changes == [found["pushed"] + 5]
