import os

import pytest


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory):
    """Where the tests prepare `digits`, so that they write nothing outside of their own folder."""
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, digits_folder):
    monkeypatch.setenv("XDG_CACHE_HOME", str(digits_folder / "cache"))


@pytest.fixture
def prepared():
    """Returns TFDS_DATA_DIR if it holds a data set, and skips the test otherwise."""

    def folder(name):
        found = os.environ.get("TFDS_DATA_DIR", "")
        if not os.path.isdir(os.path.join(found, name)):
            pytest.skip(f"TFDS_DATA_DIR holds no {name}")
        return found

    return folder
