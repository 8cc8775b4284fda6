"""Distribution strategies by name, over the devices at hand."""

from __future__ import annotations

import os
from collections.abc import Callable

import keras
import tensorflow as tf
from absl import logging

from keras_qan.distribute import keras_fit
from keras_qan.distribute.cluster import Cluster
from keras_qan.distribute.collectives import worker_group_of

#: The names that `from_name` knows.
NAMES = ("auto", "one_device", "mirrored", "multi_worker")


def from_name(name: str = "auto") -> tf.distribute.Strategy:
    """Make a strategy to open a scope with: `with from_name("mirrored").scope(): …`.

    Call it before anything runs on a device: it sets GPUs to allocate memory as needed and connects
    workers, which TensorFlow allows only at the start of a process. The devices are listed in
    absl's log.

    Args:
      name: one of
        "auto" (the default): all local GPUs when there are any, one device otherwise;
        "one_device": the first GPU, or the CPU;
        "mirrored": all local GPUs, or all logical CPU devices where there are none; each holds the
        whole model and takes its share of every batch;
        "multi_worker": the same on all hosts that `TF_CONFIG` lists.

    Returns:
      The strategy.

    Raises:
      ValueError: the name is unknown, or `TF_CONFIG` is missing or unusable.
      RuntimeError: TensorFlow has begun to use its devices already.

    Example:
      >>> strategy = from_name("one_device")
      >>> strategy.num_replicas_in_sync
      1
    """
    makers: dict[str, Callable[[], tf.distribute.Strategy]] = {
        "auto": _auto,
        "one_device": _one_device,
        "mirrored": _mirrored,
        "multi_worker": _multi_worker,
    }
    if name not in makers:
        raise ValueError(f"strategy is {name!r}; expected one of {', '.join(NAMES)}.")
    strategy = makers[name]()
    devices = strategy.extended.worker_devices
    logging.info(
        "Strategy %s: %s over %d replica(s), here %s.",
        name,
        type(strategy).__name__,
        strategy.num_replicas_in_sync,
        ", ".join(devices),
    )
    return strategy


def _auto() -> tf.distribute.Strategy:
    if os.environ.get("TF_CONFIG"):
        logging.warning(
            "TF_CONFIG is set, and auto stays on this host; say multi_worker to use it."
        )
    gpus = _gpus(may_come_late=True)
    return tf.distribute.MirroredStrategy(gpus) if len(gpus) > 1 else _on_one(gpus)


def _one_device() -> tf.distribute.Strategy:
    return _on_one(_gpus())


def _on_one(gpus: list[str]) -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy(gpus[0] if gpus else "CPU:0")


def _mirrored() -> tf.distribute.Strategy:
    devices = _gpus() or _names("CPU")
    if len(devices) == 1:
        logging.warning(
            "mirrored has one device alone, %s: it works as one_device does, only slower.",
            devices[0],
        )
    return tf.distribute.MirroredStrategy(devices)


def _multi_worker() -> tf.distribute.Strategy:
    cluster = Cluster.from_environment()
    _grow_memory()
    logging.info(
        "Worker %d of %d, %s%s; waiting for the others.",
        cluster.index,
        len(cluster.addresses),
        cluster.addresses[cluster.index],
        " (chief)" if cluster.is_chief else "",
    )
    kind = tf.distribute.MultiWorkerMirroredStrategy
    if keras_fit.is_affected():
        kind = keras_fit.RepairedMultiWorkerMirroredStrategy
    else:
        logging.warning(
            "Keras %s is none of the versions in which fit was seen to fail under "
            "MultiWorkerMirroredStrategy (keras#20585), so its fit is left as it is.",
            keras.__version__,
        )
    try:
        strategy = kind()
    except RuntimeError as error:
        raise RuntimeError(
            f"The strategy multi_worker was asked for too late ({error}). Expected to be asked "
            "before TensorFlow runs anything, as the workers meet when it starts. Call "
            "from_name('multi_worker') first, before any tensor, dataset or model is made."
        ) from error
    worker_group_of(strategy)
    return strategy


def _names(kind: str) -> list[str]:
    return [device.name for device in tf.config.list_logical_devices(kind)]


def _gpus(may_come_late: bool = False) -> list[str]:
    """The names of all local GPUs, set to allocate memory as needed."""
    _grow_memory(may_come_late)
    return _names("GPU")


def _grow_memory(may_come_late: bool = False) -> None:
    """Let every GPU allocate memory as needed.

    Raises:
      RuntimeError: the GPUs are in use already, with all their memory. With `may_come_late` this
        is logged instead.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        if tf.config.experimental.get_memory_growth(gpu):
            continue
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError) as error:
            problem = f"The memory of {gpu.name} cannot be set to grow any more ({error})."
            if may_come_late:
                logging.warning("%s All of it is taken.", problem)
                return
            raise RuntimeError(
                f"{problem} Expected a strategy to be asked for before TensorFlow uses the GPU. "
                "Call from_name(...) first, before any tensor, dataset or model is made."
            ) from error
