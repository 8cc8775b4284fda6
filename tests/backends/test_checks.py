"""The checks of `helpers.backend_checks` on TensorFlow here, on JAX and PyTorch in processes."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import backend_checks

ROOT = Path(__file__).parents[2]


@functools.cache
def outcomes(backend: str) -> dict[str, str | None]:
    """Run all checks on a backend in one process; a backend is chosen once a process."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        # Nothing here is a matter of how well the code is optimised, and that takes long.
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "helpers.backend_checks"],
        cwd=ROOT / "tests",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["check"]: line["wrong"] for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize("name", backend_checks.CHECKS)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_in_a_process_of_its_own(backend, name):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed, which is no part of the development set-up")
    wrong = outcomes(backend)[name]
    assert wrong is None, wrong


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    # `tests/qan/test_recorded_trainings.py` runs them here, one test each.
    [name for name in backend_checks.CHECKS if name != "recorded_trainings"],
)
def test_on_tensorflow(name):
    backend_checks.CHECKS[name]()
