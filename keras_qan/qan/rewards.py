"""losses → reward: the reward of a decision, from the losses before and after it."""

from __future__ import annotations

import abc
from typing import NamedTuple

from keras_qan.storage.serialization import configurable


class Reward(abc.ABC):
    """The worth of one decision; subclass it for a reward of your own.

    Attributes:
      uses_validation: whether the last loss of an episode is the validation loss where there is
        one, instead of the last training loss. Defaults to False.
      over_all_data: whether, where the batches are chosen, the losses are the selector's estimate
        over all data, instead of those of the batches. Defaults to False.
    """

    uses_validation: bool = False
    over_all_data: bool = False

    @abc.abstractmethod
    def __call__(
        self, log_loss_before: float, log_loss_after: float, num_decisions: float
    ) -> float:
        """Return the reward.

        Args:
          log_loss_before: log(loss / first loss) in the interval before the decision.
          log_loss_after: the same in the interval that the decision shaped.
          num_decisions: the number of decisions in the episode.
        """


@configurable
class LogLossDrop(Reward):
    """r_t = log L_{t-1} - log L_t, where the episode's last L is the validation loss.

    The undiscounted return telescopes to log L₀ - log L_validation: the fall of the log loss from
    the first step to what counts in the end, so that a policy that is greedy for the next few steps
    does not win (the weakness that Fu et al. 2016 state in their section 6).

    Args:
      over_all_data: whether, where the batches are chosen, L is the selector's estimate of the loss
        over all data. The loss of the chosen batches falls when what is easy is chosen. Defaults
        to True.
    """

    uses_validation = True

    def __init__(self, over_all_data: bool = True) -> None:
        self.over_all_data = bool(over_all_data)

    def __call__(
        self,
        log_loss_before: float,
        log_loss_after: float,
        num_decisions: float,  # noqa: ARG002
    ) -> float:
        """Return the fall of the log loss."""
        return log_loss_before - log_loss_after


@configurable
class Equation9(Reward):
    """The paper's reward taken step by step: r_t = -(log L_t - log L_{t-1}) / (T - 1).

    Fu et al. 2016, equation 9: its sum over t = 2 … T is paid out as it comes about, L is the
    training loss to the end, and T is the number of decisions.
    """

    def __call__(
        self, log_loss_before: float, log_loss_after: float, num_decisions: float
    ) -> float:
        """Return the fall of the log loss, averaged over the episode."""
        return (log_loss_before - log_loss_after) / max(num_decisions - 1.0, 1.0)


class OptionReturn(NamedTuple):
    """The semi-Markov return of an option so far: Σ_{i<k} γⁱ rᵢ over its k decisions.

    Attributes:
      value: the return. Defaults to 0.
      num_rewards: k. Defaults to 0.
    """

    value: float = 0.0
    num_rewards: int = 0

    def plus(self, reward: float, gamma: float) -> OptionReturn:
        """Return it with the reward of one more decision.

        Args:
          reward: r_k.
          gamma: the discount factor γ.
        """
        return OptionReturn(self.value + gamma**self.num_rewards * reward, self.num_rewards + 1)

    def discount(self, gamma: float) -> float:
        """Return γᵏ⁻¹, by which the next value is discounted beyond the γ of a single decision.

        Args:
          gamma: the discount factor γ.
        """
        return gamma ** (self.num_rewards - 1)
