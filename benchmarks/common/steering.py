"""Callbacks that an agent other than the policy's steers."""

from __future__ import annotations

from keras_qan import QANCallback
from keras_qan.agents import Agent
from keras_qan.qan.config import CallbackConfig


def frozen(settings: CallbackConfig, agent: Agent) -> QANCallback:
    """A callback with a policy's settings, which an agent steers without learning."""
    callback = QANCallback(
        actions=settings.actions,
        observations=settings.observations,
        reward=settings.reward,
        agent=agent,
        rate_bounds=settings.rate_bounds,
        dense_start=settings.dense_start,
        schedule=settings.schedule,
        raises_by_slope=settings.raises_by_slope,
    )
    callback.explore = False
    return callback
