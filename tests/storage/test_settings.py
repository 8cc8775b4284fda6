"""A directory's settings are written once and required ever after."""

import json

import pytest

from keras_qan.storage.checkpoint import CheckpointError
from keras_qan.storage.settings import require_same_settings

SETTINGS = {"rate": 0.5, "layers": ("a", "b"), "seed": None}


def test_a_new_directory_gets_its_settings_and_has_nothing_to_resume(tmp_path):
    folder = tmp_path / "deep" / "run"
    assert not require_same_settings(folder, SETTINGS, "run")
    saved = json.loads((folder / "settings.json").read_text())
    assert saved == {"rate": 0.5, "layers": ["a", "b"], "seed": None}
    assert require_same_settings(folder, SETTINGS, "run")


def test_other_settings_are_refused_with_what_differs(tmp_path):
    require_same_settings(tmp_path, SETTINGS, "run")
    message = r'holds a run with other layers, more; expected the same.*layers=\["a", "b"\]; more='
    with pytest.raises(ValueError, match=message):
        require_same_settings(tmp_path, SETTINGS | {"layers": ("a",), "more": 1}, "run")


def test_settings_that_cannot_be_read_are_damage(tmp_path):
    (tmp_path / "settings.json").write_text('{"rate": ')
    with pytest.raises(CheckpointError, match="is not whole"):
        require_same_settings(tmp_path, SETTINGS, "run")
