"""state → action: what decides. Importing this does not load TF-Agents; building a DQN does."""

from keras_qan.agents.dqn import DQN, Exploration, Learning
from keras_qan.agents.leaning import LEANS, Leaning
from keras_qan.agents.protocol import Agent, Choice
from keras_qan.agents.scripted import Always, Random

__all__ = [
    "DQN",
    "LEANS",
    "Agent",
    "Always",
    "Choice",
    "Exploration",
    "Leaning",
    "Learning",
    "Random",
]
