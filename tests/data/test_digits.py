import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_qan.data import load
from keras_qan.data.digits import read_digits


def test_both_splits_together_hold_all_of_the_source_once():
    images = [read_digits(split) for split in ("train", "test")]
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


def test_a_fifth_of_each_class_is_for_testing():
    expected = (np.bincount(load_digits().target) // 5).tolist()
    assert np.bincount(read_digits("test").labels).tolist() == expected


@pytest.mark.parametrize("split", ["train", "test"])
def test_their_order_is_that_of_tensorflow_datasets(split):
    hashing = pytest.importorskip("tensorflow_datasets.core.hashing")
    hasher = hashing.Hasher(split)
    is_test = np.zeros(len(load_digits().target), bool)
    for label in range(10):
        is_test[np.flatnonzero(load_digits().target == label)[4::5]] = True
    members = np.flatnonzero(is_test == (split == "test")).tolist()
    expected = load_digits().target[sorted(members, key=hasher.hash_key)]
    assert read_digits(split).labels.tolist() == expected.tolist()


@pytest.mark.slow
def test_they_need_neither_tensorflow_nor_its_datasets():
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['tensorflow_datasets'] = None\n"
        "from keras_qan.data import load\n"
        "print(len(load('digits').train))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "1202", ran.stderr


def test_loading_them_writes_nothing(tmp_path, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR", "TFDS_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    assert load("digits", data_dir=tmp_path / "data").num_classes == 10
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, keras_qan.data\n"
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'sklearn') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
