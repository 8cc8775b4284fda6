import json
import math

import numpy as np
import pytest

ACTIONS = ["Decay(0.5)", "Decay(0.8)", "Hold()", "Raise(1.25)", "Raise(2.0)"]
FACTORS = [0.5, 0.8, 1.0, 1.25, 2.0]
ARMS = ["qan", "random", "constant", "step_decay", "cosine", "one_cycle", "warm_restarts"]


def _rate_factor(arm, progress):
    return {
        "constant": 1.0,
        "step_decay": 0.2 ** int(progress * 3),
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)) + 1e-3,
        "one_cycle": 0.1 + 2 * (progress if progress < 0.3 else (1 - progress) * 0.43),
        "warm_restarts": 0.5 * (1 + math.cos(math.pi * (progress * 3 % 1))) + 1e-2,
    }.get(arm)


def write_run(folder, *, arms=ARMS, num_train=60, seeds=5, num_decisions=20, epochs=5):
    """Writes logs as a run would, with made-up but plausible numbers."""
    generator = np.random.default_rng(0)
    files = {name: [] for name in ("decisions", "epochs", "episodes")}

    def episode(arm, phase, number, seed, epsilon):
        context = {"arm": arm, "phase": phase, "episode": number, "seed": seed}
        rate = initial = float(np.exp(generator.uniform(np.log(0.003), np.log(0.4))))
        diverged = phase == "train" and generator.random() < 0.08 * epsilon + 0.02
        quality = 1.2 - 0.9 * (1 - epsilon) if arm == "qan" else 0.7 + 0.05 * len(arm)
        for decision in range(num_decisions):
            progress = decision / num_decisions
            planned = _rate_factor(arm, progress)
            if planned is not None:
                rate, index = initial * planned, 2
            elif arm == "random" or generator.random() < epsilon:
                index = int(generator.integers(5))
            else:
                index = int(np.clip(round(generator.normal(3.4 - 4 * progress, 0.6)), 0, 4))
            if planned is None:
                rate = float(np.clip(rate * FACTORS[index], 1e-5, 2.0))
            files["decisions"].append(
                context
                | {
                    "decision": decision,
                    "step": decision * 15,
                    "learning_rate": rate,
                    "action": ACTIONS[index],
                    "action_index": index,
                    "reward": None if decision == 0 else float(generator.normal(0.1, 0.05)),
                    "loss": 2.3 * math.exp(-progress),
                    "q_values": [0.0] * 5,
                    "epsilon": epsilon,
                    "td_loss": None,
                    "greedy": phase == "evaluate",
                }
            )
        for epoch in range(epochs):
            accuracy = 1 - 0.85 * quality * math.exp(-epoch / 1.5) * generator.uniform(0.8, 1.2)
            files["epochs"].append(
                context
                | {
                    "epoch": epoch,
                    "step": (epoch + 1) * 60,
                    "learning_rate": rate,
                    "loss": 1.0,
                    "val_loss": 0.5,
                    "val_accuracy": float(np.clip(accuracy, 0.1, 0.99)),
                }
            )
        score = float(np.exp(generator.normal(math.log(0.1 + quality), 0.3)))
        files["episodes"].append(
            context
            | {
                "initial_learning_rate": initial,
                "steps": 300,
                "decisions": num_decisions,
                "return": -3.0 if diverged else math.log(2.3) - math.log(score),
                "val_loss": None if diverged else score,
                "diverged": bool(diverged),
                "seconds": 1.0,
                "steps_to_target": None,
            }
        )

    for number in range(num_train):
        episode("qan", "train", number, number, max(0.1, 1 - 1.8 * number / max(1, num_train)))
    for arm in arms:
        for seed in range(seeds):
            episode(arm, "evaluate", seed, 1000 + seed, 0.0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in files.items():
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", arms=["qan", "random", "mine"], num_train=12, seeds=3)
