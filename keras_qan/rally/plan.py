"""The plan of a rally: all growths tried out on untrained networks before any training."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras

import net2net
from keras_qan.qan.variables import rate_variables
from keras_qan.rally.flops import Cost, multiply_adds
from keras_qan.rally.stage import Stage
from keras_qan.rally.subsets import Subsets
from keras_qan.utils.seeds import takes_seed
from net2net.weights import NewUnits


@dataclass(frozen=True)
class PlannedStage:
    """A stage as it will be trained.

    Args:
      number: from 1.
      examples: number of examples in its subset.
      widths: new widths of the layers that grow when it begins.
      deepen: layers that are followed by a new one when it begins.
      noise: on the outgoing weights of copies, in units of the weights' own.
      steps_per_look: number of optimizer steps between evaluations.
      looks: number of evaluations; with a rule, at most so many.
      parameters: number of parameters of the network.
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
        """Number of optimizer steps in all."""
        return self.steps_per_look * self.looks

    @property
    def grows(self) -> bool:
        """True if the network grows when the stage begins."""
        return bool(self.widths or self.deepen)


@dataclass(frozen=True)
class NetworkGrower:
    """Growth of networks from stage to stage.

    Args:
      seed: of the choice of units to copy.
      new: kind of new units; see `net2net.widen`. Defaults to "net2net".
    """

    seed: int
    new: NewUnits = "net2net"

    def grow(
        self,
        model: keras.Model,
        number: int,
        widths: dict[str, int],
        deepen: Sequence[str],
        noise: float,
    ) -> keras.Model:
        """Return the network of the stage with that number."""
        if not widths and not deepen:
            return model
        seed = 1_000 * self.seed + number
        return net2net.grow(model, widths, deepen, new=self.new, noise=noise, seed=seed)


def require_number_as_rate(model: keras.Model, asked: str) -> None:
    """Raise ValueError for a model with a schedule of its own, where a rally sets the rate.

    Args:
      model: the compiled model.
      asked: what the rally was given.
    """
    try:
        rate_variables(model)
    except ValueError as error:
        raise ValueError(
            f"Rally got {asked}, and build_model compiles with a learning rate that is no number "
            "but a schedule of its own; expected one of both. Compile with a number, for example "
            f"{type(model.optimizer).__name__}(learning_rate=0.01), or leave the rally's rate out."
        ) from error


def plan_stages(
    stages: Sequence[Stage],
    build_model: Callable[[int], keras.Model],
    subsets: Subsets,
    grower: NetworkGrower,
    batch_size: int,
    look_every: int | None,
) -> list[PlannedStage]:
    """Try all growths on a fresh network, and count the cost of each stage.

    Args:
      stages: the stages that the user asks for.
      build_model: seed → the compiled network of the first stage.
      subsets: the training examples.
      grower: grows the network.
      batch_size: number of examples in a batch.
      look_every: number of steps between evaluations; None for about a pass.

    Returns:
      The stages as they will be trained.

    Raises:
      ValueError: a stage shrinks, its subset cannot be trained on, or net2net refuses a growth.
      TypeError: `build_model` did not return a compiled Keras model.
    """
    model = call_build_model(build_model, grower.seed)
    found: list[PlannedStage] = []
    for number, stage in enumerate(stages, start=1):
        size = stage.size(len(subsets))
        if found and size < found[-1].examples:
            raise ValueError(
                f"Stage {number} has {size} examples and the one before it {found[-1].examples}; "
                "expected stages that grow. Put them in ascending order."
            )
        subsets.require_trainable(size, batch_size, number)
        widths = _new_widths(model, stage, number)
        try:
            model = grower.grow(model, number, widths, stage.deepen, stage.noise)
        except ValueError as error:
            raise ValueError(
                f"The growth of stage {number} is refused before anything is trained: {error}"
            ) from error
        if stage.learning_rate is not None or stage.final_learning_rate is not None:
            require_number_as_rate(model, f"a learning rate of its own in stage {number}")
        steps_per_look, looks = _evaluations(size // batch_size, stage.epochs, look_every)
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
    """Build a first network.

    Raises:
      TypeError: it is no function of a seed, or returns no compiled Keras model.
    """
    if not callable(build_model) or not takes_seed(build_model):
        raise TypeError(
            f"Rally got build_model={build_model!r}, which takes no seed; expected a function from "
            "a seed to a compiled keras.Model, so that a rally that resumes begins with the same "
            "weights. Write def build_model(seed): ..., with the seed in the initializers."
        )
    model = build_model(seed)
    if not isinstance(model, keras.Model) or getattr(model, "optimizer", None) is None:
        raise TypeError(
            f"build_model({seed}) returned {model!r}; expected a compiled keras.Model, the network "
            "of the first stage: call model.compile(...) before returning it."
        )
    return model


def grow_through(
    model: keras.Model, plan: Sequence[PlannedStage], grower: NetworkGrower
) -> keras.Model:
    """Grow a network through all these stages, without training it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for stage in plan:
            model = grower.grow(model, stage.number, stage.widths, stage.deepen, stage.noise)
    return model


def spend_savings(plan: Sequence[PlannedStage], done: Sequence[int]) -> list[PlannedStage]:
    """Return the stages that are left, the first of them longer by what those before it saved.

    Args:
      plan: all stages as they were planned.
      done: number of steps that each of those before it took.
    """
    first, *later = plan[len(done) :]
    saved = sum(
        (stage.steps - steps) * stage.cost.training
        for stage, steps in zip(plan, done, strict=False)
    )
    more = saved // (first.steps_per_look * first.cost.training)
    return [dataclasses.replace(first, looks=first.looks + more), *later]


def _new_widths(model: keras.Model, stage: Stage, number: int) -> dict[str, int]:
    """Widths of a stage that the network does not have yet."""
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


def _evaluations(pass_steps: int, epochs: float, look_every: int | None) -> tuple[int, int]:
    """Number of steps between evaluations, and number of evaluations, of so many passes."""
    steps = max(1, round(pass_steps * epochs))
    if look_every is None:
        looks = math.ceil(epochs)
        return max(1, round(steps / looks)), looks
    steps_per_look = min(look_every, steps)
    return steps_per_look, max(1, round(steps / steps_per_look))
