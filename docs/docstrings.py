"""What the docstrings of public names have to say; `docs/api.py` ends the build where one does not.

Everything is read from the source: nothing is imported.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Methods that Keras calls and documents.
_KERAS_METHODS = re.compile(
    r"on_(train|test|predict|epoch|batch)_\w+|set_model|set_params|get_config|from_config"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def problems(full_name: str) -> list[str]:
    """Return what the docstrings of a public name lack, those of its methods included.

    Args:
      full_name: a class, function or constant, with the module that defines it.

    Returns:
      One line each, for example "keras_qan.data.load has no Returns"; none for a constant.
    """
    node = _definition(full_name)
    if node is None:
        return []
    found = [(full_name, part) for part in missing_parts(node)]
    if isinstance(node, ast.ClassDef):
        for method in _own_methods(node):
            found += [(f"{full_name}.{method.name}", part) for part in missing_parts(method)]
    return [f"{name} has no {part}" for name, part in found]


def missing_parts(node: ast.AST) -> list[str]:
    """Return what the docstring of a class, function or method should have and has not."""
    if isinstance(node, ast.ClassDef):
        return _missing_of_class(node)
    assert isinstance(node, Function)
    text = ast.get_docstring(node) or ""
    if any(map(_is_method, re.findall(r"\bsee `([\w.]+)`", text))):
        return []
    sections = _sections(text)
    missing = [] if text else ["docstring"]
    gives = node.returns is not None and ast.unparse(node.returns) not in ("None", "NoReturn")
    # One that begins with "Return" says it in its first line; a property is what it says.
    says = text.startswith(("Return", "Yield")) or _is_property(node)
    if gives and not sections & {"Returns", "Yields"} and not says:
        missing.append("Returns")
    if _takes(node) and "Args" not in sections:
        missing.append("Args")
    if _raises(node) and "Raises" not in sections:
        missing.append("Raises")
    return missing


def _missing_of_class(node: ast.ClassDef) -> list[str]:
    text = ast.get_docstring(node) or ""
    sections = _sections(text)
    missing = [] if text else ["docstring"]
    bases = _base_names(node)
    if "Protocol" in bases or any(base.endswith("Error") for base in bases):
        return missing
    makers = [
        part
        for part in node.body
        if isinstance(part, Function) and part.name in ("__init__", "__post_init__")
    ]
    takes = any(_takes(maker) for maker in makers)
    if "NamedTuple" in bases or "dataclass" in " ".join(map(ast.unparse, node.decorator_list)):
        takes |= any(isinstance(part, ast.AnnAssign) for part in node.body)
    if takes and not sections & {"Args", "Attributes"}:
        missing.append("Args")
    if any(map(_raises, makers)) and "Raises" not in sections:
        missing.append("Raises")
    return missing


def _own_methods(node: ast.ClassDef) -> Iterator[Function]:
    """Yield the public methods that no class above, ours or Keras's, documents already."""
    above = {
        part.name
        for base in _ancestors(node)
        for part in base.body
        if isinstance(part, Function) and not missing_parts(part)
    }
    for part in node.body:
        if (
            isinstance(part, Function)
            and not part.name.startswith("_")
            and part.name not in above
            and not _KERAS_METHODS.fullmatch(part.name)
            and not any(ast.unparse(mark).endswith(".setter") for mark in part.decorator_list)
        ):
            yield part


def _ancestors(node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    for name in _base_names(node):
        for base in _classes().get(name, ()):
            if base is not node:
                yield base
                yield from _ancestors(base)


def _is_method(name: str) -> bool:
    """Return whether a name such as "Executor.map" is a method of ours."""
    owner, _, method = name.rpartition(".")
    return any(
        getattr(part, "name", None) == method
        for node in _classes().get(owner, ())
        for part in node.body
    )


@functools.cache
def _classes() -> dict[str, list[ast.ClassDef]]:
    found: dict[str, list[ast.ClassDef]] = {}
    for package in ("keras_qan", "net2net"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in _tree(path).body:
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, []).append(node)
    return found


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _definition(full_name: str) -> ast.AST | None:
    """Return the class or function of a name; None for a constant or a module."""
    module, name = full_name.rsplit(".", 1)
    path = ROOT / module.replace(".", "/")
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    nodes = (part for part in _tree(file).body if isinstance(part, Function | ast.ClassDef))
    return next((node for node in nodes if node.name == name), None)


def _base_names(node: ast.ClassDef) -> set[str]:
    return {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}


def _sections(text: str) -> set[str]:
    return set(re.findall(r"^(Args|Attributes|Returns|Yields|Raises):$", text, re.MULTILINE))


def _is_property(node: Function) -> bool:
    return any(ast.unparse(mark).endswith("property") for mark in node.decorator_list)


def _takes(node: Function) -> bool:
    names = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
    return bool(set(names) - {"self", "cls"} or node.args.vararg)


def _raises(node: ast.AST) -> bool:
    """Return whether a function checks its arguments or raises by itself."""
    return any(
        isinstance(part, ast.Raise)
        or (isinstance(part, ast.Call) and ast.unparse(part.func).startswith("check_"))
        for part in ast.walk(node)
    )
