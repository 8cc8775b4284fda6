"""Grown students against students from nothing: how many steps to the same accuracy?"""

from __future__ import annotations

import time

import keras
import numpy as np

import net2net
from benchmarks.common.tables import format_header, format_mean, format_row
from keras_qan.data.builders import prepared_builder
from keras_qan.data.tfds import read_images

L = keras.layers
BATCH, HELD_OUT, RATE = 64, 2000, 1e-3
EXAMPLES = 22_000
"""Training images, the first on the disk."""
EVERY = {"mnist": 20, "cifar10": 40}
"""Steps between two evaluations on the images held out."""
FILTERS = {"mnist": (8, 16, 64), "cifar10": (12, 24, 64)}
FACTOR = {"mnist": 4, "cifar10": 2}


def load(name: str) -> tuple[np.ndarray, ...]:
    """Return training images and labels and those held out of them; the test set is not seen."""
    read = read_images(prepared_builder(name, data_dir=None), "train")
    images, labels = read.pixels[:EXAMPLES].astype("float32") / 255.0, read.labels[:EXAMPLES]
    return images[HELD_OUT:], labels[HELD_OUT:], images[:HELD_OUT], labels[:HELD_OUT]


def build_network(
    shape: tuple[int, ...], widths: tuple[int, ...], deeper: bool = False
) -> keras.Model:
    def convolution(width: int, name: str) -> list:
        one = L.Conv2D(width, 3, padding="same", activation="relu", name=name)
        more = L.Conv2D(width, 3, padding="same", activation="relu", name=f"{name}_deeper")
        return [one, more] if deeper else [one]

    model = keras.Sequential(
        [
            keras.Input(shape),
            *convolution(widths[0], "first"),
            L.MaxPooling2D(),
            *convolution(widths[1], "second"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(widths[2], "relu", name="third"),
            L.Dense(10, name="last"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE), loss)
    return model


def train(model: keras.Model, data: tuple, steps: int, seed: int, every: int) -> dict:
    """Train; return the accuracy on what is held out at every few steps, and seconds a step."""
    images, labels, held, answers = data
    generator = np.random.default_rng(seed)
    curve, spent = [accuracy(model, held, answers)], []
    for step in range(1, steps + 1):
        batch = generator.integers(len(images), size=BATCH)
        start = time.perf_counter()
        model.train_on_batch(images[batch], labels[batch])
        spent.append(time.perf_counter() - start)
        if step % every == 0:
            curve.append(accuracy(model, held, answers))
    # The median leaves out the first steps, in which the graph is traced, and disturbances.
    return {"curve": curve, "step_seconds": float(np.median(spent))}


def accuracy(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    found = [model.predict_on_batch(images[k : k + 500]) for k in range(0, len(images), 500)]
    return float((np.concatenate(found).argmax(axis=1) == labels).mean())


def steps_to(curve: list[float], target: float, every: int) -> float:
    """Return the first step at which the accuracy is reached, infinity where it never is."""
    reached = np.flatnonzero(np.array(curve) >= target)
    return float(reached[0] * every) if len(reached) else float("inf")


def race(
    name: str, seeds: int, teacher_steps: int, steps: int, only: tuple[str, ...] = ()
) -> list[dict]:
    data = load(name)
    shape, small = data[0].shape[1:], FILTERS[name]
    large = tuple(width * FACTOR[name] for width in small)
    wider = dict(zip(("first", "second", "third"), large, strict=True))
    every, rows = EVERY[name], []
    for seed in range(seeds):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        teacher = build_network(shape, small)
        taught = train(teacher, data, teacher_steps, seed=1000 + seed, every=every)
        keras.utils.set_random_seed(5000 + seed)
        arms = {
            "wider: net2net": net2net.grow(teacher, wider, seed=seed),
            "wider: net2net, rate/3": net2net.grow(
                teacher, wider, seed=seed, learning_rate=RATE / 3
            ),
            "wider: zero-out": net2net.grow(teacher, wider, seed=seed, new="zero_out"),
            "wider: random padding": net2net.grow(teacher, wider, seed=seed, new="random"),
            "wider: from nothing": build_network(shape, large),
            "deeper: net2net": net2net.grow(teacher, deepen=["first", "second"]),
            "deeper: from nothing": build_network(shape, small, deeper=True),
        }
        for arm, model in arms.items():
            if only and arm.split(": ")[1] not in only:
                continue
            run = train(model, data, steps, seed=2000 + seed, every=every)
            rows.append({"seed": seed, "arm": arm, "teacher": taught, **run})
            print(seed, arm, [round(a, 4) for a in run["curve"][::10]], flush=True)
    print_report(rows, teacher_steps, steps, every, time_steps(name))
    return rows


def print_report(
    rows: list[dict], teacher_steps: int, steps: int, every: int, step_times: dict[str, float]
) -> None:
    curve = ("at step 0", "at step 200", "at the end")
    steps_until = ("steps to what from nothing reaches", "the same, teacher counted by time")
    columns = ("arm", *curve, "steps to the teacher", *steps_until)
    print("\n" + format_header(*columns))
    for arm in dict.fromkeys(row["arm"] for row in rows):
        of_arm = [row for row in rows if row["arm"] == arm]
        nothing = {
            row["seed"]: row for row in rows if row["arm"] == arm.split(":")[0] + ": from nothing"
        }
        to_teacher, to_final, counted = [], [], []
        for row in of_arm:
            other = nothing[row["seed"]]
            to_teacher.append(steps_to(row["curve"], row["teacher"]["curve"][-1], every))
            target = float(np.mean(other["curve"][-3:]))
            to_final.append(steps_to(row["curve"], target, every))
            # A teacher's step is cheaper than a student's, so it counts by its time.
            cost = teacher_steps * step_times["teacher"] / step_times[arm.split(":")[0]]
            counted.append(to_final[-1] + (0.0 if "nothing" in arm else cost))
        cells = [
            format_mean([row["curve"][k] for row in of_arm], ".4f")
            for k in (0, min(200, steps) // every, -1)
        ]
        cells += [format_median(one) for one in (to_teacher, to_final, counted)]
        print(format_row(arm, *cells))
    taught = format_mean([row["teacher"]["curve"][-1] for row in rows], ".4f")
    print(f"teacher: {teacher_steps} steps, accuracy {taught}")


def format_median(values: list[float]) -> str:
    """Return the median with the range over seeds; runs that never arrive count as never."""
    text = [f"{one:.0f}" if np.isfinite(one) else "never" for one in sorted(values)]
    return f"{text[len(text) // 2]} [{text[0]} … {text[-1]}]"


def time_steps(name: str, rounds: int = 40) -> dict[str, float]:
    """Return the milliseconds of a step of teacher and students, measured in turn.

    Taken in turn, disturbances by other work hit all of them alike; medians leave them out.
    """
    data = load(name)
    shape, small = data[0].shape[1:], FILTERS[name]
    large = tuple(width * FACTOR[name] for width in small)
    models = {
        "teacher": build_network(shape, small),
        "wider": build_network(shape, large),
        "deeper": build_network(shape, small, deeper=True),
    }
    spent: dict[str, list[float]] = {arm: [] for arm in models}
    for _ in range(rounds):
        for arm, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(data[0][:BATCH], data[1][:BATCH])
            spent[arm].append(1e3 * (time.perf_counter() - start))
    found = {arm: round(float(np.median(times)), 1) for arm, times in spent.items()}
    print(name, found)
    return found
