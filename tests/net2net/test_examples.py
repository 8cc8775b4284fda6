"""The examples in the docstrings and in the guide run and say what they print."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import net2net

MODULES = [
    "net2net",
    *(one.name for one in pkgutil.walk_packages(net2net.__path__, prefix="net2net.")),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


@pytest.mark.slow
def test_the_examples_in_the_guide():
    guide = Path(net2net.__file__).parents[1] / "docs" / "net2net.md"
    names: dict = {}
    snippets = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    assert snippets
    for snippet in snippets:
        exec(snippet, names)
