"""The parts of a callback: the explicit ones over their defaults, and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from keras_qan.actions import Action, Schedule
from keras_qan.actions.schedules import check_schedule
from keras_qan.agents import Agent
from keras_qan.observations import Observation
from keras_qan.qan.rewards import Reward
from keras_qan.storage.serialization import from_config, to_config


@dataclass
class CallbackConfig:
    """The parts of a callback; None where an argument was left out."""

    actions: Sequence[Action] | None = None
    observations: Sequence[Observation] | None = None
    reward: Reward | None = None
    agent: Agent | None = None
    decide_every: int | None = None
    rate_bounds: tuple[float, float] | None = None
    dense_start: bool | None = None
    schedule: Schedule | None = None
    raises_by_slope: bool | None = None

    def check(self) -> None:
        """Raise ValueError or TypeError if a setting cannot be used."""
        if self.actions is not None:
            _check_list("actions", self.actions, Action, "[Decay(0.95), Restart()]")
        if self.observations is not None:
            _check_list("observations", self.observations, Observation, "[WeightStatistics()]")
            watching = [part for part in self.observations if part.layers != ()]
            if len(watching) > 1:
                raise ValueError(
                    f"observations holds {len(watching)} parts that watch layers; expected one. "
                    "Name all layers in it: WeightStatistics(['stem', 'head'])."
                )
        every = self.decide_every
        if every is not None and (
            not isinstance(every, Real) or every < 1 or not float(every).is_integer()
        ):
            raise ValueError(
                f"decide_every is {every!r}; expected at least 1 step between decisions, "
                "or None for a twentieth of the training."
            )
        for name, protocol in (("agent", Agent), ("reward", Reward)):
            part = getattr(self, name)
            if part is not None and not isinstance(part, protocol):
                raise TypeError(
                    f"{name} is {part!r}; expected a {protocol.__name__}, an object of a subclass "
                    f"of {protocol.__module__}.{protocol.__name__}."
                )
        if self.schedule is not None:
            check_schedule("schedule", self.schedule)
        if self.raises_by_slope is not None and not isinstance(self.raises_by_slope, bool):
            raise TypeError(
                f"raises_by_slope is {self.raises_by_slope!r}; expected True or False, or None for "
                "what the policy says."
            )
        if self.rate_bounds is not None:
            bounds = np.asarray(self.rate_bounds)
            is_pair = bounds.shape == (2,) and bounds.dtype.kind in "fiu"
            if not (is_pair and 0.0 < bounds[0] < bounds[1] and np.isfinite(bounds[1])):
                raise ValueError(
                    f"rate_bounds is {self.rate_bounds!r}; expected a lowest and a highest "
                    "learning rate, both positive and finite, the lowest first: (1e-5, 0.3)."
                )

    def config(self) -> dict[str, Any]:
        """Return the parts as plain data, for the run directory."""
        return {field.name: to_config(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CallbackConfig:
        """Return the configuration that `config` gave.

        Raises:
          ValueError: the configuration is none of this version's settings.
        """
        try:
            return cls(**{name: from_config(value) for name, value in config.items()})
        except Exception as error:  # any error of a constructor means an unusable configuration
            raise ValueError(f"the settings cannot be read: {error}") from error

    @property
    def explicit(self) -> dict[str, Any]:
        """The arguments that were given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def over(self, defaults: CallbackConfig) -> CallbackConfig:
        """Return these parts, and the defaults where an argument was left out."""
        return replace(defaults, **self.explicit)

    def require_in(self, saved: CallbackConfig, directory: Path | None) -> None:
        """Raise ValueError where an argument differs from that of a directory's run."""
        for name, value in self.explicit.items():
            asked, found = to_config(value), to_config(getattr(saved, name))
            if as_json(asked) != as_json(found):
                raise ValueError(
                    f"The directory {directory} holds a run with {name}={found}, and "
                    f"{name}={asked} is asked for. Leave the argument out to go on with that "
                    "run, or use another directory."
                )

    # The selector that actions and observations act on.

    def bound_to(self, selector: Any) -> CallbackConfig:
        """Return a copy with every action and observation bound to a selector.

        Raises:
          ValueError: one does not fit the selector.
        """

        def bound(parts: Sequence[Any] | None) -> Sequence[Any] | None:
            return parts and tuple(part.bound_to(selector) for part in parts)

        return replace(self, actions=bound(self.actions), observations=bound(self.observations))

    def selector(self, also: Any = None) -> Any:
        """Return the one selector that actions and observations are bound to, or None.

        Args:
          also: a selector that they are to be bound to. Defaults to none.

        Raises:
          ValueError: there are several.
        """
        found = [part.selector for part in self._parts if part.selector is not None]
        found += [] if also is None else [also]
        if any(other is not found[0] for other in found):
            raise ValueError(
                "QANCallback got actions or observations of several selectors; expected those of "
                "one, as a model is trained on one dataset. Use one selector's actions() and "
                "observation()."
            )
        return found[0] if found else None

    def check_bound(self) -> None:
        """Raise ValueError where an action or observation has no selector yet."""
        for part in self._parts:
            if part.needs_selector and part.selector is None:
                raise ValueError(
                    f"{type(part).__name__} has no selector to act on or to observe; expected one "
                    "whose dataset the model is trained on. Use selector.actions() and "
                    "selector.observation(), or QANCallback.load(directory, selector=selector)."
                )

    @property
    def _parts(self) -> list[Any]:
        return [*(self.actions or ()), *(self.observations or ())]


def _check_list(name: str, values: Sequence[Any], protocol: type, example: str) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise ValueError(
            f"{name} is {values!r}; expected a list with at least one entry, for example {example}."
        )
    for value in values:
        if not isinstance(value, protocol):
            raise TypeError(
                f"{name} holds {value!r}; expected objects as in {name}={example}. A class of your "
                f"own is a subclass of {protocol.__module__}.{protocol.__name__}."
            )


def as_json(value: Any) -> Any:
    """Return a value with lists for tuples, as a file has them."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value
