"""What TensorBoard reads of a search's trials."""

from __future__ import annotations

import pytest

from keras_qan.storage import event_file

loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")


def values_in(folder):
    (path,) = folder.iterdir()
    events = loader.EventFileLoader(str(path)).Load()
    return {value.tag: value for event in events for value in event.summary.value}


def test_a_trial_has_its_hyperparameters_and_metrics(tmp_path):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    event_file.write_trial(
        tmp_path / "model_3", {"layers": 4, "architecture": "[SM]"}, {"val_accuracy": 0.5}
    )
    found = values_in(tmp_path / "model_3")
    plugin = found.pop("_hparams_/session_start_info").metadata.plugin_data
    assert plugin.plugin_name == "hparams"
    started = HParamsPluginData.FromString(plugin.content).session_start_info
    assert started.hparams["layers"].number_value == 4.0
    assert started.hparams["architecture"].string_value == "[SM]"
    assert {tag: value.tensor.float_val[0] for tag, value in found.items()} == {"val_accuracy": 0.5}


def test_nothing_is_written_and_nothing_is_said_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setattr(event_file.importlib.util, "find_spec", lambda name: None)
    event_file.write_trial(tmp_path / "model_3", {"layers": 4}, {"val_accuracy": 0.5})
    assert list(tmp_path.iterdir()) == []
