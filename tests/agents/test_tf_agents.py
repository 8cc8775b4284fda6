"""The door to TF-Agents in fresh processes, as what was imported first is what matters."""

import os
import subprocess
import sys

import pytest

BEFORE = """
import os, sys, random, logging, warnings
"""

# What every user can count on, whatever was imported first.
THROUGH_THE_DOOR = """
import numpy as np
environment, path = dict(os.environ), list(sys.path)
python_state, numpy_state = random.getstate(), np.random.get_state()[1].tolist()
levels = logging.root.level, len(logging.root.handlers), logging.getLogger("tensorflow").level
filters = list(warnings.filters)
modules_of_keras = {n: m for n, m in sys.modules.items() if n.startswith("tensorflow.keras")}

from keras_qan.agents import DQN, Learning
agent = DQN(hidden=(4,), learning=Learning(n_step=1, warm_up=1, batch_size=2))
agent.build(2, 2)

import tensorflow as tf, keras
state = np.array([1.0, -1.0], np.float32)
agent.act(state, True)
loss = agent.learn(state, 0, 1.0, 0.0)
assert np.isfinite(loss), loss

assert environment == dict(os.environ)
assert path == sys.path
assert python_state == random.getstate()
assert numpy_state == np.random.get_state()[1].tolist()
assert levels == (
    logging.root.level, len(logging.root.handlers), logging.getLogger("tensorflow").level
)
assert filters == list(warnings.filters)
for name in ("tensorflow", "tensorflow.compat.v1", "tensorflow.compat.v2"):
    assert type(sys.modules[name]).__name__ != "_StandIn", name
for name, module in modules_of_keras.items():
    assert sys.modules[name] is module, name
import tf_agents
from tf_agents.networks import sequential
assert sequential.tf.keras.__name__.startswith("tf_keras"), "TF-Agents has Keras 2"
"""

KERAS_3 = """
assert tf.keras.__version__.startswith("3."), tf.keras.__version__
assert tf.keras.Model is keras.Model
assert tf.compat.v2.keras.Model is keras.Model
from tensorflow.keras import layers
assert layers.Dense is keras.layers.Dense
import tensorflow.keras as again
assert again.Model is keras.Model
model = tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
model.optimizer.learning_rate.assign(0.5)
assert float(model.optimizer.learning_rate) == 0.5
"""


def run(code, **environment):
    """Runs code in a fresh Python; gives its exit status and all that it printed."""
    kept = {
        k: v for k, v in os.environ.items() if k not in ("TF_USE_LEGACY_KERAS", "KERAS_BACKEND")
    }
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + code],
        env={**kept, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    # TensorFlow's own start-up lines, which it prints before it looks at its log level.
    noise = ("WARNING: All log messages before absl", "I0000", "W0000", "E0000")
    lines = [line for line in done.stdout.splitlines() if not line.startswith(noise)]
    return done.returncode, "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        pytest.param("import tensorflow", id="tensorflow", marks=pytest.mark.stress),
        pytest.param("import keras", id="keras", marks=pytest.mark.stress),
        pytest.param("from keras_qan import QANCallback", id="keras_qan"),
        pytest.param("import tensorflow as tf; tf.keras.layers.Dense(1)", id="tf.keras"),
        pytest.param(
            "from tensorflow.keras import layers, models",
            id="from tensorflow.keras",
            marks=pytest.mark.stress,
        ),
    ],
)
def test_whatever_comes_first_the_user_keeps_keras_3_and_sees_nothing(first):
    status, printed = run(first + THROUGH_THE_DOOR + KERAS_3)
    assert printed == ""
    assert status == 0


@pytest.mark.slow
def test_a_user_who_asked_for_keras_2_keeps_it():
    keras_2 = """
assert tf.keras.Model.__module__.startswith("tf_keras"), tf.keras.Model.__module__
assert keras.__version__.startswith("3.")
assert not isinstance(tf.keras.Sequential(), keras.Model)
from keras_qan import QANCallback
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
callback = QANCallback()
callback.set_model(model)
try:
    callback.on_train_begin()
except TypeError as error:
    assert "TF_USE_LEGACY_KERAS" in str(error), error
else:
    raise AssertionError("a model of Keras 2 was accepted")
"""
    code = "import keras, tensorflow as tf; tf.keras.layers" + THROUGH_THE_DOOR + keras_2
    status, printed = run(code, TF_USE_LEGACY_KERAS="1")
    assert printed == ""
    assert status == 0


