"""The machine and the memory of this process."""

from __future__ import annotations

import os
import platform
import resource
from importlib.metadata import version
from pathlib import Path


def describe() -> str:
    """Cores, architecture and TensorFlow, in words."""
    cores = os.cpu_count()
    return f"{cores} CPU cores, {platform.machine()}, TensorFlow {version('tensorflow')}"


def resident_bytes() -> int:
    """Memory that this process holds now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def memory_mib(field: str) -> float:
    """A field of this process's memory, MiB: VmRSS for now, VmHWM for the peak."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}; expected Linux. Run the benchmark there.")
