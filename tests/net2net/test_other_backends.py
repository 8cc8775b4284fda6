"""The rules' contract on JAX, in a process of its own: a backend is chosen once a process."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INFERENCE = "test_rule_contract.py::test_the_grown_model_computes_the_same_in_inference"
MOMENTUM = (
    "test_rule_contract.py::test_momentum_is_mapped_to_what_the_grown_model_would_have_gathered"
)
# JAX compiles every operation of every case, so a case of each way of following channels is here.
CHOSEN = (
    *(
        f"{INFERENCE}[{case}]"
        for case in (
            "dense",
            "grouped_convolution",
            "depthwise",
            "batch_normalization",
            "layer_normalization",
            "flatten_channels_first",
            "concatenated_stream",
            "nested_models",
            "lstm_with_states",
            "attention_heads",
        )
    ),
    f"{MOMENTUM}[dense_of_one]",
    f"{MOMENTUM}[concatenated_stream]",
)
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs jax: pip install jax"
)


def run_on_jax(*tests):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests],
        cwd=HERE,
        # Compiling takes most of the time, and speed of what is compiled none.
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": "--xla_backend_optimization_level=0 "
            "--xla_llvm_disable_expensive_passes=true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.stress
@needs_jax
def test_rules_of_every_kind_keep_their_contract_on_jax():
    assert f"{len(CHOSEN)} passed" in run_on_jax("-v", *CHOSEN)


@pytest.mark.stress
@pytest.mark.timeout(3600)
@needs_jax
def test_every_rule_keeps_the_whole_contract_on_jax():
    assert "passed" in run_on_jax("test_rule_contract.py")


def test_no_backend_is_imported_by_name():
    package = HERE.parents[1] / "net2net"
    for path in package.rglob("*.py"):
        words = path.read_text(encoding="utf-8").split()
        for backend in ("tensorflow", "jax", "torch", "keras_qan"):
            assert not any(
                one in ("import", "from") and words[k + 1].split(".")[0] == backend
                for k, one in enumerate(words[:-1])
            ), path
