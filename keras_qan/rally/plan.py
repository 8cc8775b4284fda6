"""What a rally will do, tried out on untrained networks before anything is trained."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

import net2net
from keras_qan.qan.model_access import rate_variables
from keras_qan.rally.flops import Cost, multiply_adds
from keras_qan.rally.stage import Stage
from keras_qan.rally.subsets import Subsets


@dataclass(frozen=True)
class PlannedStage:
    """A stage as it will be.

    Args:
      number: from 1.
      examples: in its subset.
      widths: of the layers that grow when it begins.
      deepen: layers that are followed by a new one when it begins.
      noise: on the outgoing weights of copies, in units of the weights' own.
      steps_per_look: optimizer steps between looks at the validation examples.
      looks: how many looks there are, at the most with a rule.
      parameters: of the network.
      cost: multiply-adds for one example.
    """

    number: int
    examples: int
    widths: dict[str, int]
    deepen: tuple[str, ...]
    noise: float
    steps_per_look: int
    looks: int
    parameters: int
    cost: Cost

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.steps_per_look * self.looks

    @property
    def grows(self) -> bool:
        """Whether the network grows when the stage begins."""
        return bool(self.widths or self.deepen)


@dataclass(frozen=True)
class GrowthPlan:
    """How networks grow.

    Args:
      seed: of which units are copied.
      new: what new units are; see `net2net.widen`.
    """

    seed: int
    new: Any = "net2net"

    def grown(
        self,
        model: keras.Model,
        number: int,
        widths: dict[str, int],
        deepen: Sequence[str],
        noise: float,
    ) -> keras.Model:
        """The network of the stage with that number."""
        if not widths and not deepen:
            return model
        seed = 1_000 * self.seed + number
        return net2net.grow(model, widths, deepen, new=self.new, noise=noise, seed=seed)


def plan_stages(
    stages: Sequence[Stage],
    build_model: Callable[[int], keras.Model],
    subsets: Subsets,
    growing: GrowthPlan,
    batch_size: int,
    look_every: int | None,
) -> list[PlannedStage]:
    """Tries all growths on a fresh network, and counts what each stage costs.

    Returns:
      The stages as they will be.

    Raises:
      ValueError: a stage shrinks, its subset cannot be trained on, or net2net refuses a growth.
      TypeError: `build_model` did not return a compiled Keras model.
    """
    model = call_build_model(build_model, growing.seed)
    found: list[PlannedStage] = []
    for number, stage in enumerate(stages, start=1):
        size = stage.size(len(subsets))
        if found and size < found[-1].examples:
            raise ValueError(
                f"Stage {number} has {size} examples and the one before it {found[-1].examples}; "
                "expected stages that grow. Put them in ascending order."
            )
        subsets.check(size, batch_size, number)
        widths = _wider(model, stage, number)
        try:
            model = growing.grown(model, number, widths, stage.deepen, stage.noise)
        except ValueError as error:
            raise ValueError(
                f"The growth of stage {number} is refused before anything is trained: {error}"
            ) from error
        if stage.learning_rate is not None or stage.final_learning_rate is not None:
            rate_variables(model)
        steps_an_epoch = size // batch_size
        steps = max(1, round(steps_an_epoch * stage.epochs))
        if look_every is None:
            looks = math.ceil(stage.epochs)
            steps_per_look = max(1, round(steps / looks))
        else:
            steps_per_look = min(look_every, steps)
            looks = max(1, round(steps / steps_per_look))
        found.append(
            PlannedStage(
                number=number,
                examples=size,
                widths=widths,
                deepen=tuple(stage.deepen),
                noise=stage.noise,
                steps_per_look=steps_per_look,
                looks=looks,
                parameters=model.count_params(),
                cost=multiply_adds(model),
            )
        )
    return found


def call_build_model(build_model: Callable[[int], keras.Model], seed: int) -> keras.Model:
    """A fresh first network.

    Raises:
      TypeError: it is no compiled Keras model.
    """
    model = build_model(seed)
    if not isinstance(model, keras.Model) or getattr(model, "optimizer", None) is None:
        raise TypeError(
            f"build_model({seed}) returned {model!r}; expected a compiled keras.Model, the network "
            "of the first stage: call model.compile(...) before returning it."
        )
    return model


def grown_like(
    model: keras.Model, plan: Sequence[PlannedStage], growing: GrowthPlan
) -> keras.Model:
    """An untrained network that has grown through all these stages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for stage in plan:
            model = growing.grown(model, stage.number, stage.widths, stage.deepen, stage.noise)
    return model


def _wider(model: keras.Model, stage: Stage, number: int) -> dict[str, int]:
    """The widths of a stage that are not there yet."""
    if not stage.widths:
        return {}
    present = net2net.widenable(model)
    wider = {}
    for layer, width in stage.widths.items():
        path = next((p for p in present if p == layer or p.rpartition("/")[2] == layer), None)
        if path is not None and width < present[path].width:
            raise ValueError(
                f"Stage {number} asks for {width} units in layer {layer!r}, which has "
                f"{present[path].width} before it; expected stages that grow. build_model gives "
                "the network of the first stage, the smallest."
            )
        if path is None or width != present[path].width:
            wider[layer] = width
    return wider
