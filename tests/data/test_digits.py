import logging
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_qan.data import load


def stored(builder, split):
    from keras_qan.data.tfds import read_images

    return read_images(builder, split)


def test_the_builder_holds_all_of_the_source_once(digits_folder):
    from keras_qan.data.digits import prepared_digits

    builder = prepared_digits(digits_folder)
    images = [stored(builder, split) for split in ("train", "test")]
    pixels = np.concatenate([part.pixels for part in images])[..., 0]
    labels = np.concatenate([part.labels for part in images])
    source = load_digits()
    ink = np.rint(pixels * (16 / 255)).astype(int)
    found = sorted((image.tobytes(), int(label)) for image, label in zip(ink, labels, strict=True))
    expected = sorted(
        (image.astype(int).tobytes(), int(label))
        for image, label in zip(source.images, source.target, strict=True)
    )
    assert found == expected


def test_a_fifth_of_each_class_is_for_testing(digits_folder):
    from keras_qan.data.digits import prepared_digits

    labels = stored(prepared_digits(digits_folder), "test").labels
    assert np.bincount(labels).tolist() == (np.bincount(load_digits().target) // 5).tolist()


def test_it_is_an_ordinary_tfds_data_set(digits_folder):
    from keras_qan.data.digits import prepared_digits
    from keras_qan.data.tfds import tfds

    prepared_digits(digits_folder)
    loaded = tfds.load("digits", data_dir=digits_folder, split="test", download=False)
    assert len(loaded) == 355


def test_preparing_is_silent_and_leaves_the_log_level_alone(tmp_path, capfd):
    level = logging.getLogger("absl").level
    load("digits", data_dir=tmp_path)
    output = capfd.readouterr()
    assert output.out == ""
    assert "ataset" not in output.err
    assert logging.getLogger("absl").level == level


def test_a_shared_tfds_folder_is_read_but_not_written(tmp_path, monkeypatch):
    shared, cache = tmp_path / "shared", tmp_path / "cache"
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    load("digits")
    assert not shared.exists()
    assert list(cache.glob("keras_qan/digits/*/dataset_info.json"))
    load("digits", data_dir=shared)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    load("digits")
    assert not (tmp_path / "other").exists()


def test_folders_that_cannot_be_written_are_passed_over(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("A folder cannot be made below a file, whoever tries.")
    monkeypatch.setenv("TFDS_DATA_DIR", str(blocked / "tfds"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert load("digits", data_dir=blocked / "mine").num_classes == 10
    assert list(tmp_path.glob("keras_qan-*/digits/*/dataset_info.json"))


def test_no_folder_at_all_says_what_was_tried(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("TFDS_DATA_DIR", str(blocked))
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr("tempfile.tempdir", str(blocked))
    with pytest.raises(PermissionError, match=r"Received no folder.*file.*Pass data_dir="):
        load("digits")


def test_the_second_of_two_that_prepare_at_once_uses_the_first_ones_files(tmp_path):
    from keras_qan.data.digits import _prepare

    _prepare(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord*")}
    assert len(written) == 2
    _prepare(tmp_path)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord*")}
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


@pytest.mark.slow
def test_two_processes_may_prepare_at_once(tmp_path):
    code = (
        "from keras_qan.data import load\n"
        f"splits = load('digits', data_dir={str(tmp_path)!r})\n"
        "print(len(splits.train), splits.train.x.sum(dtype='float64'))"
    )
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("1202 ")
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_importing_the_room_loads_nothing_heavy():
    code = (
        "import sys, keras_qan.data\n"
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'sklearn') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
