import pytest
import tensorflow as tf

from keras_qan.experiments.flags import to_text
from keras_qan.experiments.hyperparameters import HyperparameterExperiment
from keras_qan.experiments.learning_rate import LearningRateExperiment


def test_an_unknown_strategy_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match="'horovod'; expected one of auto, one_device, mirrored"):
        LearningRateExperiment(strategy="horovod")


@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker"])
def test_several_steps_in_one_call_do_not_go_with_several_devices(strategy):
    with pytest.raises(ValueError, match=r"steps_per_execution is 4 .* expected 1.* Leave one"):
        LearningRateExperiment(strategy=strategy, steps_per_execution=4)


def test_auto_leaves_a_machine_with_one_device_as_it_is():
    with LearningRateExperiment().open_strategy():
        assert not tf.distribute.has_strategy()


def test_a_strategy_that_is_named_is_opened():
    with LearningRateExperiment(strategy="one_device").open_strategy():
        assert isinstance(tf.distribute.get_strategy(), tf.distribute.OneDeviceStrategy)


def test_models_are_built_in_the_scope():
    model = LearningRateExperiment(strategy="one_device", model="mlp").task().build_model(0)
    assert isinstance(model.distribute_strategy, tf.distribute.OneDeviceStrategy)


def test_a_run_may_be_gone_on_with_on_other_devices(tmp_path):
    first = LearningRateExperiment(directory=str(tmp_path), strategy="one_device")
    flags = tmp_path / "flags.txt"
    flags.write_text(to_text(first))
    assert "--strategy=one_device" in flags.read_text().splitlines()
    LearningRateExperiment(directory=str(tmp_path))._require_same(flags.read_text(), tmp_path)


def test_multi_worker_without_tf_config_is_refused_before_anything_is_written(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG"):
        LearningRateExperiment(strategy="multi_worker", directory=str(tmp_path / "run")).run()
    assert not (tmp_path / "run").exists()


def test_drmad_takes_the_devices_of_one_machine():
    assert HyperparameterExperiment(strategy="mirrored").strategy == "mirrored"
    with pytest.raises(ValueError, match="'multi_worker'; expected auto, one_device, mirrored"):
        HyperparameterExperiment(strategy="multi_worker")
