"""One noun, one meaning; short argument lists; docstrings without relative clauses; one layout."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("keras_qan", "net2net")
MODULES = {
    path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8"))
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}

#: Arguments that may be given by position, `self` not counted.
MOST_ARGUMENTS = 7

#: Openings of a docstring that say no noun and no verb.
RELATIVE_CLAUSE = re.compile(r"(What|Where|Who|Whether|How)\b")

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def definitions() -> Iterator[tuple[str, Definition]]:
    """All classes and functions with the place where they are, nested ones too."""
    for path, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, Definition):
                yield f"{path}:{node.lineno} {node.name}", node


def test_a_public_class_name_is_defined_once():
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path}:{node.lineno}")
    found = [f"{name}: {', '.join(where)}" for name, where in places.items() if len(where) > 1]
    assert not found, "\n".join(["", *found])


def test_no_function_takes_more_than_seven_positional_arguments():
    found = []
    for place, node in definitions():
        if isinstance(node, ast.ClassDef):
            continue
        names = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args]]
        number = len(names) - (names[:1] in (["self"], ["cls"]))
        if number > MOST_ARGUMENTS:
            found.append(f"{place}: {number}")
    assert not found, "\n".join(["", *found])


def test_no_call_passes_more_than_seven_positional_arguments():
    found = [
        f"{path}:{node.lineno}: {len(node.args)}"
        for path, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and len(node.args) > MOST_ARGUMENTS
        and ast.unparse(node.func) != "lead_to"  # a list of names, one by one
    ]
    assert not found, "\n".join(["", *found])


def test_docstrings_open_with_a_noun_or_a_verb():
    documented = [(str(path), tree) for path, tree in MODULES.items()] + list(definitions())
    found = [
        f"{place}: {text.splitlines()[0]}"
        for place, node in documented
        if (text := ast.get_docstring(node)) and RELATIVE_CLAUSE.match(text)
    ]
    assert not found, "\n".join(["", *found])


def named_functions() -> Iterator[tuple[str, Path, str]]:
    """The functions that a `Call` names by text: where, their module and their name."""
    for folder in (*PACKAGES, "tests", "benchmarks", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.JoinedStr) and len(node.values) == 2:
                    own, rest = map(ast.unparse, node.values)
                    module, colon, name = rest.strip("'").partition(":")
                    if own == "{__name__}" and colon:
                        other = path.parent / f"{module.strip('.').replace('.', '/')}.py"
                        yield place, other if module else path, name
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found = re.fullmatch(r"((?:keras_qan|helpers|tests)[\w.]*):(\w+)", node.value)
                    if found:
                        module = found[1].replace("helpers", "tests.helpers", 1)
                        yield place, ROOT / f"{module.replace('.', '/')}.py", found[2]


def test_functions_that_workers_are_told_by_name_exist():
    every = list(named_functions())
    assert len(every) > 10
    missing = []
    for place, path, name in every:
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
        if name not in {getattr(node, "name", None) for node in tree.body}:
            missing.append(f"{place}: {path.relative_to(ROOT)} has no {name}")
    assert not missing, "\n".join(["", *missing])


def test_keras_qan_has_one_loose_module():
    loose = [path.name for path in MODULES if path.parent == Path("keras_qan")]
    assert loose == ["__init__.py"]
