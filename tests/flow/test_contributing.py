"""What contributors are told is true: versions agree, files and targets exist, CI runs them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import keras_qan

ROOT = Path(__file__).parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version_everywhere():
    assert re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)[1] == keras_qan.__version__
    assert re.search(r"^version: (\S+)", read("CITATION.cff"), re.MULTILINE)[1] == (
        keras_qan.__version__
    )


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_every_path_and_link_exists(page):
    text = read(page)
    paths = re.findall(r"`((?:keras_qan|net2net|tests|docs|scripts|benchmarks)/[\w/.]*)`", text)
    links = re.findall(r"\]\(([^)#]+)[)#]", text)
    assert paths + links
    for path in paths + links:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", ".github/workflows/ci.yml", ".ci/run"])
def test_every_make_target_exists(page):
    targets = re.findall(r"(?:^|`|run: )make ([\w-]+)", read(page), flags=re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", read("Makefile"), flags=re.MULTILINE), target


def test_the_workflow_tries_every_supported_python_and_backend():
    workflow = read(".github/workflows/ci.yml")
    classifiers = re.findall(r"Python :: (3\.\d+)", read("pyproject.toml"))
    matrix = re.search(r"matrix:\n\s+python: \[(.*)\]", workflow)[1]
    assert re.findall(r"3\.\d+", matrix) == classifiers == ["3.10", "3.11", "3.12", "3.13"]
    assert "backend: [tensorflow, jax, torch]" in workflow


def test_hooks_run_the_tools_of_make_check():
    hooks = re.findall(r"entry: \.venv/bin/([\w-]+)", read(".pre-commit-config.yaml"))
    assert {"ruff", "lint-imports"} <= set(hooks)
    for tool in hooks:
        assert f"$(BIN)/{tool}" in read("Makefile")
