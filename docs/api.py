"""Hook of MkDocs: a page of reference for every public package, complete by construction.

The pages follow from `__all__` of the packages, read from the source. A public symbol or method
whose docstring does not say what it takes, gives and raises ends the build.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import docstrings

ROOT = Path(__file__).resolve().parents[1]

#: Packages whose `__all__` is public.
PACKAGES = (
    "keras_qan",
    *(
        f"keras_qan.{name}"
        for name in (
            "actions", "agents", "observations", "selection", "early_stopping", "drmad", "metaqnn",
            "meta_momentum", "rally", "diagnostics", "envs", "distribute", "parallel", "data",
            "models", "plots",
        )
    ),
    "net2net",
)  # fmt: skip


def public_names(package: str) -> list[str]:
    """Return the names in a package's `__all__`.

    Raises:
      ValueError: it has none.
    """
    path = ROOT / package.replace(".", "/") / "__init__.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise ValueError(f"{path} has no __all__; expected the public names of {package}.")


def reference_page(package: str) -> str:
    """Return the text of a package's page."""
    lines = [f"# {package}", "", f"::: {package}", "    options: {members: false}", ""]
    for name in public_names(package):
        if f"{package}.{name}" in PACKAGES:
            lines += [f"- [`{package}.{name}`]({package}.{name}.md)", ""]
        elif package == PACKAGES[0] and (owner := _owner(name)):
            lines += [f"- [`{name}`][{home(package, name)}], of [`{owner}`]({owner}.md)", ""]
        else:
            lines += [f"::: {home(package, name)}", ""]
    return "\n".join(lines)


def home(package: str, name: str) -> str:
    """Return the full name of a public symbol, in the module that defines it.

    Raises:
      LookupError: no module of the package defines or imports it.
    """
    path = ROOT / package.replace(".", "/")
    tree = ast.parse((path / "__init__.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):  # also within TYPE_CHECKING
        if isinstance(node, ast.ImportFrom) and any(
            (alias.asname or alias.name) == name for alias in node.names
        ):
            module = node.module or package
            if (ROOT / module.replace(".", "/") / f"{name}.py").exists():
                return f"{module}.{name}"  # a module
            if (ROOT / module.replace(".", "/") / "__init__.py").exists() and module != package:
                return home(module, name)
            return f"{module}.{name}"
        if name in (getattr(node, "name", None), *map(ast.unparse, getattr(node, "targets", ()))):
            return f"{package}.{name}"
    raise LookupError(f"{package} says that {name} is public, and has no such name.")


def public_symbols() -> list[str]:
    """Return the full names of all public symbols but packages, sorted."""
    return sorted(
        {
            home(package, name)
            for package in PACKAGES
            for name in public_names(package)
            if f"{package}.{name}" not in PACKAGES
        }
    )


def require_docstrings() -> None:
    """Check the docstrings of all public symbols and of their methods.

    Raises:
      ValueError: some lack a part; the message names each.
    """
    problems = [line for name in public_symbols() for line in docstrings.problems(name)]
    if problems:
        raise ValueError(
            "Docstrings of public names are not complete; expected Args, Returns and Raises where "
            "there are any:\n" + "\n".join(problems)
        )


def _owner(name: str) -> str | None:
    """Return the package below the first that has the name too."""
    return next((other for other in PACKAGES[1:] if name in public_names(other)), None)


def on_files(files: Any, config: Any) -> Any:
    """Add the reference, and the results of the benchmarks, to the site."""
    require_docstrings()
    from mkdocs.structure.files import File

    for package in PACKAGES:
        files.append(
            File.generated(config, f"reference/{package}.md", content=reference_page(package))
        )
    for results in sorted((ROOT / "benchmarks").glob("*/RESULTS.md")):
        text = results.read_text(encoding="utf-8").replace("](../../docs/", "](../../")
        name = str(results.relative_to(ROOT))
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to the benchmarks' results to their pages of the site."""
    depth = page.file.src_uri.count("/")
    return markdown.replace(f"]({'../' * (depth + 1)}benchmarks/", f"]({'../' * depth}benchmarks/")
