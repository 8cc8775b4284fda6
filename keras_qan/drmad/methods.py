"""Ways to a hypergradient, and the comparison of one with the exact one.

DrMAD walks back along one straight line or several, `Exact` recomputes the training between
checkpoints, `Implicit` sums a series at the last weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from keras_qan.drmad.functional_model import Tensors, dot
from keras_qan.drmad.inner_loop import DivergedError, InnerLoop
from keras_qan.drmad.loops import Adjoint, InnerState, ReverseSpan
from keras_qan.utils.validation import check, check_integer, check_number


class Derivatives(NamedTuple):
    """Derivatives of a validation loss by the hyperparameters' values.

    Args:
      by_value: one tensor for each hyperparameter.
      reached: the step that the reverse pass came back to; above 0 where it was ended early.
    """

    by_value: Tensors
    reached: int = 0


class Method(Protocol):
    """A way to the derivatives of the validation loss by the hyperparameters."""

    @property
    def name(self) -> str:
        """Name in logs."""
        ...

    def snapshot_steps(self, steps: int) -> list[int]:
        """Steps whose state has to be kept; the last is `steps`."""
        ...

    def differentiate(
        self, inner: InnerLoop, values: Tensors, snapshots: Sequence[InnerState]
    ) -> Derivatives:
        """Return the derivatives by the hyperparameters' values.

        Args:
          inner: what was trained.
          values: the hyperparameters' values.
          snapshots: the training at step 0 and at `snapshot_steps`.
        """
        ...


@dataclass(frozen=True)
class Drmad:
    """A reverse pass along straight lines between weights that the training went through.

    With one leg this is DrMAD (Fu et al. 2016): nothing of the training is kept but its first and
    last weights. With several legs the line is broken at the legs' ends, whose weights are kept
    too; memory does not depend on the number of steps.

    Args:
      legs: number of chords of the same number of steps, or the steps between legs, ascending.
        Defaults to 1.
      reverse_steps: number of steps of the reverse pass. Fewer make it cheaper: each then takes the
        place of several, with rate m·α and momentum γ^m. Defaults to as many as the training.
      max_growth: the reverse pass ends early where δw has grown beyond this many times ∇L. Off the
        training's own path the curvature can exceed what the rate is stable for, and then δw
        doubles at every few steps until it is not finite. None for never. Defaults to 10.

    Raises:
      ValueError: an argument is out of range.
    """

    legs: int | tuple[int, ...] = 1
    reverse_steps: int | None = None
    max_growth: float | None = 10.0

    def __post_init__(self) -> None:
        ends = [self.legs] if isinstance(self.legs, int) else list(self.legs)
        check(
            bool(ends) and all(a < b for a, b in pairwise([0, *ends])),
            "legs",
            self.legs,
            "a number of at least 1, or the steps between legs, ascending from above 0",
            "Give for example legs=4 or legs=(100, 300).",
        )
        if self.max_growth is not None:
            unlimited = "Give None for no limit."
            check(self.max_growth > 1.0, "max_growth", self.max_growth, "above 1", unlimited)
        if self.reverse_steps is not None:
            as_many = "Give None for as many as the training takes."
            check_integer("reverse_steps", self.reverse_steps, 1, hint=as_many)

    @property
    def name(self) -> str:
        """One line, or several."""
        return "drmad" if self.legs == 1 else "drmad_piecewise"

    def snapshot_steps(self, steps: int) -> list[int]:
        """Return the ends of the legs.

        Args:
          steps: of the training.
        """
        if isinstance(self.legs, int):
            legs = min(self.legs, steps)
            return [steps * leg // legs for leg in range(1, legs + 1)]
        return [step for step in self.legs if step < steps] + [steps]

    def differentiate(
        self, inner: InnerLoop, values: Tensors, snapshots: Sequence[InnerState]
    ) -> Derivatives:
        """Walk the chords backward, the last first.

        Args:
          inner: the trainings.
          values: of the hyperparameters.
          snapshots: states of the training at `snapshot_steps`, the start first.

        Returns:
          Derivatives of the validation loss.
        """
        strides = min(self.reverse_steps or inner.steps, inner.steps)
        adjoint = _adjoint_at(inner, values, snapshots[-1])
        limit = tf.sqrt(dot(adjoint.weights, adjoint.weights)) * (self.max_growth or math.inf)
        for chord in reversed(list(pairwise(snapshots))):
            first, last = (round(int(s.step) * strides / inner.steps) for s in chord)
            if first == last:
                continue
            span = ReverseSpan(*map(tf.constant, (first, last, strides, inner.steps)))
            adjoint, reached = inner.loops.reverse_chord(
                values, chord, snapshots[-1].state, adjoint, span, limit
            )
            if int(reached) > first:
                return Derivatives(adjoint.values, int(reached) * inner.steps // strides)
        return Derivatives(_with_start(inner, values, adjoint))


@dataclass(frozen=True)
class Exact:
    """A reverse pass through the training as it was, recomputed between checkpoints.

    Args:
      segment: number of steps between checkpoints; one as long as the training keeps every step.
        Defaults to √steps, which keeps about 2 √steps copies of the weights.

    Raises:
      ValueError: an argument is out of range.
    """

    segment: int | None = None

    name = "exact"

    def __post_init__(self) -> None:
        if self.segment is not None:
            root = "Give None for the square root of the number of steps."
            check_integer("segment", self.segment, 1, hint=root)

    def snapshot_steps(self, steps: int) -> list[int]:
        """Return the steps of the checkpoints.

        Args:
          steps: of the training.
        """
        segment = self.segment or max(1, math.isqrt(steps))
        return [*range(segment, steps, segment), steps]

    def differentiate(
        self, inner: InnerLoop, values: Tensors, snapshots: Sequence[InnerState]
    ) -> Derivatives:
        """Train each segment again and walk it backward, the last first.

        Args:
          inner: the trainings.
          values: of the hyperparameters.
          snapshots: states of the training at `snapshot_steps`, the start first.

        Returns:
          Derivatives of the validation loss.
        """
        snapshots = list(snapshots)
        adjoint = _adjoint_at(inner, values, snapshots[-1])
        while len(snapshots) > 1:
            # Popped, so that a segment that is done frees its weights.
            last = snapshots.pop().step
            adjoint = inner.loops.reverse_exact(
                values, snapshots[-1], adjoint, last, tf.constant(inner.steps)
            )
        return Derivatives(_with_start(inner, values, adjoint))


@dataclass(frozen=True)
class Implicit:
    """The implicit function theorem at the last weights, H⁻¹ by a Neumann series.

    dL/dλ = −(∂g/∂λ)ᵀ H⁻¹ ∇L with H⁻¹ ∇L ≈ η Σ_j (I − η H)^j ∇L (Lorraine, Vicol & Duvenaud
    2020). It assumes that the training has converged, and knows of hyperparameters of the training
    loss alone: rates, momenta and initial scales move no minimum.

    Args:
      terms: number of terms of the series. Defaults to 20.
      batches: number of training batches, the first ones, that g and H are means over. Defaults
        to 8.
      step_size: η. Defaults to 1 / the largest curvature found by power iteration.

    Raises:
      ValueError: an argument is out of range.
    """

    terms: int = 20
    batches: int = 8
    step_size: float | None = None

    name = "implicit"

    def __post_init__(self) -> None:
        check_integer("terms", self.terms, 1)
        check_integer("batches", self.batches, 1)
        if self.step_size is not None:
            check_number("step_size", self.step_size, above=0)

    def snapshot_steps(self, steps: int) -> list[int]:
        """Return the end alone.

        Args:
          steps: of the training.
        """
        return [steps]

    def differentiate(
        self, inner: InnerLoop, values: Tensors, snapshots: Sequence[InnerState]
    ) -> Derivatives:
        """Sum the series.

        Args:
          inner: the trainings.
          values: of the hyperparameters.
          snapshots: states of the training at `snapshot_steps`, the start first.

        Returns:
          Derivatives of the validation loss.

        Raises:
          ValueError: a hyperparameter is not in the training loss.
        """
        outside = [h.name for h in inner.model.hyperparameters if not h.in_loss]
        if outside:
            raise ValueError(
                f"method='implicit' was given with {', '.join(outside)}; expected hyperparameters "
                "of the training loss alone, as a minimum does not depend on how it is reached. "
                "Leave them out, or use method='drmad'."
            )
        end = snapshots[-1]
        by_value = inner.loops.neumann(
            values,
            end.weights,
            end.state,
            inner.loops.validation_gradient(end.weights, end.state),
            terms=tf.constant(self.terms),
            batches=tf.constant(min(self.batches, inner.steps)),
            step_size=tf.constant(self.step_size or 0.0, inner.model.info.dtype),
        )
        return Derivatives(by_value)


def _adjoint_at(inner: InnerLoop, values: Tensors, end: InnerState) -> Adjoint:
    """Derivatives at the end of the training, where the reverse pass begins."""
    d_weights = inner.loops.validation_gradient(end.weights, end.state)
    zeros = ([tf.zeros_like(t) for t in tensors] for tensors in (d_weights, end.square, values))
    return Adjoint(d_weights, *zeros)


def _with_start(inner: InnerLoop, values: Tensors, adjoint: Adjoint) -> Tensors:
    """Derivatives by the values, with what the initial weights contribute."""
    if not inner.model.tunes_start:
        return adjoint.values
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        start = inner.start(values).weights
    by_start = tape.gradient(
        start, values, output_gradients=adjoint.weights, unconnected_gradients="zero"
    )
    return [a + b for a, b in zip(adjoint.values, by_start, strict=True)]


_NAMED: dict[str, Method] = {
    "drmad": Drmad(),
    "drmad_piecewise": Drmad(legs=16),
    "exact": Exact(),
    "implicit": Implicit(),
}


def method_from_name(method: str | Method) -> Method:
    """Return the method of a name, or the method itself.

    Raises:
      ValueError: there is no such method.
    """
    if isinstance(method, Drmad | Exact | Implicit):
        return method
    check(
        method in _NAMED,
        "method",
        method,
        f"one of {', '.join(map(repr, _NAMED))}, or Drmad(...), Exact(...) or Implicit(...)",
    )
    return _NAMED[str(method)]


def require_line(method: Method, is_adam: bool) -> None:
    """Check that a method that walks along lines is not given Adam.

    Raises:
      ValueError: it is.
    """
    if is_adam and isinstance(method, Drmad):
        raise ValueError(
            f"method is {method.name!r} with Training(optimizer='adam'); expected 'exact' or "
            "'implicit', as Adam's mean squares cannot be told from a line between weights. Give "
            "method='exact', or leave the optimizer at 'sgd'."
        )


def config(method: Method) -> dict[str, Any]:
    """Return a method's settings as plain data."""
    settings: dict[str, Any] = asdict(method)  # type: ignore[call-overload]
    return {"class": type(method).__name__} | settings


