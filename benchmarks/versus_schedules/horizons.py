"""What `zero_shot.py` trains at which horizon, and where its lines are kept."""

from __future__ import annotations

from pathlib import Path

from fits import ARMS, FACTORS, FAR_FACTORS
from more_tasks import MORE_TASKS

#: The lines that the pages are written from.
KEPT = Path(__file__).with_name("zero_shot.jsonl")

FIRST_SEED = 3_000_000

TABLES = ("cancer-mlp", "diabetes-regression", "mnist-mlp", "mnist-autoencoder")

LONG_TASKS = ("friedman-mlp", "friedman-sgd", "text-lstm", "cifar-cnn-dropout")

#: Steps → tasks, seeds and arms of the whole benchmark; of an arm all its rates, or these factors.
HORIZONS: dict[int, tuple[tuple[str, ...], int, dict[str, tuple[float, ...]]]] = {
    400: (
        (*MORE_TASKS, *TABLES),
        5,
        {arm: each.factors for arm, each in ARMS.items() if arm != "unlimited"}
        | {"qan": (*FACTORS, *FAR_FACTORS)},
    ),
    2000: (
        (*LONG_TASKS, "text-transformer", "cifar-resnet"),
        3,
        {arm: each.factors for arm, each in ARMS.items() if arm != "unlimited"},
    ),
    8000: (
        LONG_TASKS,
        3,
        {
            "none": (1.0,),
            "qan": (1.0, 0.1, 10.0),
            "slope": (1.0, 0.1, 10.0),
            "cosine": (1.0, 3.0, 10.0, 30.0),
            "one_cycle": (1.0, 10.0, 30.0),
            "plateau": (1.0,),
            **dict.fromkeys(("adamw", "adamw_cosine", "nadamw", "schedule_free", "prodigy"), ()),
        },
    ),
    20_000: (
        ("friedman-mlp", "friedman-sgd", "cifar-cnn-dropout"),
        3,
        {
            "none": (1.0,),
            "qan": (1.0,),
            "slope": (1.0,),
            "cosine": (1.0, 3.0, 10.0, 30.0),
            **dict.fromkeys(("adamw_cosine", "nadamw", "schedule_free"), ()),
        },
    ),
}


def epochs_of(steps: int) -> int:
    """The epochs of a training, each with a validation."""
    return 16 if steps >= 400 else 8
