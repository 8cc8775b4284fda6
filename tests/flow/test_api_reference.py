"""The reference is complete: every public name has a page and says Args, Returns and Raises."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
try:
    import api
    import docstrings
finally:
    del sys.path[0]


@pytest.mark.parametrize("full_name", api.public_symbols())
def test_a_public_name_and_its_methods_say_what_they_take_give_and_raise(full_name):
    assert docstrings.problems(full_name) == []


def test_a_docstring_without_its_parts_ends_the_build(monkeypatch):
    monkeypatch.setattr(docstrings, "problems", lambda name: [f"{name} has no Args"])
    with pytest.raises(ValueError, match=r"net2net\.\S+\.widen has no Args"):
        api.on_files([], None)


@pytest.mark.parametrize("package", api.PACKAGES)
def test_every_public_name_is_on_its_packages_page(package):
    text = api.reference_page(package)
    for name in api.public_names(package):
        assert f"{package}.{name}" in text or api.home(package, name) in text


def test_every_package_with_public_names_is_in_the_reference_and_its_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for package in api.PACKAGES:
        assert f"reference/{package}.md" in navigation
    # Packages that only the scripts use, and those below others, are no part of it.
    inner = {"experiments", "pretraining", "storage", "utils", "qan", "_moved", "policies"}
    there = {path.parent.name for path in (ROOT / "keras_qan").glob("*/__init__.py")} - inner
    assert there == {package.split(".")[1] for package in api.PACKAGES if "." in package}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(x: int) -> int:\n  '''Add one.'''", ["Returns", "Args"]),
        ("def f(x: int) -> None:\n  '''Add.\n\n  Args:\n    x: it.\n  '''\n  raise E", ["Raises"]),
        ("def f() -> int:\n  '''Return one.'''", []),
        ("def f(x: int) -> int:\n  '''Add; see `Executor.map`.'''", []),
        ("def f(x: int) -> int:\n  '''Add; see `Executor.nothing`.'''", ["Returns", "Args"]),
        ("class A:\n  def __init__(self, x): ...", ["docstring", "Args"]),
    ],
)
def test_what_is_missing_is_found(source, expected):
    assert docstrings.missing_parts(ast.parse(source).body[0]) == expected


def test_methods_are_looked_at_but_for_those_that_keras_or_a_class_above_documents(monkeypatch):
    source = """class Own(Action):
    '''One.'''
    def bound_to(self, selector): '''As above.'''
    def on_epoch_end(self, epoch, logs): '''Keras calls it.'''
    def _inner(self, x): ...
    @property
    def size(self) -> int: '''Number of things.'''
    def other(self, x): '''Do.'''
"""
    monkeypatch.setattr(docstrings, "_definition", lambda name: ast.parse(source).body[0])
    assert docstrings.problems("module.Own") == ["module.Own.other has no Args"]


def test_every_guide_and_decision_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    docs = ROOT / "docs"
    for path in docs.rglob("*.md"):
        assert str(path.relative_to(docs)) in navigation, path


def test_the_glossary_has_at_least_thirty_words_in_order():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| (?!word |---)([^|]+) \|", text, flags=re.MULTILINE)
    assert len(words) >= 30
    plain = [word.lower().replace("ε (epsilon)", "epsilon") for word in words]
    assert plain == sorted(plain)
