import keras
import pytest
import tensorflow as tf
from absl import logging

from keras_qan import distribute
from keras_qan.distribute import keras_fit


class FakeGPUs:
    """GPUs as far as their memory goes; `is_late` stands for a TensorFlow that has begun."""

    def __init__(self, monkeypatch, number, is_late=False):
        self.growing = [False] * number
        self.is_late = is_late
        physical = [type("Gpu", (), {"name": f"GPU:{n}", "n": n})() for n in range(number)]
        listed = tf.config.list_physical_devices
        monkeypatch.setattr(
            tf.config,
            "list_physical_devices",
            lambda kind=None: physical if kind == "GPU" else listed(kind),
        )
        monkeypatch.setattr(
            tf.config.experimental, "get_memory_growth", lambda gpu: self.growing[gpu.n]
        )
        monkeypatch.setattr(tf.config.experimental, "set_memory_growth", self._set)
        logical = tf.config.list_logical_devices
        monkeypatch.setattr(
            tf.config,
            "list_logical_devices",
            lambda kind=None: physical if kind == "GPU" else logical(kind),
        )

    def _set(self, gpu, enable):
        if self.is_late:
            raise RuntimeError("Physical devices cannot be modified after being initialized")
        self.growing[gpu.n] = enable


@pytest.fixture
def made(monkeypatch):
    """What strategies would be made of, without devices to make them on."""
    found = {}
    for kind in ("MirroredStrategy", "OneDeviceStrategy"):

        def make(devices, kind=kind):
            found[kind] = devices
            extended = type("Extended", (), {"worker_devices": devices})()
            return type("Strategy", (), {"extended": extended, "num_replicas_in_sync": 1})()

        monkeypatch.setattr(tf.distribute, kind, make)
    return found


@pytest.mark.parametrize("name", ["auto", "one_device", "mirrored"])
def test_on_a_machine_with_one_device_every_name_gives_one_replica(name):
    strategy = distribute.from_name(name)
    assert strategy.num_replicas_in_sync == 1
    with strategy.scope():
        assert tf.distribute.get_strategy() is strategy


def test_auto_takes_all_gpus_and_lets_their_memory_grow(monkeypatch, made):
    gpus = FakeGPUs(monkeypatch, 3)
    distribute.from_name("auto")
    assert made == {"MirroredStrategy": ["GPU:0", "GPU:1", "GPU:2"]}
    assert gpus.growing == [True, True, True]


@pytest.mark.parametrize(("name", "number"), [("auto", 1), ("one_device", 1), ("one_device", 3)])
def test_one_device_is_the_first_gpu_where_there_is_one(monkeypatch, made, name, number):
    gpus = FakeGPUs(monkeypatch, number)
    distribute.from_name(name)
    assert made == {"OneDeviceStrategy": "GPU:0"}
    assert gpus.growing == [True] * number


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match="'horovod'; expected one of auto, one_device, mirrored"):
        distribute.from_name("horovod")


@pytest.mark.parametrize("name", ["one_device", "mirrored"])
def test_gpus_whose_memory_is_taken_already_are_an_error(monkeypatch, made, name):
    FakeGPUs(monkeypatch, 2, is_late=True)
    with pytest.raises(RuntimeError, match=r"cannot be set to grow.*Expected.*Call from_name"):
        distribute.from_name(name)


def test_auto_goes_on_with_gpus_whose_memory_is_taken(monkeypatch, made):
    FakeGPUs(monkeypatch, 2, is_late=True)
    distribute.from_name("auto")
    assert made == {"MirroredStrategy": ["GPU:0", "GPU:1"]}


def test_the_devices_are_listed_in_the_log(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "info", lambda text, *values: lines.append(text % values))
    distribute.from_name("one_device")
    assert any("one_device" in line and "CPU:0" in line for line in lines)


def test_multi_worker_without_tf_config_says_how_to_set_it(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=r"TF_CONFIG.*expected.*Set TF_CONFIG before"):
        distribute.from_name("multi_worker")


def test_multi_worker_after_tensorflow_has_begun_says_to_come_first(monkeypatch):
    keras.ops.ones(1)  # TensorFlow has begun
    monkeypatch.setenv(
        "TF_CONFIG",
        '{"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, '
        '"task": {"type": "worker", "index": 0}}',
    )
    with pytest.raises(RuntimeError, match=r"too late.*Expected.*Call from_name"):
        distribute.from_name("multi_worker")


@pytest.mark.parametrize(
    ("version", "needed"), [("3.12.0", True), ("3.15.1", True), ("3.16.0", False), ("4.0", False)]
)
def test_fit_is_repaired_in_the_versions_that_were_seen_to_fail(version, needed):
    assert keras_fit.is_affected(version) is needed


def test_a_team_is_no_matter_for_one_process():
    assert distribute.worker_group_of(distribute.from_name("one_device")) is None
    assert distribute.current_worker_group() is None