@dataclass(frozen=True, eq=False)
class Hypergradient:
    """A training and the derivatives of its validation loss.

    Args:
      gradients: by the unconstrained numbers, a float64 array for each hyperparameter.
      val_loss: after the training.
      start: the training before its first step.
      end: the training after its last.
      reached: the step that the reverse pass came back to; above 0 where it was ended early.
    """

    gradients: list[np.ndarray]
    val_loss: float
    start: InnerState
    end: InnerState
    reached: int


def hypergradient(
    inner: InnerLoop, unconstrained: list[np.ndarray], method: Method
) -> Hypergradient:
    """Train with these unconstrained numbers and walk the training backward.

    Raises:
      DivergedError: the training or the walk ended in non-finite numbers.
      ValueError: the method does not know the inner optimizer.
    """
    require_line(method, inner.loops.adam is not None)
    values = inner.values(unconstrained)
    snapshots = inner.snapshots(values, method.snapshot_steps(inner.steps))
    val_loss = inner.validation_loss(snapshots[-1])
    by_value, reached = method.differentiate(inner, values, snapshots)
    found = inner.unconstrained_gradient(unconstrained, by_value)
    if not all(np.isfinite(gradient).all() for gradient in found):
        raise DivergedError(
            f"The hypergradient by {method.name} is not finite: the reverse pass diverged."
        )
    return Hypergradient(found, val_loss, snapshots[0], snapshots[-1], reached)


@dataclass(frozen=True)
class Check:
    """A method's hypergradient beside the exact one.

    Args:
      method: name of the method.
      steps: length of the training that both are of.
      cosine: of the angle between them, over all hyperparameters on their unconstrained scales.
      sign_agreement: share of the numbers, non-zero in the exact one, whose signs agree; by chance
        it is a half where signs are balanced.
      ratio: norm of the method's hypergradient over that of the exact one.
      by_hyperparameter: cosine and sign agreement of each.
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
    """Compare two hypergradients, each a list of arrays, one for each name."""
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
    """⟨left, right⟩ / (|left| |right|); NaN where one of them is zero."""
    sizes = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    return float(np.dot(left, right)) / sizes if sizes else float("nan")


def sign_agreement(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of equal signs among the numbers that are not zero in the exact one."""
    counted = exact != 0.0
    if not counted.any():
        return float("nan")
    return float(np.mean(np.sign(found[counted]) == np.sign(exact[counted])))
