"""state → action: the agents. Importing them does not load TF-Agents; a DQN that learns does."""

from keras_qan.agents.base import ActionChoice, Agent
from keras_qan.agents.dqn import DQN, Exploration, Learning
from keras_qan.agents.scripted import ConstantAgent, RandomAgent
from keras_qan.agents.thompson import BIASES, ThompsonDQN

__all__ = [
    "BIASES",
    "DQN",
    "ActionChoice",
    "Agent",
    "ConstantAgent",
    "Exploration",
    "Learning",
    "RandomAgent",
    "ThompsonDQN",
]
