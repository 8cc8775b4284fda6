"""The reference is complete: every public name has a page and says Args, Returns and Raises."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("api", ROOT / "docs" / "api.py")
api = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(api)

PUBLIC = sorted(
    {
        api.home(package, name)
        for package in api.PACKAGES
        for name in api.public_names(package)
        if f"{package}.{name}" not in api.PACKAGES
    }
)


def definition(full_name: str) -> ast.AST | None:
    """The class or function of a name; None for a constant or a module."""
    module, name = full_name.rsplit(".", 1)
    path = ROOT / module.replace(".", "/")
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    nodes = ast.parse(file.read_text(encoding="utf-8")).body
    return next((node for node in nodes if getattr(node, "name", None) == name), None)


def raises(node: ast.AST) -> bool:
    """Whether a function checks its arguments or raises by itself."""
    return any(
        isinstance(part, ast.Raise)
        or (isinstance(part, ast.Call) and ast.unparse(part.func).startswith("check_"))
        for part in ast.walk(node)
    )


def missing_parts(node: ast.AST) -> list[str]:
    text = ast.get_docstring(node) or ""
    sections = set(re.findall(r"^(Args|Attributes|Returns|Yields|Raises):$", text, re.MULTILINE))
    missing = [] if text else ["docstring"]
    if isinstance(node, ast.ClassDef):
        bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
        makers = [
            part
            for part in node.body
            if getattr(part, "name", None) in ("__init__", "__post_init__")
        ]
        takes = any(len(maker.args.args + maker.args.kwonlyargs) > 1 for maker in makers)
        if "NamedTuple" in bases or "dataclass" in " ".join(map(ast.unparse, node.decorator_list)):
            takes |= any(isinstance(part, ast.AnnAssign) for part in node.body)
        is_plain = "Protocol" in bases or any(base.endswith("Error") for base in bases)
    else:
        makers = [node]
        arguments = node.args
        takes = bool(arguments.args or arguments.kwonlyargs or arguments.vararg)
        is_plain = False
        gives = node.returns is not None and ast.unparse(node.returns) != "None"
        # One that begins with "Return" says it in its first line.
        if gives and not sections & {"Returns", "Yields"} and not text.startswith("Return"):
            missing.append("Returns")
    if takes and not is_plain and not sections & {"Args", "Attributes"}:
        missing.append("Args")
    if any(raises(maker) for maker in makers) and not is_plain and "Raises" not in sections:
        missing.append("Raises")
    return missing


@pytest.mark.parametrize("full_name", PUBLIC)
def test_a_public_name_says_what_it_takes_gives_and_raises(full_name):
    node = definition(full_name)
    if node is not None:
        assert missing_parts(node) == []


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
        ("class A:\n  def __init__(self, x): ...", ["docstring", "Args"]),
    ],
)
def test_what_is_missing_is_found(source, expected):
    assert missing_parts(ast.parse(source).body[0]) == expected


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
