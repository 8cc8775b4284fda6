"""The examples in the docstrings of the rally and of meta-momentum run and say what they print."""

import doctest
import importlib

import pytest

MODULES = [
    "rally.stage",
    "rally.flops",
    "models.plain",
    "rally.rally",
    "rally.training",
    "meta_momentum.callback",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings(name):
    module = importlib.import_module(f"keras_qan.{name}")
    found = doctest.testmod(module, extraglobs={"keras": importlib.import_module("keras")})
    assert found.attempted > 0
    assert found.failed == 0
