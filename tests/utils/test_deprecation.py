"""Old public names lead to the new ones, with one warning each."""

import importlib
import math
import subprocess
import sys
import types
import warnings

import pytest

from keras_qan.utils.deprecation import moved_names


@pytest.fixture
def module(monkeypatch):
    """A module `shapes` whose `Quad` became `Square` and whose `tau` went to `math`."""
    made = types.ModuleType("shapes")
    made.Square = type("Square", (), {})
    made.__getattr__ = moved_names("shapes", {"Quad": "Square", "whole_turn": "math:tau"})
    monkeypatch.setitem(sys.modules, "shapes", made)
    return made


def test_an_old_name_gives_the_new_object_and_says_so(module):
    with pytest.warns(DeprecationWarning, match=r"shapes\.Quad is now shapes\.Square") as caught:
        assert module.Quad is module.Square
    assert caught[0].filename == __file__


def test_a_name_may_have_moved_to_another_module(module):
    with pytest.warns(DeprecationWarning, match=r"shapes\.whole_turn is now math\.tau"):
        assert module.whole_turn == math.tau


def test_each_name_warns_once(module):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert module.Quad is module.Quad
        from shapes import Quad

    assert Quad is module.Square
    assert len(caught) == 1


def test_other_names_are_missing_as_in_any_module(module):
    with pytest.raises(AttributeError, match="module 'shapes' has no attribute 'Circle'"):
        _ = module.Circle
    assert not hasattr(module, "__path__")


def test_an_import_of_an_old_name_warns_where_it_stands(tmp_path):
    package = tmp_path / "shapes"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from keras_qan.utils.deprecation import moved_names\n"
        "Square = 4\n"
        "__getattr__ = moved_names(__name__, {'Quad': 'Square'})\n"
    )
    (tmp_path / "user.py").write_text("from shapes import Quad\nprint(Quad)\n")
    ran = subprocess.run(
        [sys.executable, "-W", "always::DeprecationWarning", "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "4\n"
    assert ran.stderr.count("shapes.Quad is now") == 1
    assert "user.py:1: DeprecationWarning" in ran.stderr


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("keras_qan.agents", "Always", "ConstantAgent"),
        ("keras_qan.agents", "Random", "RandomAgent"),
        ("keras_qan.agents", "Leaning", "ThompsonDQN"),
        ("keras_qan.observations", "LearningRate", "CurrentLearningRate"),
    ],
)
def test_former_names_of_parts_warn_and_lead_to_the_new_ones(module, old, new):
    package = importlib.import_module(module)
    package.__getattr__.cache_clear()
    with pytest.warns(DeprecationWarning, match=new):
        assert getattr(package, old) is getattr(package, new)
