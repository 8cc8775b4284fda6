"""Keras's hooks → Controller."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_qan.qan import messages
from keras_qan.qan.agent_state import AgentState
from keras_qan.qan.best_weights import BestWeights
from keras_qan.qan.conflicts import (
    ConflictDetector,
    callbacks_of_same_fit,
    move_reporters_behind,
    surround_savers,
)
from keras_qan.qan.controller import Controller
from keras_qan.qan.convergence import return_trend
from keras_qan.qan.decision_schedule import DecisionSchedule
from keras_qan.qan.fit_state import FitState
from keras_qan.qan.horizon import EarlyEnd, Overfitting, Stopper, patience_of, stoppers_of
from keras_qan.qan.model_access import (
    ModelAccess,
    has_own_train_step,
    has_trained_weights,
    require_trainable,
)
from keras_qan.qan.raise_gate import FEWEST_TO_MEASURE
from keras_qan.qan.rule import Decision
from keras_qan.qan.slope_ratio import FEWEST_STEPS
from keras_qan.qan.training_memory import (
    LEFT_ALONE,
    note_rates,
    rates_to_begin_with,
    rates_to_go_on_with,
    remember_fit,
)
from keras_qan.qan.variables import are_same_rates, workers_of
from keras_qan.utils.backend import Keras3Callback

#: Calls of Keras's hook without a loss after which the rate of a training is left as it is.
PATIENCE = 10

#: Batches for each step of the optimizer, at most: beyond, too few steps are measured.
MOST_BATCHES_A_STEP = 2

#: Steps of an epoch up to which its examples are few, and passes from which on they come often.
FEW_BATCHES, FEWEST_PASSES = 24, 5

#: Steps of a training below which the rate does not fall along the schedule: the loss still falls
#: so fast that smaller steps are only slower.
FEWEST_TO_ANNEAL = 100

#: The patience of EarlyStopping below which the rate is not raised: at a higher one the validation
#: loss is noisier, and a single epoch that is no better ends the training.
FEWEST_PATIENCE = 2

#: Maximum roll-backs after a non-finite loss before a training is given up.
MAX_ROLLBACKS = 20


class FitHooks(Keras3Callback, keras.callbacks.Callback):
    """The hooks of a `QANCallback`, which Keras calls in a `fit`."""

    params: Any
    _restores_best: bool
    _total_steps: int | None

    def _adopt(self, state: AgentState, explore: bool) -> None:
        """Set every attribute; copies share the state and nothing else."""
        self._state = state
        self.explore = explore
        self.context: dict[str, Any] = {}
        self._defers_writing = False
        self._conflicts = ConflictDetector(self)
        self._patience: int | None = None
        self._stoppers: list[Stopper] = []
        self._rates_found = np.zeros(0)
        self._is_saved = False
        self._fit: FitState | None = None
        self._paused: FitState | None = None

    # Keras's hooks.

    def set_model(self, model: keras.Model) -> None:
        """Note model and rate, and warn of callbacks in the same `fit` that set the rate too."""
        super().set_model(model)
        if getattr(model, "optimizer", None) is not None:
            # Before BackupAndRestore brings back that of a broken training.
            self._rates_found = rates_to_begin_with(model)
        self._conflicts.check_neighbours()
        self._stoppers = stoppers_of(callbacks_of_same_fit())

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Start the state of this `fit`; find kernels and rates if the model is built."""
        self._fit = None
        self._is_saved = surround_savers(self, self._resume_after_saving)
        move_reporters_behind(self)
        require_trainable(self.model)
        self.params = self.params or {}  # Keras's own is None in a loop that sets none
        self._state.join(workers_of(self.model))
        self._state.check_selector()
        self._fit = self._go_on_with_paused()
        if self._fit is not None:
            return
        schedule = self._decision_schedule()
        self._fit = FitState(schedule, self._companion())
        self._fit.best = BestWeights(self.model) if self._restores_best else None
        if self.model.built and not has_own_train_step(self.model):
            self._access(self._fit)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Take the first decision of the training."""
        fit = self._running
        fit.companion.on_epoch_begin(epoch, logs)
        if fit.num_epochs is None and self._state.selector is not None:
            # The selector's staleness is known once it has begun.
            fit.schedule.note_staleness(
                self._state.selector.staleness, int(self.model.steps_per_execution)
            )
        if 0 < fit.schedule.step == fit.schedule.steps_in_epoch and not self._knows_length:
            messages.warn_of_unknown_epochs()
        fit.schedule.begin_epoch()
        fit.begin_epoch()
        self._go_back_to_best(fit)
        self.model.stop_evaluating = True  # see _notice_evaluation
        steps = self.params.get("steps")
        # In a loop of one's own that does not say how many there are, any may be the last.
        epochs = self._num_epochs or epoch + 1
        fit.is_last_epoch = self._knows_length and epoch + 1 >= epochs
        if self._total_steps is not None:
            fit.is_last_epoch &= fit.schedule.step + (steps or 0) >= self._total_steps
        if fit.has_begun:
            self._controller.begin_epoch(fit.model)
        if fit.num_epochs is None:
            fit.num_epochs = epochs - epoch
            last = self._num_epochs or math.inf
            self._patience = patience_of(self._stoppers, epoch, last)
            # By now BackupAndRestore has brought a broken training back, and no step was taken. An
            # agent that learns is not limited: it has to see the outcome of all its actions.
            fit.was_trained = (
                not self.explore
                and self.model.built
                and (epoch > 0 or has_trained_weights(self.model))
            )
            if self._total_steps is not None:
                fit.schedule.set_length(self._total_steps, 1, (steps or 0) * epoch)
            elif steps is not None and self._knows_length:
                fit.schedule.set_length(steps, fit.num_epochs + epoch, steps * epoch)
                if self._state.settings.decide_every and not self._state.settings.dense_start:
                    messages.warn_of_interval(
                        self._state.settings.decide_every, steps * fit.num_epochs
                    )
            if fit.has_model and fit.is_steering:
                self._begin(fit)
        if self._total_steps is not None and steps is not None:
            self._note_longer_training(fit.schedule.step + steps * (epochs - epoch))

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Take a decision when one is due."""
        fit = self._running
        fit.is_validated = False
        # The batches that were trained on are counted before the next ones are chosen.
        fit.companion.on_train_batch_end(batch, logs)
        # With several steps in a call, the last call of an epoch counts beyond its end.
        steps = self.params.get("steps")
        is_due = fit.schedule.advance(batch if steps is None else min(batch, steps - 1))
        if not fit.has_model:
            fit.model = self._access(fit)
            fit.model.synchronize()
        if not fit.is_steering:
            return
        loss = number_in(logs, "loss")
        if fit.first_loss is None and not self._finds_loss(fit, loss):
            return
        self._notice_evaluation(fit)
        if fit.first_loss is not None and not fit.source_is_confirmed:
            fit.model.synchronize()
            fit.model.losses.confirm()
            fit.source_is_confirmed = True
        loss = 0.0 if loss is None else loss
        fit.model.losses.add(loss)
        self._controller.observe_step(fit.step_loss(loss, batch))
        fit.model.measure_step()
        is_finite = math.isfinite(loss)
        if not is_due and is_finite and fit.first_loss is not None:
            return
        fit.model.synchronize()
        if fit.first_loss is None and not self._takes_first_loss(fit):
            return
        if not is_due and is_finite:
            return
        if not is_finite and not self._can_roll_back(fit):
            self._stop_diverged(fit)
        elif not is_finite or fit.schedule.wants_decision():
            self._decide(fit)
        elif fit.schedule.starts_counting():
            self._controller.start_counting(fit.model)
            fit.schedule.counting_started()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Keep the epoch's last losses before validation begins its own sums.

        Before the last validation the weights become those that the training ends with, so that
        its losses are theirs.
        """
        self._keep_loss()
        fit = self._fit
        if fit is None:
            return
        if fit.first_loss is not None and (fit.is_last_epoch or self.model.stop_training):
            self._settle_weights(fit)
        fit.is_validated = True
        fit.companion.on_test_begin(logs)

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Tell a selector that the validation is over."""
        if self._fit is not None:
            self._fit.companion.on_test_end(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keep the epoch's last losses, note its length, and report the rate as Keras does."""
        fit = self._running
        if fit.first_loss is not None and not fit.loss_is_kept:
            self._notice_evaluation(fit)
        self._keep_loss()
        logs = {} if logs is None else logs
        if fit.has_model:
            logs["learning_rate"] = float(fit.model.read_rates()[0])
            if fit.model.snapshot is not None:
                logs["step_backs"] = fit.num_step_backs
        validation_loss = number_in(logs, "val_loss")
        if fit.best is not None and validation_loss is not None:
            fit.best.note(validation_loss)
        if validation_loss is not None and fit.is_steering:
            fit.validation_loss = validation_loss
            self._controller.observe_validation(validation_loss)
        if not fit.schedule.knows_length and self._knows_length:
            fit.schedule.set_length(fit.schedule.steps_in_epoch, fit.num_epochs or 1)
        if fit.early_end is not None and fit.has_begun and fit.is_steering:
            self._end_epoch_early(fit, number_in(logs, "loss"), validation_loss)
        step = fit.schedule.step
        numbers = {name: number_in(logs, name) for name in logs}
        values = {name: value for name, value in numbers.items() if value is not None}
        self._state.record("epochs", epoch=epoch, step=step, **values)
        if self._is_saved and fit.has_begun:  # a file is to hold the rate that the user compiled
            fit.rates_to_resume = fit.model.read_rates()
            fit.put_rate_back()

    def _resume_after_saving(self) -> None:
        fit = self._running
        if fit.rates_to_resume is not None:
            note_rates(self.model, fit.rates_to_resume, fit.initial_rates)
            fit.model.assign_rates(fit.rates_to_resume)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close the episode, and write records and checkpoint."""
        fit = self._running
        self._fit = None
        self.model.stop_evaluating = False
        fit.companion.on_train_end(logs)
        if fit.first_loss is None:  # no step was taken, or no loss was found
            self._put_back(fit)
            self._controller.abandon()
            return
        self._go_back_to_best(fit)
        if self._pauses(fit):
            return
        self._settle_weights(fit)
        fit.model.synchronize()
        final_loss = fit.validation_loss if self._controller.reward.uses_validation else None
        if final_loss is not None and not math.isfinite(final_loss):
            final_loss = None  # a failed validation is no measure of the weights
        last = self._controller.end(
            fit.model,
            fit.schedule.context(),
            self.explore,
            math.nan if fit.has_diverged else final_loss,
        )
        rates_to_hold = self._controller.rates_to_hold(fit.model)
        self._put_back(fit)
        if not self.explore:
            remember_fit(self.model, fit.model.read_rates(), rates_to_hold)
        fit.add_decision(last)
        self._state.end_episode(
            self.explore,
            steps=fit.schedule.step - fit.schedule.start,
            decisions=fit.num_decisions,
            initial_learning_rate=fit.initial_rate,
            final_loss=last.loss,
            val_loss=fit.validation_loss,
            last_reward=last.reward,
            td_loss=last.td_loss,
            diverged=fit.has_diverged,
            step_backs=fit.num_step_backs,
            seconds=time.perf_counter() - fit.started,
            **{"return": fit.total_reward},
        )
        if not self._defers_writing:
            self._state.write_episode(self.explore)
        if self.params.get("verbose"):
            print(fit.summary())
            if self.explore:
                print(f"QAN, training {self._state.episodes}: {return_trend(self._state.returns)}")

    # Parts of the hooks.

    @property
    def _controller(self) -> Controller:
        return self._state.controller

    @property
    def _knows_length(self) -> bool:
        """True where it was told how long the training is, as `fit` does."""
        return self._num_epochs is not None or self._total_steps is not None

    @property
    def _num_epochs(self) -> int | None:
        """The number of epochs; None in a loop of one's own that does not say."""
        return self.params.get("epochs") or None

    @property
    def _running(self) -> FitState:
        if self._fit is None:
            raise RuntimeError(
                "QANCallback got a hook of Keras outside of fit. In a training loop of your own, "
                "call on_train_begin() first."
            )
        return self._fit

    def pause(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state of the running `fit` at an epoch's end, without model and agent.

        Returns:
          Arrays by name, and plain data.
        """
        fit = self._running
        notes = {f"controller/{n}": value for n, value in self._controller.arrays().items()}
        gate = fit.model.gate
        return fit.arrays() | notes | ({} if gate is None else gate.arrays()), fit.as_data()

    def go_on(self, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
        """Go on, in a `fit` that has just begun, from where `pause` was called.

        Args:
          arrays: by name, as `pause` gave them.
          data: plain data, as `pause` gave it.

        Raises:
          KeyError: something is missing.
        """
        prefix = "controller/"
        notes = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        self._controller.restore(notes)
        self._running.restore(arrays, data)
        if self._running.model.slope is not None:
            self._running.model.slope.open()  # what was measured since is not of these weights
        if self._running.model.window is not None:
            self._running.model.window.meter.open()
        if self._running.model.gate is not None:
            self._running.model.gate.restore(arrays)

    def _pauses(self, fit: FitState) -> bool:
        """Keep a training that goes on in the next `fit`; return whether it does."""
        if self._total_steps is None or self.model.stop_training:
            return False
        if fit.schedule.step >= self._total_steps:
            return False
        fit.model.synchronize()
        rates = fit.model.read_rates()
        fit.put_rate_back()
        remember_fit(self.model, fit.model.read_rates(), rates)
        self._paused, fit.episode = fit, self._controller.num_begun
        return True

    def _go_on_with_paused(self) -> FitState | None:
        """Return the state of the last `fit` where this one goes on with its training."""
        fit, self._paused = self._paused, None
        if fit is None or fit.episode != self._controller.num_begun:
            return None
        if not fit.model.is_of(self.model):
            return None
        rates = rates_to_go_on_with(self.model, fit.model.read_rates())
        if rates is None:
            return None
        note_rates(self.model, rates, fit.initial_rates)
        fit.model.assign_rates(rates)
        fit.companion = self._companion()
        return fit

    def _note_longer_training(self, num_steps: int) -> None:
        """Take a training for longer where this `fit` goes beyond `total_steps`."""
        fit, total = self._running, self._total_steps
        if total is None or num_steps <= fit.schedule.length:
            return
        messages.warn_of_total_steps(total, num_steps)
        fit.schedule.extend(num_steps)

    def _put_back(self, fit: FitState) -> None:
        """Put the rate back that the `fit` began with, and the best weights where asked for."""
        fit.put_rate_back()
        if fit.best is None:
            return
        if math.isinf(fit.best.loss):
            messages.warn_of_no_validation()
        fit.best.restore()

    def _decision_schedule(self) -> DecisionSchedule:
        settings = self._state.settings
        parts = settings.observations or ()
        measures = any(part.needs_slope or part.needs_slope_window for part in parts)
        measures |= self._limits_raises and settings.decide_every is None
        return DecisionSchedule(
            settings.decide_every,
            bool(settings.dense_start),
            FEWEST_STEPS if measures else 1,
        )

    def _companion(self) -> keras.callbacks.Callback:
        """Return the selector's callback for this fit; one that does nothing without a selector."""
        selector = self._state.selector
        companion = keras.callbacks.Callback() if selector is None else selector.callback()
        companion.set_params(self.params)
        companion.set_model(self.model)
        companion.on_train_begin()
        return companion

    def _estimated_loss(self) -> tuple[Any, Any] | None:
        """Sums of the loss over all data, where batches are chosen and the reward asks for them."""
        if self._state.selector is None or not self._controller.reward.over_all_data:
            return None
        sums: tuple[Any, Any] = self._state.selector.loss_sums()
        return sums

    def _access(self, fit: FitState) -> ModelAccess:
        """Find the kernels to watch and the rates to assign, once the model is built."""
        controller = self._controller
        fit.model = ModelAccess(
            self.model,
            controller.observations,
            can_step_back=controller.can_step_back,
            estimated_losses=self._estimated_loss(),
            limits_raises=self._limits_raises,
            judges_first_steps=self._follows_slope,
        )
        fit.is_steering = fit.model.slope is not None or self.model.optimizer not in LEFT_ALONE
        self._state.begin_episode(fit.model.num_kernels, self.explore, self.context)
        return fit.model

    @property
    def _limits_raises(self) -> bool:
        """True where raises above the compiled rate wait for the slope ratio."""
        return bool(self._state.settings.raises_by_slope) and not self.explore

    @property
    def _follows_slope(self) -> bool:
        """True where a frozen policy, or the limit of its raises, sees the slope ratio."""
        parts = self._state.settings.observations or ()
        sees = any(part.needs_slope_window for part in parts)
        return self._limits_raises or (sees and not self.explore)

    def _begin(self, fit: FitState) -> None:
        """Take the first decision."""
        rates = fit.model.read_rates()
        if not np.all(rates > 0.0):
            raise ValueError(
                f"The optimizer's learning rate is {float(np.min(rates)):g}; expected "
                "one above 0, since QAN multiplies it. Compile with, for example, "
                "learning_rate=0.001, or set model.optimizer.learning_rate."
            )
        fit.initial_rates = self._rates_found
        note_rates(self.model, rates, fit.initial_rates)
        if not self.explore:
            can_restore = self._controller.can_step_back
            if self._patience is not None:
                fit.early_end = EarlyEnd(self._patience)
            elif can_restore:
                fit.early_end = Overfitting()
            fit.early_best = (fit.best or BestWeights(self.model)) if can_restore else None
        held = None if self.explore else rates_to_go_on_with(self.model, rates)
        if held is not None:
            # A further `fit` of the same training, whose end is not known: it holds the rate that
            # was found, and the schedule does not take it to zero in each `fit`.
            fit.model.assign_rates(held)
        context = fit.schedule.context()
        # A network that was trained elsewhere keeps the rate that it was compiled with: nothing is
        # known of how far it has to go. One that is resumed in its middle goes on falling.
        is_held = held is not None or (fit.was_trained and context.progress == 0.0)
        # One that is over before anything is measured keeps it as well.
        is_blind = self._follows_slope and context.num_steps < FEWEST_TO_MEASURE
        is_short = self._follows_slope and context.num_steps < FEWEST_TO_ANNEAL
        is_impatient = self._patience is not None and self._patience < FEWEST_PATIENCE
        decision = self._controller.begin(
            fit.model,
            context,
            self.explore,
            may_raise=not (fit.was_trained or is_held or is_blind or is_impatient),
            may_lower=not is_held or fit.model.slope is not None,
            anneals=not (is_held or is_short),
            has_few_batches=self._has_few_batches(context.num_steps),
        )
        fit.initial_rate = decision.rate_found
        self._record(decision)

    def _has_few_batches(self, num_steps: int) -> bool:
        """Return whether a policy that follows the slope ratio sees few batches again and again."""
        length = self.params.get("steps")
        is_short = bool(length) and length <= FEW_BATCHES
        return self._follows_slope and is_short and num_steps >= FEWEST_PASSES * length

    def _finds_loss(self, fit: FitState, loss: float | None) -> bool:
        """Return whether a loss and an optimizer are found that the training uses.

        Where the model has a train step of its own, or is built by its first step, nothing is
        known before that step: the first decision is taken after it. Where none is found within
        `PATIENCE` calls, nothing is steered.
        """
        fit.num_calls += 1
        fit.model.synchronize()
        has_loss = fit.model.losses.follow(loss)
        has_moved = fit.model.has_moved()
        is_slow = has_moved and fit.num_calls > MOST_BATCHES_A_STEP
        if has_loss and has_moved and not is_slow:
            if not fit.has_begun:
                self._begin(fit)
                fit.schedule.note_decision()
            return True
        if fit.num_calls >= PATIENCE or is_slow:
            fit.is_steering = False
            messages.warn_of_nothing_to_steer(has_loss, fit.num_calls if is_slow else None)
        return False

    def _notice_evaluation(self, fit: FitState) -> None:
        """Count from here where another callback has evaluated the model within the epoch.

        Keras sets its sums back then, and goes on with those of the evaluation.
        """
        if not self.model.stop_evaluating:  # `evaluate` begins by setting it
            fit.model.synchronize()
            self._controller.begin_epoch(fit.model)
            fit.knows_step_losses = False
        self.model.stop_evaluating = True

    def _decide(self, fit: FitState) -> None:
        num_contradictions = self._controller.num_contradictions
        decision = self._controller.decide(
            fit.model,
            fit.schedule.context(),
            self.explore,
            fit.schedule.credit_is_delayed,
        )
        fit.schedule.note_decision()
        self._conflicts.compare(fit.last_rate, decision.rate_found)
        self._record(decision)
        if self._controller.num_contradictions > num_contradictions:
            messages.warn_of_order(fit.schedule.step, decision.rate)
        if decision.loss < 0.0 and fit.model.slope is None and not fit.holds_still:
            fit.holds_still = True
            self._controller.hold_still()
            messages.warn_of_loss(decision.loss, "holds the rate from here on, along its schedule")

    def _can_roll_back(self, fit: FitState) -> bool:
        """Return whether a training whose loss is non-finite can be rolled back and go on."""
        fit.num_rescues += 1
        return self._controller.can_step_back and fit.num_rescues <= MAX_ROLLBACKS

    def _report_step_back(self, fit: FitState, why: str) -> None:
        self._tell(fit, f"the weights of the lowest loss are restored {why}")

    def _tell(self, fit: FitState, what: str) -> None:
        if self.params.get("verbose"):
            print(f"\nQAN, step {fit.schedule.step}: {what}.")

    def _record(self, decision: Decision) -> None:
        fit = self._running
        fit.last_rate = decision.rate
        fit.add_decision(decision)
        change = f"from {decision.rate_found:.3g} to {decision.rate:.3g}"
        falls = f"the learning rate falls {change}"
        if decision.has_begun_again and decision.has_stepped_back:
            self._tell(fit, f"the first steps were far too long. They are taken back, and {falls}")
        elif decision.has_begun_again:
            why = "the first steps were far too short to teach anything"
            self._tell(fit, f"{why}, and the learning rate rises {change}")
        elif decision.has_stepped_back:
            self._report_step_back(fit, f"after a loss of {decision.loss:.4g}, and {falls}")
        self._state.record_decision(
            decision,
            number=fit.num_decisions,
            step=fit.schedule.step,
            greedy=not (self.explore and decision.epsilon > 0.0),
        )
        fit.num_decisions += 1

    def _takes_first_loss(self, fit: FitState) -> bool:
        """Take the loss that all later ones are compared with; return whether it is a measure."""
        loss = self._controller.mean_loss(fit.model)
        if loss <= 0.0 and fit.model.slope is None:
            fit.is_steering = False
            LEFT_ALONE.add(self.model.optimizer)
            rates = fit.model.read_rates()
            fit.put_rate_back()
            was_other = not are_same_rates(rates, fit.model.read_rates())
            if fit.model.snapshot is not None and was_other:
                fit.model.snapshot.restore()  # the first step was taken at another rate
            messages.warn_of_loss(loss, "steers nothing in this fit")
            return False
        fit.first_loss = loss
        self._controller.start_from(loss)
        return True

    def _stop_diverged(self, fit: FitState) -> None:
        if fit.has_diverged:
            return
        fit.has_diverged = True
        self.model.stop_training = True
        messages.warn_of_divergence(fit.schedule.step, fit.last_rate)

    def _end_epoch_early(
        self, fit: FitState, training_loss: float | None, validation_loss: float | None
    ) -> None:
        """Let the rate fall where `EarlyStopping` is near, or what is learned is overfitted."""
        assert fit.early_end is not None
        share = fit.early_end.end_epoch(training_loss, validation_loss)
        fit.last_rate = self._controller.set_early_share(fit.model, share)
        if fit.early_best is None:
            return
        if validation_loss is not None:
            fit.early_best.note(validation_loss)
        fit.goes_back = fit.early_end.falls_from_here

    def _go_back_to_best(self, fit: FitState) -> None:
        """Take the weights that an early fall begins from, once others have seen the epoch's end.

        What they save or keep is then what the epoch's logs were measured with.
        """
        if not fit.goes_back or fit.early_end is None or fit.early_best is None:
            return
        fit.goes_back = False
        if fit.early_best.restore():
            self._controller.start_from_weights(fit.model)
            fit.num_step_backs += 1
            self._report_step_back(fit, fit.early_end.reason)

    def _settle_weights(self, fit: FitState) -> None:
        if fit.is_steering and not fit.is_validated:
            fit.model.synchronize()
            if self._controller.settle_weights(fit.model, fit.schedule.context()):
                fit.num_step_backs += 1
                self._report_step_back(fit, "for the end")

    def _keep_loss(self) -> None:
        fit = self._fit
        if fit is not None and fit.has_model and not fit.loss_is_kept:
            self._controller.keep_loss(fit.model)
            fit.model.losses.end_epoch()
            fit.loss_is_kept = True


def number_in(logs: Mapping[str, Any] | None, name: str) -> float | None:
    """Return a scalar of Keras's logs as a float; None where there is no such number."""
    value = (logs or {}).get(name)
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return float(found) if found.ndim == 0 else None
