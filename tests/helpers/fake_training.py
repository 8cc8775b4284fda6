"""Trainings that a test plays by hand, and an agent that writes down what it is told."""

from __future__ import annotations

import numpy as np
from helpers.fake_model import FakeModel

from keras_qan.actions import Decay, Hold, Raise
from keras_qan.agents import ActionChoice, Agent
from keras_qan.observations import CurrentLearningRate
from keras_qan.qan.controller import Controller
from keras_qan.qan.rewards import LogLossDrop
from keras_qan.qan.rule import DecisionContext


class Recorder(Agent):
    """An agent that plays a list of actions and writes down all that it is told."""

    def __init__(self, plays=(0,), epsilon=0.25, gamma=1.0):
        self.plays, self.epsilon, self.gamma = plays, epsilon, gamma
        self.abandoned = []
        self.explored = []
        self.sizes = None
        self._rows = []

    def build(self, num_features, num_actions):
        self.sizes = num_features, num_actions

    def act(self, observation, explore):
        action = self.plays[len(self.explored) % len(self.plays)]
        self.explored.append(explore)
        return ActionChoice(action, np.full(self.sizes[1], 0.5, np.float32), self.epsilon)

    def learn(self, observation, action, reward, discount):
        # Action, reward, discount and the first feature of each transition.
        self._rows.append([action, reward, discount, observation[0]])
        return float(len(self._rows) - 1)

    def abandon(self, num_transitions):
        self.abandoned.append(num_transitions)
        del self._rows[len(self._rows) - num_transitions :]

    def arrays(self):
        return {}

    def restore(self, arrays):
        del arrays

    @property
    def learned(self):
        return np.array(self._rows, float).reshape(-1, 4)


class Training:
    """A model of plain numbers, whose steps have the losses that a test asks for."""

    def __init__(self, agent=None, actions=None, reward=None, bounds=(1e-6, 10.0), rates=(1.0,)):
        self.agent = agent or Recorder()
        self.controller = Controller(
            self.agent,
            actions or [Hold(), Decay(0.5), Raise(2.0)],
            [CurrentLearningRate()],
            reward or LogLossDrop(),
            bounds,
        )
        self.controller.build(0)
        self.model = FakeModel(rates)
        self.num_decisions, self.explore = 4, True

    def begin(self, **other):
        arguments = {"context": self.context(0.0), "explore": self.explore} | other
        return self.controller.begin(self.model, **arguments)

    def context(self, progress):
        return DecisionContext(progress, self.num_decisions, num_steps=40, interval=10, taken=10)

    def step(self, *losses, examples=8):
        for loss in losses:
            self.model.losses.add(loss, examples)

    def first_step(self, loss):
        self.step(loss)
        self.controller.start_from(self.controller.mean_loss(self.model))

    def start_counting(self):
        self.controller.start_counting(self.model)

    def decide(self, delayed=False, progress=0.5):
        return self.controller.decide(self.model, self.context(progress), self.explore, delayed)

    def keep(self):
        """As at the end of an epoch: the loss is kept, and Keras sets its sums back to zero."""
        self.controller.keep_loss(self.model)
        self.model.losses.assign(0.0, 0.0)

    def end(self, final_loss=None):
        self.controller.keep_loss(self.model)
        return self.controller.end(self.model, self.context(1.0), self.explore, final_loss)
