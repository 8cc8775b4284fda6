"""state → action: the agents. Importing them does not load TF-Agents; a DQN that learns does."""

from typing import TYPE_CHECKING

from keras_qan.agents.base import ActionChoice, Agent
from keras_qan.agents.dqn import DQN, Exploration, Learning
from keras_qan.agents.scripted import ConstantAgent, RandomAgent
from keras_qan.agents.slope_rule import SlopeRule
from keras_qan.agents.thompson import BIASES, ThompsonDQN
from keras_qan.utils.deprecation import moved_names

__all__ = [
    "BIASES",
    "DQN",
    "ActionChoice",
    "Agent",
    "ConstantAgent",
    "Exploration",
    "Learning",
    "RandomAgent",
    "SlopeRule",
    "ThompsonDQN",
]

if not TYPE_CHECKING:
    __getattr__ = moved_names(
        __name__, {"Always": "ConstantAgent", "Leaning": "ThompsonDQN", "Random": "RandomAgent"}
    )
