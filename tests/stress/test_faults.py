"""Bounded runs of the fault injection and of the fuzzer, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.stress, pytest.mark.timeout(3600)]


def run_module(name: str, *flags: str) -> None:
    """Runs `python -m tests.stress.<name>` from the root of the repository."""
    command = [sys.executable, "-m", f"tests.stress.{name}", *flags]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def inject(tmp_path: Path, *flags: str) -> list[dict]:
    """Injects faults with a seed of its own; the rows."""
    results = tmp_path / "faults.jsonl"
    run_module("faults", f"--folder={tmp_path / 'runs'}", f"--results={results}", *flags)
    return [json.loads(line) for line in results.read_text().splitlines()]


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        (("--parts=writers",), 1),
        (("--parts=numbers",), 3),
        (("--parts=runs", "--runs=3", "--most=10"), 3),
        (("--parts=local", "--worker_kills=2", "--learner_faults=1"), 1),
        (("--parts=ray", "--worker_kills=2", "--learner_faults=1"), 1),
        (("--parts=hosts", "--host_kills=1"), 1),
    ],
    ids=["writers", "non-finite", "whole-runs", "local-workers", "ray-workers", "hosts"],
)
def test_a_disturbed_run_ends_as_an_undisturbed_one(tmp_path, flags, count):
    rows = inject(tmp_path, *flags)
    assert len(rows) == count
    assert [(row["run"], row["wrong"]) for row in rows if row["wrong"]] == []
    assert sum(sum(row["injected"].values()) for row in rows) > 0


def test_a_mutated_file_is_loaded_or_refused(tmp_path):
    results = tmp_path / "fuzz.json"
    run_module("fuzz", "--mutations=1000", f"--results={results}")
    rows = json.loads(results.read_text())["rows"]
    assert len(rows) == 5
    for row in rows:
        assert row["crashed"] == 0, row
        assert row["wrong"] == [], row
        assert row["counts"].get("wrong", 0) == 0, row