@pytest.mark.slow
def test_importing_the_package_and_following_the_shipped_policy_load_nothing_heavy():
    code = """
import numpy as np, keras
environment, python_state = dict(os.environ), random.getstate()
numpy_state, level = np.random.get_state()[1].tolist(), logging.root.level
before = set(sys.modules)
import keras_qan
new = {name.split(".")[0] for name in set(sys.modules) - before}
assert new == {"keras_qan"}, new
assert "keras_qan.selection" not in sys.modules
assert "QANCallback" in dir(keras_qan)
for name in keras_qan.__all__:
    getattr(keras_qan, name)
# Keras itself loads matplotlib and scikit-learn where they are.
loaded = {name.split(".")[0] for name in set(sys.modules) - before}
heavy = {"tf_agents", "tf_keras", "tensorflow_probability", "tensorflow_datasets", "matplotlib"}
assert not heavy & loaded, heavy & loaded
doors = {"keras_qan.plots.figures", "keras_qan.data.tfds"}
assert not doors & set(sys.modules)
qan = keras_qan.QANCallback()
assert "tf_agents" not in sys.modules, "nothing of it is needed before something is learned"
assert environment == dict(os.environ)
assert python_state == random.getstate()
assert numpy_state == np.random.get_state()[1].tolist()
assert level == logging.root.level
try:
    keras_qan.Nothing
except AttributeError as error:
    assert "Nothing" in str(error)

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
model.compile(keras.optimizers.Adam(0.01), "mse")
x = np.random.default_rng(0).normal(size=(64, 4))
rates = set()
note = keras.callbacks.LambdaCallback(
    on_train_batch_begin=lambda batch, logs: rates.add(float(model.optimizer.learning_rate))
)
model.fit(x, x[:, :1], epochs=14, batch_size=8, verbose=0, callbacks=[qan, note],
          validation_data=(x, x[:, :1]))
assert len(rates) > 5, rates
assert qan.agent.parameters()
heavy = {"tf_agents", "tf_keras", "tensorflow_probability", "gym", "tensorflow_datasets"}
loaded = {name.split(".")[0] for name in sys.modules}
assert not heavy & loaded, heavy & loaded
"""
    status, printed = run(code)
    assert printed == ""
    assert status == 0


def test_importing_the_package_imports_neither_keras_nor_tensorflow():
    code = """
import keras_qan
loaded = {name.split(".")[0] for name in sys.modules}
assert not {"keras", "tensorflow", "jax", "torch", "numpy"} & loaded, loaded
"""
    status, printed = run(code)
    assert printed == ""
    assert status == 0


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_what_needs_tensorflow_says_so_on_another_backend(backend, monkeypatch):
    import keras

    import keras_qan
    from keras_qan.utils.backend import require_tensorflow

    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    asks = {
        "keras_qan.selection": lambda: require_tensorflow("keras_qan.selection"),
        "keras_qan.MetaQNN": lambda: keras_qan.MetaQNN,
    }
    for name, ask in asks.items():
        expected = rf"{name} needs .*backend is '{backend}'.*KERAS_BACKEND=tensorflow"
        with pytest.raises(RuntimeError, match=expected):
            ask()
    # The callback works on any of them.
    assert keras_qan.QANCallback is not None


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 14, 0)])
def test_another_python_gets_one_clear_error(version, monkeypatch):
    import keras_qan

    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(RuntimeError, match=r"needs Python 3\.10 to 3\.13"):
        keras_qan.QANCallback  # noqa: B018


def test_a_tf_agents_that_does_not_load_is_one_clear_error(monkeypatch):
    from keras_qan.agents import tf_agents

    tensorflow = sys.modules["tensorflow"]
    monkeypatch.setitem(sys.modules, "tf_agents.agents.dqn.dqn_agent", None)
    with pytest.raises(ImportError, match=r"TF-Agents could not be loaded.*pip install"):
        tf_agents.import_tf_agents.__wrapped__()
    assert sys.modules["tensorflow"] is tensorflow
