"""The one door to TF-Agents, which is written against Keras 2 while our users' models are Keras 3.

TF-Agents and TensorFlow Probability take ``tf.keras`` to be Keras 2. While they are imported, and
only then, ``sys.modules`` holds stand-ins for TensorFlow's public modules that answer every
attribute as the real ones do, except ``keras``, which is ``tf_keras``. Both packages bind those
stand-ins for good; everybody else goes on with the real TensorFlow, whose ``tf.keras`` stays
Keras 3. No environment variable is read or set, and the order of imports does not matter.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from typing import Any

_SHADOWED = ("tensorflow", "tensorflow.compat", "tensorflow.compat.v1", "tensorflow.compat.v2")


class _StandIn(types.ModuleType):
    """A module that answers as `real` does, with `keras` replaced and beyond overwriting."""

    def __init__(self, real: types.ModuleType, keras: types.ModuleType) -> None:
        super().__init__(real.__name__, real.__doc__)
        object.__setattr__(self, "_real", real)
        object.__setattr__(self, "_keras", keras)
        for name in ("__path__", "__file__", "__spec__", "__package__", "__loader__"):
            if hasattr(real, name):
                object.__setattr__(self, name, getattr(real, name))

    def __getattribute__(self, name: str) -> Any:
        if name == "keras":
            return object.__getattribute__(self, "_keras")
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        # `tf.compat.v1.keras` must be Keras 2 however it is reached.
        if isinstance(value, types.ModuleType):
            return _stand_ins.get(value.__name__.removeprefix("tensorflow._api.v2."), value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing `tensorflow.keras` anywhere makes the import system set `keras` on its parent.
        if name != "keras":
            setattr(self._real, name, value)

    def __dir__(self) -> list[str]:
        return dir(self._real)


_stand_ins: dict[str, types.ModuleType] = {}


def how_to_install() -> str:
    """Return the command that installs what learning needs on this Python."""
    learn = "pip install 'keras-qan[learn]'"
    if sys.version_info < (3, 12):
        return learn
    # TF-Agents' own requirements cannot be met there, though it works.
    return f"{learn} && pip install --no-deps tf-agents==0.19.0"


def require_tf_agents() -> None:
    """Raise ImportError, with the command that helps, where learning's packages are missing."""
    packages = ("tensorflow", "tensorboard", "tf_keras", "tensorflow_probability", "tf_agents")
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"A DQN learns with TF-Agents, and this Python lacks {', '.join(missing)}. Install "
            f"with `{how_to_install()}`, or follow a policy that does not learn: QANCallback()."
        )


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Silence Gym's notice about its own end of support, which does not concern our users.

    Its notices are emptied, not `sys.stdout` redirected, which belongs to the whole process.
    """
    try:
        notices = importlib.import_module("gym_notices.notices").notices
    except ImportError:
        yield
        return
    kept = dict(notices)
    notices.clear()
    try:
        yield
    finally:
        notices.update(kept)


@contextlib.contextmanager
def _private_tensorflow() -> Iterator[None]:
    """Within the block, `import tensorflow` gives a TensorFlow whose Keras is Keras 2."""
    tf_keras = importlib.import_module("tf_keras")
    real = {name: importlib.import_module(name) for name in _SHADOWED}
    _stand_ins.update({name: _StandIn(module, tf_keras) for name, module in real.items()})
    # `from tensorflow.keras import ...` looks in sys.modules before it looks at the parent.
    keras_modules = {
        name: module
        for name, module in sys.modules.items()
        if name == "tensorflow.keras" or name.startswith("tensorflow.keras.")
    }
    for name in keras_modules:
        del sys.modules[name]
    environment, path = set(os.environ), list(sys.path)
    sys.modules.update(_stand_ins)
    sys.modules["tensorflow.keras"] = tf_keras
    try:
        yield
    finally:
        # Gym hides pygame's greeting by a variable that the user's own programs would inherit, and
        # the working directory finds its way into the path.
        sys.path[:] = path
        for name in set(os.environ) - environment:
            del os.environ[name]
        for name in list(sys.modules):
            if name == "tensorflow.keras" or name.startswith("tensorflow.keras."):
                del sys.modules[name]
        sys.modules.update(real)
        sys.modules.update(keras_modules)


@functools.cache
def import_tf_agents() -> types.SimpleNamespace:
    """Imports TF-Agents at the first call and gives the parts of it that this package uses.

    Returns:
      A namespace with `tf_keras` and TF-Agents' modules `dqn_agent`, `policy_step`, `sequential`,
      `table`, `tensor_spec`, `tf_uniform_replay_buffer`, `time_step` and `trajectory`.

    Raises:
      ImportError: TF-Agents, tf-keras or TensorFlow Probability is missing or does not load.
    """
    with _lock:
        return _import()


#: Imports change `sys.modules` for a moment, which no two threads may do at once.
_lock = threading.RLock()


def _import() -> types.SimpleNamespace:
    with warnings.catch_warnings(), _without_notices(), _private_tensorflow():
        warnings.simplefilter("ignore")
        try:
            modules = {
                "policy_step": importlib.import_module("tf_agents.trajectories.policy_step"),
                "dqn_agent": importlib.import_module("tf_agents.agents.dqn.dqn_agent"),
                "sequential": importlib.import_module("tf_agents.networks.sequential"),
                "table": importlib.import_module("tf_agents.replay_buffers.table"),
                "tensor_spec": importlib.import_module("tf_agents.specs.tensor_spec"),
                "tf_uniform_replay_buffer": importlib.import_module(
                    "tf_agents.replay_buffers.tf_uniform_replay_buffer"
                ),
                "time_step": importlib.import_module("tf_agents.trajectories.time_step"),
                "trajectory": importlib.import_module("tf_agents.trajectories.trajectory"),
            }
        except Exception as error:
            raise ImportError(
                f"TF-Agents could not be loaded: {type(error).__name__}: {error}. keras_qan needs "
                "tf-agents, tf-keras and tensorflow-probability that fit together; "
                f"`{how_to_install()}` brings them."
            ) from error
        tf_keras = importlib.import_module("tf_keras")
    return types.SimpleNamespace(tf_keras=tf_keras, **modules)
