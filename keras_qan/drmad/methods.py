"""Ways to a hypergradient: DrMAD on one line or several, exact with checkpoints, implicit.

One training and the derivative of its validation loss by the raw numbers.

How far a hypergradient points where the exact one does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from keras_qan.drmad.functional_model import Tensors, dot
from keras_qan.drmad.inner_loop import DivergedError, InnerLoop, InnerState


class Method(Protocol):
    """How the derivative of the validation loss by the hyperparameters is found."""

    @property
    def name(self) -> str:
        """How it is called in logs."""
        ...

    def stops(self, steps: int) -> list[int]:
        """At which steps the training has to be looked at; the last is `steps`."""
        ...

    def by_value(self, runs: InnerLoop, values: Tensors, moments: Sequence[InnerState]) -> Tensors:
        """The derivatives by the hyperparameters' values, one tensor each.

        Args:
          runs: what trained.
          values: of the hyperparameters.
          moments: the training at step 0 and at the stops.
        """
        ...


@dataclass(frozen=True)
class Drmad:
    """The reverse pass walks along straight lines between weights that the training went through.

    With one leg this is DrMAD (Fu et al. 2016): nothing of the training is kept but its first and
    last weights. With several legs the line is broken at the legs' ends, whose weights are kept
    too; memory does not depend on the number of steps.

    Args:
      legs: how many chords of the same number of steps, or the steps between legs, ascending.
      reverse_steps: how many steps the reverse pass takes; None for as many as the training. Fewer
        make it cheaper: each then takes the place of several, with rate m·α and momentum γ^m.
      max_growth: the reverse pass ends early where δw has grown beyond this many times ∇L. Off the
        training's own path the curvature can exceed what the rate is stable for, and then δw
        doubles at every few steps until it is not a number. None for never.
    """

    legs: int | tuple[int, ...] = 1
    reverse_steps: int | None = None
    max_growth: float | None = 10.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        ends = [self.legs] if isinstance(self.legs, int) else list(self.legs)
        if not ends or any(b <= a for a, b in pairwise([0, *ends])):
            raise ValueError(
                f"Drmad got legs={self.legs!r}; expected a number of at least 1, or the steps "
                "between legs, ascending from above 0. Give for example legs=4 or legs=(100, 300)."
            )
        if self.max_growth is not None and not self.max_growth > 1.0:
            raise ValueError(
                f"Drmad got max_growth={self.max_growth}; expected a number above 1, or None for "
                "no limit."
            )
        if self.reverse_steps is not None and self.reverse_steps < 1:
            raise ValueError(
                f"Drmad got reverse_steps={self.reverse_steps}; expected at least 1, or None for "
                "as many as the training takes."
            )

    @property
    def name(self) -> str:
        """One line, or several."""
        return "drmad" if self.legs == 1 else "drmad_piecewise"

    def stops(self, steps: int) -> list[int]:
        """The legs' ends."""
        if isinstance(self.legs, int):
            legs = min(self.legs, steps)
            return [steps * leg // legs for leg in range(1, legs + 1)]
        return [step for step in self.legs if step < steps] + [steps]

    def by_value(self, runs: InnerLoop, values: Tensors, moments: Sequence[InnerState]) -> Tensors:
        """Walks the chords backward, the last first."""
        strides = min(self.reverse_steps or runs.steps, runs.steps)
        end = moments[-1]
        d_weights = runs.loops.validation_gradient(end.weights, end.state)
        d_velocity = [tf.zeros_like(w) for w in d_weights]
        found = [tf.zeros_like(value) for value in values]
        limit = tf.sqrt(dot(d_weights, d_weights)) * (self.max_growth or math.inf)
        runs.reached = 0
        for begin, stop in reversed(list(pairwise(moments))):
            first, last = (round(m.step * strides / runs.steps) for m in (begin, stop))
            if first == last:
                continue
            d_weights, d_velocity, found, reached = runs.loops.reverse_chord(
                values,
                (begin.weights, stop.weights),
                (begin.travelled, stop.travelled),
                end.state,
                d_weights,
                d_velocity,
                found,
                tf.constant(first),
                tf.constant(last),
                tf.constant(strides),
                tf.constant(runs.steps),
                limit,
            )
            if int(reached) > first:
                runs.reached = int(reached) * runs.steps // strides
                return found
        return _with_start(runs, values, d_weights, found)


@dataclass(frozen=True)
class Exact:
    """The reverse pass through the training as it was, recomputed between checkpoints.

    Args:
      segment: steps between checkpoints; None for √steps, which keeps about 2 √steps copies of the
        weights. A segment as long as the training keeps every step.
    """

    segment: int | None = None

    def __post_init__(self) -> None:
        """Checks the number."""
        if self.segment is not None and self.segment < 1:
            raise ValueError(
                f"Exact got segment={self.segment}; expected at least 1, or None for the square "
                "root of the number of steps."
            )

    name = "exact"

    def stops(self, steps: int) -> list[int]:
        """The checkpoints."""
        segment = self.segment or max(1, math.isqrt(steps))
        return [*range(segment, steps, segment), steps]

    def by_value(self, runs: InnerLoop, values: Tensors, moments: Sequence[InnerState]) -> Tensors:
        """Trains each segment again and walks it backward, the last first."""
        moments = list(moments)
        end = moments[-1]
        d_weights = runs.loops.validation_gradient(end.weights, end.state)
        d_velocity = [tf.zeros_like(w) for w in d_weights]
        found = [tf.zeros_like(value) for value in values]
        runs.reached = 0
        while len(moments) > 1:
            last = moments.pop().step
            begin = moments[-1]
            d_weights, d_velocity, found = runs.loops.reverse_exact(
                values,
                begin.weights,
                begin.velocity,
                begin.state,
                d_weights,
                d_velocity,
                found,
                tf.constant(begin.step),
                tf.constant(last),
                tf.constant(runs.steps),
            )
        return _with_start(runs, values, d_weights, found)


@dataclass(frozen=True)
class Implicit:
    """The implicit function theorem at the last weights, H⁻¹ by a Neumann series.

    dL/dλ = −(∂g/∂λ)ᵀ H⁻¹ ∇L with H⁻¹ ∇L ≈ η Σ_j (I − η H)^j ∇L (Lorraine, Vicol & Duvenaud
    2020). It assumes that the training has converged, and knows of hyperparameters of the training
    loss alone: rates, momenta and initial scales move no minimum.

    Args:
      terms: of the series.
      batches: training batches that g and H are means over: the first ones.
      step_size: η; None for 1 / the largest curvature found by power iteration.
    """

    terms: int = 20
    batches: int = 8
    step_size: float | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.terms < 1 or self.batches < 1 or not (self.step_size is None or self.step_size > 0):
            raise ValueError(
                f"Received {self}; expected terms and batches of at least 1 and a positive "
                "step_size, or None."
            )

    name = "implicit"

    def stops(self, steps: int) -> list[int]:
        """The end."""
        return [steps]

    def by_value(self, runs: InnerLoop, values: Tensors, moments: Sequence[InnerState]) -> Tensors:
        """Sums the series.

        Raises:
          ValueError: a hyperparameter is not in the training loss.
        """
        student = runs.loops.student
        outside = [h.name for h in student.hyperparameters if not h.in_loss]
        if outside:
            raise ValueError(
                f"method='implicit' was given with {', '.join(outside)}; expected hyperparameters "
                "of the training loss alone, as a minimum does not depend on how it is reached. "
                "Leave them out, or use method='drmad'."
            )
        end = moments[-1]
        runs.reached = 0
        return runs.loops.neumann(
            values,
            end.weights,
            end.state,
            runs.loops.validation_gradient(end.weights, end.state),
            tf.constant(self.terms),
            tf.constant(min(self.batches, runs.steps)),
            tf.constant(self.step_size or 0.0, student.facts.dtype),
        )


def _with_start(runs: InnerLoop, values: Tensors, d_weights: Tensors, found: Tensors) -> Tensors:
    """Adds what the initial weights contribute."""
    if runs.loops.student.scale_place is None:
        return found
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        start = runs.begin(values).weights
    by_start = tape.gradient(
        start, values, output_gradients=d_weights, unconnected_gradients="zero"
    )
    return [a + b for a, b in zip(found, by_start, strict=True)]


_NAMED: dict[str, Method] = {
    "drmad": Drmad(),
    "drmad_piecewise": Drmad(legs=16),
    "exact": Exact(),
    "implicit": Implicit(),
}


def method_from_name(method: str | Method) -> Method:
    """The method of a name, or the method itself.

    Raises:
      ValueError: there is no such method.
    """
    if isinstance(method, Drmad | Exact | Implicit):
        return method
    if method not in _NAMED:
        raise ValueError(
            f"Received method={method!r}; expected one of {', '.join(map(repr, _NAMED))}, or "
            "Drmad(...), Exact(...) or Implicit(...)."
        )
    return _NAMED[str(method)]


def config(method: Method) -> dict[str, Any]:
    """A method's settings as plain data."""
    settings: dict[str, Any] = asdict(method)  # type: ignore[call-overload]
    return {"class": type(method).__name__} | settings


@dataclass(frozen=True, eq=False)
class Hypergradient:
    """What a training and its reverse found.

    Args:
      gradients: float64 arrays by the raw numbers, one for each hyperparameter.
      val_loss: after the training.
      start: the training before its first step.
      end: after its last.
      reached: the step that the reverse pass came back to; above 0 where it was ended early.
    """

    gradients: list[np.ndarray]
    val_loss: float
    start: InnerState
    end: InnerState
    reached: int


def hypergradient(runs: InnerLoop, raws: list[np.ndarray], method: Method) -> Hypergradient:
    """Trains with these raw numbers and walks the training backward.

    Raises:
      DivergedError: the training or the walk ended in what is not a number.
    """
    values = runs.values(raws)
    moments = runs.through(values, method.stops(runs.steps))
    val_loss = runs.validation_loss(moments[-1])
    found = runs.raw_gradient(raws, method.by_value(runs, values, moments))
    if not all(np.isfinite(gradient).all() for gradient in found):
        raise DivergedError(
            f"The hypergradient by {method.name} is not finite: the reverse pass diverged."
        )
    return Hypergradient(found, val_loss, moments[0], moments[-1], runs.reached)


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


def compare_gradients(
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
