"""Callbacks that an agent other than the policy's steers."""

from __future__ import annotations

import dataclasses

from keras_qan import QANCallback
from keras_qan.agents import Agent
from keras_qan.qan.config import CallbackConfig
from keras_qan.qan.policy import Policy


def frozen(settings: CallbackConfig, agent: Agent) -> QANCallback:
    """A callback with a policy's settings, which an agent steers without learning."""
    return QANCallback(policy=Policy(dataclasses.replace(settings, agent=agent), {}, {}))
