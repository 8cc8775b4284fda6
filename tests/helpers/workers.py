"""Starts the workers of a multi-worker training on this machine."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Seconds after which workers are given up; they take a tenth of it on a quiet machine.
LIMIT = 900


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on; all are held until the last is found, so they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def run_workers(
    program: str, arguments: Sequence[str] = (), number: int = 2, limit: int = LIMIT
) -> list[subprocess.CompletedProcess[str]]:
    """Runs a program as each worker of a training; once more where a port was taken meanwhile."""
    for attempt in range(2):
        done = _run_once(program, arguments, number, limit)
        taken = any("Address already in use" in one.stderr for one in done)
        if not taken or attempt:
            break
    return done


def _run_once(
    program: str, arguments: Sequence[str], number: int, limit: int
) -> list[subprocess.CompletedProcess[str]]:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(number)]
    started = []
    for index in range(number):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task}
        environment = {
            **os.environ,
            "TF_CONFIG": json.dumps(config),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
                cwd=ROOT,
            )
        )
    done = []
    try:
        for one in started:
            out, err = one.communicate(timeout=limit)
            done.append(subprocess.CompletedProcess(one.args, one.returncode, out, err))
    finally:
        for one in started:
            if one.poll() is None:
                one.kill()
                one.communicate()
    return done
