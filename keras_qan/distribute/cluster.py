"""The workers of a multi-worker training, read from TF_CONFIG."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: A valid TF_CONFIG, for error messages.
_EXAMPLE = (
    '{"cluster": {"worker": ["host-a:12345", "host-b:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)

#: Types of tasks that train one model in step.
_TASK_TYPES = ("chief", "worker")


@dataclass(frozen=True)
class Cluster:
    """The workers of one training, and this process's place among them.

    Attributes:
      addresses: `host:port` of every worker, the chief's first.
      index: this process's number, from 0.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """True if this process holds the agent and writes the run directory."""
        return self.index == 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Cluster:
        """Read `TF_CONFIG`.

        Args:
          environment: environment variables. Defaults to those of the process.

        Returns:
          The workers, and which of them this process is.

        Raises:
          ValueError: it is missing, is no JSON, names no workers, or the task is none of them.
        """
        text = (os.environ if environment is None else environment).get("TF_CONFIG", "")
        if not text.strip():
            raise ValueError(
                "The strategy multi_worker found no TF_CONFIG in the environment; expected the "
                f"same list of workers on every host and an index of its own, such as {_EXAMPLE}. "
                "Set TF_CONFIG before the process starts, or use mirrored on a single host."
            )
        try:
            config = json.loads(text)
        except json.JSONDecodeError as error:
            raise _refusal(text, f"which is not JSON ({error})") from error
        if not isinstance(config, dict):
            raise _refusal(text, "which is not an object")
        jobs = _jobs(config.get("cluster"), text)
        task = config.get("task")
        if not isinstance(task, dict):
            raise _refusal(text, "in which 'task' is missing or not an object")
        kind, index = task.get("type"), task.get("index")
        if not isinstance(kind, str) or kind not in jobs:
            raise _refusal(
                text, f"in which the task is of type {kind!r} and the cluster has {sorted(jobs)}"
            )
        if isinstance(index, bool) or not isinstance(index, int):
            raise _refusal(text, f"in which the task's index is {index!r}, not a whole number")
        if not 0 <= index < len(jobs[kind]):
            raise _refusal(
                text,
                f"in which the task's index is {index} and there are {len(jobs[kind])} of type "
                f"{kind!r}, numbered from 0",
            )
        before = len(jobs.get("chief", ())) if kind == "worker" else 0
        addresses = (*jobs.get("chief", ()), *jobs.get("worker", ()))
        return cls(addresses, before + index)


def _jobs(cluster: Any, text: str) -> dict[str, list[str]]:
    """Return the addresses of each type of task."""
    if not isinstance(cluster, dict) or not cluster:
        raise _refusal(text, "in which 'cluster' is missing or not an object")
    others = sorted(set(cluster) - set(_TASK_TYPES))
    if others:
        raise _refusal(
            text, f"in which the cluster has {', '.join(others)} beside workers that train in step"
        )
    for kind, addresses in cluster.items():
        if not isinstance(addresses, list) or not addresses:
            raise _refusal(text, f"in which {kind!r} is not a list of addresses")
        for address in addresses:
            if not _is_address(address):
                raise _refusal(text, f"in which {address!r} is not of the form host:port")
    if len(cluster.get("chief", [0])) != 1:
        raise _refusal(text, f"in which there are {len(cluster['chief'])} chiefs, not one")
    everyone = [address for addresses in cluster.values() for address in addresses]
    doubled = sorted({address for address in everyone if everyone.count(address) > 1})
    if doubled:
        raise _refusal(text, f"in which {', '.join(doubled)} is named twice")
    return cluster


def _is_address(address: Any) -> bool:
    if not isinstance(address, str):
        return False
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


def _refusal(text: str, what: str) -> ValueError:
    shown = text if len(text) <= 300 else f"{text[:300]}…"
    return ValueError(
        f"Received TF_CONFIG={shown!r}, {what}; expected something like {_EXAMPLE}. Correct it on "
        "this host and start the process again."
    )
