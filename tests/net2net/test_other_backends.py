"""The rules' contract on JAX, in a process of its own: a backend is chosen once a process."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHOSEN = (
    "dense",
    "grouped_convolution",
    "depthwise",
    "batch_normalization",
    "layer_normalization",
    "flatten",
    "concatenated_stream",
    "nested_models",
    "lstm_with_states",
    "attention_heads",
)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax: pip install jax")
def test_every_rule_keeps_its_contract_on_jax():
    # JAX compiles every operation of every case, so a case of each way of following channels
    # stands here; KERAS_BACKEND=jax pytest test_rule_contract.py runs the whole contract.
    inference = "inference and (" + " or ".join(CHOSEN) + ")"
    chosen = f"({inference}) or (momentum and dense_of_one) or (momentum and concatenated)"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", chosen, "test_rule_contract.py"],
        cwd=HERE,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "passed" in done.stdout


def test_no_backend_is_imported_by_name():
    package = HERE.parents[1] / "net2net"
    for path in package.rglob("*.py"):
        words = path.read_text(encoding="utf-8").split()
        for backend in ("tensorflow", "jax", "torch", "keras_qan"):
            assert not any(
                one in ("import", "from") and words[k + 1].split(".")[0] == backend
                for k, one in enumerate(words[:-1])
            ), path
