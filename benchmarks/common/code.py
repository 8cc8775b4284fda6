"""Code as a measurement sees it."""

from __future__ import annotations

import ast


def without_words(code: str) -> str:
    """Return Python code without comments and docstrings, which do nothing."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        has_words = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if has_words and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
