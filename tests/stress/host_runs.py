"""A run of two tf.distribute workers, of which one is killed, and both are started again."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import keras

from tests.stress import between, lives, small_run

#: Of the run; each decision is a meeting of both, so they take longer than elsewhere.
EPISODES = 4

#: Seconds after which a worker that was left alone is ended.
GRACE = 60.0

#: Seconds after which a run that has not ended is taken to hang.
LIMIT = 1200


def as_worker(index: int, ports: list[int]) -> lives.Setup:
    """Makes a life one of two workers."""

    def setup() -> dict[str, Any]:
        addresses = [f"127.0.0.1:{port}" for port in ports]
        task = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        from keras_qan import distribute

        strategy = distribute.from_name("multi_worker")
        made = small_run.make_task()

        def build_model(seed: int) -> keras.Model:
            with strategy.scope():
                return made.build_model(seed)

        return {"task": dataclasses.replace(made, build_model=build_model), "episodes": EPISODES}

    return setup


def start_workers(directory: Path, log: Path) -> list[int]:
    """Starts the chief and the other; their process numbers."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (one, other)]
    return [
        lives.start(directory, as_worker(index, ports), log.with_suffix(f".{index}.log"))
        for index in (0, 1)
    ]


def wait_for_all(children: list[int], seconds: float) -> list[int | None]:
    """Exit codes; None for a life that has not ended within so many seconds."""
    end = time.monotonic() + seconds
    codes: list[int | None] = [None] * len(children)
    while None in codes and time.monotonic() < end:
        for place, child in enumerate(children):
            if codes[place] is None:
                codes[place] = lives.poll(child)
        time.sleep(0.02)
    return codes


def interrupt(name: str, folder: Path, rng: random.Random, kills: int) -> dict[str, object]:
    """Interrupts and resumes one run of two workers; returns the row."""
    log, reference = folder / f"{name}.log", folder / "reference-hosts"
    wrong: list[str] = []
    injected: Counter[str] = Counter()
    shutil.rmtree(reference, ignore_errors=True)
    began = time.monotonic()
    codes = wait_for_all(start_workers(reference, log), LIMIT)
    if codes != [lives.FINISHED] * 2:
        raise RuntimeError(f"The reference of two workers ended with {codes}; see {log}.")
    whole = time.monotonic() - began
    directory = folder / name
    shutil.rmtree(directory, ignore_errors=True)
    finished = 0
    while injected.total() < kills:
        children = start_workers(directory, log)
        codes = wait_for_all(children, rng.uniform(0.1, 0.7) * whole)
        if lives.FINISHED in codes:  # faster than the reference: the next one begins anew
            wait_for_all(
                [c for c, code in zip(children, codes, strict=True) if code is None], LIMIT
            )
            problem = between.difference(reference, directory)
            wrong += [problem] if problem else []
            shutil.rmtree(directory)
            finished = 0
            continue
        chosen = rng.choice((0, 1))
        if codes[chosen] is None:
            injected[f"{('chief', 'other worker')[chosen]} of two hosts killed"] += 1
        for place in (chosen, 1 - chosen):
            if codes[place] is None:
                # The one that is left cannot go on; it is given a while to say so.
                if place != chosen:
                    codes[place] = wait_for_all([children[place]], GRACE)[0]
                    if codes[place] not in (lives.LOST, lives.FINISHED):
                        wrong.append(f"the worker that was left ended with {codes[place]}")
                if codes[place] is None:
                    os.kill(children[place], signal.SIGKILL)
                    lives.wait_for(children[place])
        now = between.count_finished(directory)
        if now < finished:
            wrong.append(f"finished episodes are lost: {finished}, then {now}")
        finished = now
    codes = wait_for_all(start_workers(directory, log), LIMIT)
    if codes != [lives.FINISHED] * 2:
        wrong.append(f"could not go on: {codes}")
    problem = between.difference(reference, directory)
    wrong += [problem] if problem else []
    return {"run": name, "injected": dict(injected), "wrong": wrong}
