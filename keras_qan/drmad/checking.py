"""How far a hypergradient points where the exact one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Check:
    """A method's hypergradient beside the exact one.

    Args:
      method: which.
      steps: of the training that both were taken of.
      cosine: of the angle between them, over all hyperparameters on their raw scales.
      sign_agreement: share of the numbers, non-zero in the exact one, whose signs agree; by chance
        it is a half where signs are balanced.
      ratio: the norm of the method's over that of the exact one.
      by_hyperparameter: (cosine, sign agreement) of each.
    """

    method: str
    steps: int
    cosine: float
    sign_agreement: float
    ratio: float
    by_hyperparameter: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        lines = [
            f"{self.method} against exact over {self.steps} steps: cosine {self.cosine:.3f}, "
            f"signs agree {self.sign_agreement:.1%}, norm ratio {self.ratio:.3g}"
        ]
        lines += [
            f"  {name}: cosine {cosine:.3f}, signs agree {signs:.1%}"
            for name, (cosine, signs) in self.by_hyperparameter.items()
        ]
        return "\n".join(lines)


def compared(
    method: str,
    steps: int,
    names: Sequence[str],
    found: Sequence[np.ndarray],
    exact: Sequence[np.ndarray],
) -> Check:
    """Compares two hypergradients, each a list of arrays, one for each name."""
    one, two = (np.concatenate([part.ravel() for part in parts]) for parts in (found, exact))
    norm = float(np.linalg.norm(two))
    return Check(
        method=method,
        steps=steps,
        cosine=cosine(one, two),
        sign_agreement=sign_agreement(one, two),
        ratio=float(np.linalg.norm(one)) / norm if norm else float("nan"),
        by_hyperparameter={
            name: (cosine(a.ravel(), b.ravel()), sign_agreement(a, b))
            for name, a, b in zip(names, found, exact, strict=True)
        },
    )


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    """⟨left, right⟩ / (|left| |right|); not a number where one of them is zero."""
    sizes = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    return float(np.dot(left, right)) / sizes if sizes else float("nan")


def sign_agreement(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of equal signs where the exact number is not zero."""
    counted = exact != 0.0
    if not counted.any():
        return float("nan")
    return float(np.mean(np.sign(found[counted]) == np.sign(exact[counted])))
