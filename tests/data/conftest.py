import os

import pytest


@pytest.fixture
def prepared():
    """Returns TFDS_DATA_DIR if it holds a data set, and skips the test otherwise."""

    def folder(name):
        found = os.environ.get("TFDS_DATA_DIR", "")
        if not os.path.isdir(os.path.join(found, name)):
            pytest.skip(f"TFDS_DATA_DIR holds no {name}")
        return found

    return folder
