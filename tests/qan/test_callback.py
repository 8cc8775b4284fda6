"""QANCallback in `fit`, as a user of Keras meets it."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import warnings
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.students import data, student

from keras_qan import (
    DQN,
    CheckpointError,
    Decay,
    Equation9,
    Exploration,
    Hold,
    Learning,
    QANCallback,
    Raise,
    Restart,
    TrainingState,
    WeightStatistics,
)
from keras_qan.agents import ConstantAgent, RandomAgent
from keras_qan.qan import variables

SMALL = {"observations": [TrainingState()]}


def quick_agent(seed: int = 0) -> DQN:
    """Learns from the fourth transition on."""
    learning = Learning(batch_size=8, updates=1, n_step=3, warm_up=4)
    return DQN(
        (8,),
        exploration=Exploration(decisions=40),
        learning=learning,
        replay_capacity=200,
        seed=seed,
    )


def fit(callback, model=None, epochs=2, batch_size=8, **arguments):
    """One `fit` on 96 examples: 12 steps an epoch."""
    x, y = data()
    model = model or student()
    history = model.fit(
        x, y, epochs=epochs, batch_size=batch_size, verbose=0, callbacks=[callback], **arguments
    )
    return history.history


def records(directory, file):
    return [json.loads(line) for line in (directory / f"{file}.jsonl").read_text().splitlines()]


# Deciding.


@pytest.mark.slow
def test_bare_callback_works_on_a_compiled_model_and_reports_the_rate_as_keras_does():
    history = fit(QANCallback())
    assert len(history["learning_rate"]) == 2
    assert all(1e-7 <= rate <= 10.0 for rate in history["learning_rate"])  # the policy's bounds


@pytest.mark.slow
def test_model_written_with_tf_keras_works():
    model = tf.keras.Sequential([tf.keras.layers.Input((6, 6, 1)), tf.keras.layers.Flatten()])
    model.add(tf.keras.layers.Dense(2))
    model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert "learning_rate" in fit(QANCallback(agent=quick_agent()), model)


@pytest.mark.slow
def test_scripted_actions_set_exactly_the_rate_they_say():
    callback = QANCallback(actions=[Decay(0.5)], agent=ConstantAgent(0), decide_every=6, **SMALL)
    history = fit(callback, student(keras.optimizers.SGD(0.08)), epochs=2)
    # Decisions at steps 0, 6, 12 and 18 of 24; Keras reports the rate after step 12 and after 24.
    assert history["learning_rate"] == pytest.approx([0.08 / 8, 0.08 / 16])


@pytest.mark.slow
def test_restart_goes_back_to_the_rate_that_fit_began_with():
    callback = QANCallback(actions=[Restart()], agent=ConstantAgent(0), decide_every=4, **SMALL)
    model = student(keras.optimizers.SGD(0.07))
    assert fit(callback, model)["learning_rate"] == pytest.approx([0.07, 0.07])


@pytest.mark.slow
def test_rate_stays_within_its_bounds():
    callback = QANCallback(
        actions=[Raise(10.0)],
        agent=ConstantAgent(0),
        decide_every=2,
        rate_bounds=(1e-4, 0.2),
        **SMALL,
    )
    history = fit(callback, student(keras.optimizers.SGD(0.01)))
    assert history["learning_rate"] == pytest.approx([0.2, 0.2])


@pytest.mark.slow
def test_holding_leaves_the_training_bit_for_bit_as_it_is_without_us():
    x, y = data()
    plain, steered = student(), student()
    plain.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    fit(QANCallback(actions=[Hold()], agent=ConstantAgent(0)), steered, shuffle=False)
    for alone, beside in zip(plain.get_weights(), steered.get_weights(), strict=True):
        np.testing.assert_array_equal(alone, beside)
    for alone, beside in zip(plain.optimizer.variables, steered.optimizer.variables, strict=True):
        np.testing.assert_array_equal(alone.numpy(), beside.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_decisions_are_counted_in_steps(tmp_path, steps_per_execution):
    callback = QANCallback(
        tmp_path, actions=[Hold()], agent=ConstantAgent(0), decide_every=8, **SMALL
    )
    fit(callback, student(steps_per_execution=steps_per_execution), epochs=2)
    # 24 steps; the decision that would fall on step 24 has nothing left to show itself in.
    assert [r["step"] for r in records(tmp_path, "decisions")] == [0, 8, 16]


@pytest.mark.slow
def test_a_twentieth_of_the_training_lies_between_decisions_by_default(tmp_path):
    callback = QANCallback(tmp_path, actions=[Hold()], agent=ConstantAgent(0), **SMALL)
    fit(callback, epochs=10)  # 120 steps
    assert [r["step"] for r in records(tmp_path, "decisions")] == list(range(0, 120, 6))


@pytest.mark.slow
def test_a_resumed_training_goes_on_where_initial_epoch_says(tmp_path):
    callback = QANCallback(
        tmp_path, actions=[Hold()], agent=ConstantAgent(0), decide_every=6, **SMALL
    )
    fit(callback, epochs=5, initial_epoch=3)
    # 12 steps an epoch: three epochs were done before, and two are left.
    assert [r["step"] for r in records(tmp_path, "decisions")] == [36, 42, 48, 54]
    (episode,) = records(tmp_path, "episodes")
    assert episode["steps"] == 24


@pytest.mark.slow
def test_data_of_unknown_length_is_steered_from_the_first_epoch_on(tmp_path):
    x, y = data()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(2).filter(lambda x, y: True)
    callback = QANCallback(tmp_path, actions=[Hold()], agent=ConstantAgent(0), **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Keras: shuffle has no effect on a dataset
        student().fit(batches, epochs=2, verbose=0, callbacks=[callback])
    steps = [r["step"] for r in records(tmp_path, "decisions")]
    # 48 steps an epoch: every 25 steps at first, then every twentieth of 96 steps.
    assert steps[:2] == [0, 25]
    assert set(np.diff([s for s in steps if s >= 50])) == {5}


# Rewards.


@pytest.mark.slow
def test_rewards_add_up_to_the_fall_of_the_log_loss_down_to_the_validation_loss(tmp_path):
    x, y = data()
    callback = QANCallback(
        tmp_path, actions=[Hold()], agent=ConstantAgent(0), decide_every=6, **SMALL
    )
    model = student()
    first = float(model.evaluate(x[:8], y[:8], verbose=0)[0])
    history = fit(callback, model, shuffle=False, validation_data=data(seed=1))
    episode = records(tmp_path, "episodes")[0]
    assert episode["return"] == pytest.approx(
        np.log(first) - np.log(history["val_loss"][-1]), abs=1e-4
    )
    assert episode["final_loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)


class LossOfEachStep(keras.callbacks.Callback):
    """The loss of every single step, worked out from Keras's running mean."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_epoch_begin(self, epoch, logs=None):
        self._sum = 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)
        self.losses.append(total - self._sum)
        self._sum = total


@pytest.mark.slow
@pytest.mark.parametrize("validation", [None, data(seed=1)])
def test_reward_leaves_out_the_step_whose_loss_the_decision_could_not_change(tmp_path, validation):
    callback = QANCallback(
        tmp_path, actions=[Hold()], agent=ConstantAgent(0), decide_every=6, **SMALL
    )
    steps = LossOfEachStep()
    x, y = data()
    student().fit(
        x,
        y,
        epochs=2,
        batch_size=8,
        verbose=0,
        shuffle=False,
        validation_data=validation,
        callbacks=[callback, steps],
    )
    losses = np.asarray(steps.losses)
    # Decisions after 0, 6, 12 and 18 steps; steps 2 to 6, 8 to 12 … are theirs.
    means = [losses[start + 1 : start + 6].mean() for start in (0, 6, 12)]
    found = [r["loss"] for r in records(tmp_path, "decisions")[1:]]
    assert found == pytest.approx(means, rel=1e-4)
    logs = np.log(np.asarray([losses[0], *means]))
    rewards = [r["reward"] for r in records(tmp_path, "decisions")[1:]]
    assert rewards == pytest.approx(list(logs[:-1] - logs[1:]), abs=1e-4)


@pytest.mark.slow
def test_decision_at_every_step_is_credited_with_the_loss_after_its_own_update(tmp_path):
    callback = QANCallback(
        tmp_path,
        actions=[Hold()],
        agent=ConstantAgent(0),
        decide_every=1,
        reward=Equation9(),
        **SMALL,
    )
    steps = LossOfEachStep()
    x, y = data(num_examples=40)
    student().fit(
        x, y, epochs=1, batch_size=8, verbose=0, shuffle=False, callbacks=[callback, steps]
    )
    logs = np.log(steps.losses)
    rewards = [r["reward"] for r in records(tmp_path, "decisions")]
    # The decision before step t shows in the loss of step t + 1, which is known after it; five
    # steps, five decisions, T - 1 = 4. The first loss is nobody's doing.
    expected = [np.nan, 0.0, *((logs[:-1] - logs[1:]) / 4)][: len(rewards)]
    assert [np.nan if r is None else r for r in rewards] == pytest.approx(
        expected, abs=1e-5, nan_ok=True
    )
    episode = records(tmp_path, "episodes")[0]
    assert episode["return"] == pytest.approx((logs[0] - logs[-1]) / 4, abs=1e-5)


@pytest.mark.slow
def test_loss_that_is_no_number_ends_the_training_with_a_bounded_penalty(tmp_path):
    x, y = data()
    x[40] = np.nan
    callback = QANCallback(tmp_path, agent=quick_agent(), **SMALL)
    model = student(activation="linear")
    with pytest.warns(RuntimeWarning, match="not finite at step 6"):
        model.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0, callbacks=[callback])
    episode = records(tmp_path, "episodes")[0]
    assert episode["diverged"]
    assert episode["steps"] == 6
    # log(worst / first) is 2 by definition, and the return is minus that.
    assert episode["return"] == pytest.approx(-2.0)
    assert all(np.isfinite(array).all() for array in callback.agent.arrays().values())


@pytest.mark.slow
def test_loss_that_is_not_positive_is_said_to_be_unusable():
    model = student(loss=lambda target, output: keras.ops.mean(output) * 0.0 - 1.0, metrics=[])
    with pytest.warns(RuntimeWarning, match="expected a positive one"):
        fit(QANCallback(agent=quick_agent(), **SMALL), model)


# Learning across trainings.


@pytest.mark.slow
def test_it_learns_from_one_fit_after_another_and_keeps_it(tmp_path):
    callback = QANCallback(tmp_path, agent=quick_agent(), **SMALL)
    for _ in range(3):
        fit(callback)
    assert callback.episodes == 3
    episodes = records(tmp_path, "episodes")
    assert [r["episode"] for r in episodes] == [0, 1, 2]
    assert np.isfinite(episodes[-1]["td_loss"])
    again = QANCallback(tmp_path)
    assert again.episodes == 3
    fit(again)
    assert [r["episode"] for r in records(tmp_path, "episodes")] == [0, 1, 2, 3]
    assert again.agent.learning.n_step == 3


@pytest.mark.slow
def test_frozen_callback_repeats_itself_and_changes_nothing(tmp_path):
    learner = QANCallback(tmp_path, agent=quick_agent(), **SMALL)
    fit(learner)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    frozen = QANCallback.load(tmp_path, explore=False)
    histories = [fit(frozen, student(), shuffle=False) for _ in range(2)]
    assert histories[0]["learning_rate"] == histories[1]["learning_rate"]
    assert histories[0]["loss"] == histories[1]["loss"]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_same_seed_gives_the_same_run_bit_for_bit_and_another_seed_another():
    def run(seed, episodes=2):
        callback = QANCallback(agent=quick_agent(seed=seed))
        histories = [fit(callback, student(seed=e), shuffle=False) for e in range(episodes)]
        return histories, callback.agent.arrays()

    (first, arrays), (second, others) = run(3), run(3)
    assert first == second
    assert run(4, episodes=1)[0][0]["learning_rate"] != first[0]["learning_rate"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)


@pytest.mark.slow
def test_run_that_goes_on_from_its_directory_equals_one_that_was_not_broken_off(tmp_path):
    unbroken = QANCallback(tmp_path / "a", agent=quick_agent(), **SMALL)
    for episode in range(2):
        fit(unbroken, student(seed=episode), shuffle=False)
    for episode in range(2):
        broken = QANCallback(tmp_path / "b", agent=quick_agent(), **SMALL)
        fit(broken, student(seed=episode), shuffle=False)
    others = broken.agent.arrays()
    for name, array in unbroken.agent.arrays().items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)


@pytest.mark.slow
def test_training_that_is_broken_off_leaves_nothing_in_memory_or_log(tmp_path):
    class Breaks(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 7:
                raise KeyboardInterrupt

    callback = QANCallback(tmp_path, agent=quick_agent(), decide_every=2, **SMALL)
    fit(callback)
    written = callback.agent.arrays()["replay/written"]
    x, y = data()
    with pytest.raises(KeyboardInterrupt):
        student().fit(x, y, batch_size=8, verbose=0, callbacks=[callback, Breaks()])
    fit(callback)
    assert callback.agent.arrays()["replay/written"] == 2 * written
    assert [r["episode"] for r in records(tmp_path, "episodes")] == [0, 1]
    assert len([r for r in records(tmp_path, "decisions") if r["episode"] == 1]) == written


@pytest.mark.slow
@pytest.mark.parametrize("few", [variables.FEW_NUMBERS, 0], ids=["by_numpy", "compiled"])
def test_a_model_that_is_dropped_is_freed(monkeypatch, few):
    monkeypatch.setattr(variables, "FEW_NUMBERS", few)
    callback, models = QANCallback(), [student(), student()]
    for model in models:
        fit(callback, model)
    dropped = weakref.ref(models[0])
    del models, model
    gc.collect()
    assert dropped() is None  # a callback holds its last model alone


@pytest.mark.slow
def test_deep_copy_shares_what_is_learned_as_keras_tuner_needs_it(tmp_path):
    callback = QANCallback(tmp_path, agent=quick_agent(), **SMALL)
    copies = copy.deepcopy([callback, callback])
    for each in (callback, *copies):
        fit(each)
    assert callback.episodes == copies[0].episodes == 3
    assert copies[0].agent is callback.agent


def test_a_frozen_callback_is_pickled_as_scikit_learn_needs_it():
    callback = QANCallback(rate_bounds=(1e-5, 0.5), restore_best=True)
    copied = pickle.loads(pickle.dumps(callback))
    assert copied.get_config() == callback.get_config()
    assert copied.settings.rate_bounds == (1e-5, 0.5)
    assert not copied.explore


def test_pickling_an_agent_that_learns_is_refused_with_the_way_round():
    with pytest.raises(TypeError, match=r"QANCallback\.load"):
        pickle.dumps(QANCallback(**SMALL))


@pytest.mark.slow
def test_save_writes_elsewhere_what_load_reads(tmp_path):
    callback = QANCallback(agent=quick_agent(), **SMALL)
    with pytest.raises(ValueError, match="nothing to save yet"):
        callback.save(tmp_path)
    fit(callback)
    callback.save(tmp_path)
    assert QANCallback.load(tmp_path).episodes == 1
    with pytest.raises(ValueError, match="without a directory"):
        callback.save()


# Keras citizenship.


def multi_input_model():
    left, right = keras.layers.Input((3,), name="left"), keras.layers.Input((2,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    model = keras.Model({"left": left, "right": right}, keras.layers.Dense(1)(joined))
    model.compile("adam", "mse")
    return model


@pytest.mark.slow
def test_multi_input_models_are_steered():
    rng = np.random.default_rng(0)
    inputs = {"left": rng.normal(size=(64, 3)), "right": rng.normal(size=(64, 2))}
    callback = QANCallback(agent=quick_agent())
    history = multi_input_model().fit(
        inputs, rng.normal(size=64), epochs=2, verbose=0, callbacks=[callback]
    )
    assert len(history.history["learning_rate"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "Adagrad", "Lion"])
def test_every_optimizer_with_a_rate_is_steered(name):
    callback = QANCallback(actions=[Decay(0.5)], agent=ConstantAgent(0), decide_every=12, **SMALL)
    optimizer = getattr(keras.optimizers, name)(0.01)
    assert fit(callback, student(optimizer))["learning_rate"] == pytest.approx([0.0025, 0.0025])


@pytest.mark.slow
def test_loss_scaling_optimizer_is_steered_through():
    inner = keras.optimizers.SGD(0.01)
    optimizer = keras.optimizers.LossScaleOptimizer(inner)
    callback = QANCallback(actions=[Decay(0.5)], agent=ConstantAgent(0), decide_every=12, **SMALL)
    assert fit(callback, student(optimizer))["learning_rate"] == pytest.approx([0.0025, 0.0025])
    # What the user compiled with is put back when the fit is over.
    assert float(inner.learning_rate.numpy()) == pytest.approx(0.01)


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(keras.optimizers, "OptimizerMap"), reason="this Keras has no MultiOptimizer"
)
def test_every_part_of_a_multi_optimizer_keeps_its_own_scale():
    fast, slow = keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.001)
    optimizers = keras.optimizers.OptimizerMap(fast)
    optimizers["logits.*"] = slow
    callback = QANCallback(actions=[Decay(0.5)], agent=ConstantAgent(0), decide_every=12, **SMALL)
    rates = []

    def note(*_):
        rates.append([float(part.learning_rate.numpy()) for part in (fast, slow)])

    watcher = keras.callbacks.LambdaCallback(on_epoch_end=note)
    x, y = data()
    model = student(keras.optimizers.MultiOptimizer(optimizers))
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[callback, watcher])
    np.testing.assert_allclose(rates[-1], [0.025, 0.00025], rtol=1e-5)
    note()
    np.testing.assert_allclose(rates[-1], [0.1, 0.001], rtol=1e-5)


@pytest.mark.slow
def test_mixed_precision_is_steered():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        history = fit(QANCallback(agent=quick_agent()))
    finally:
        keras.config.set_dtype_policy(policy)
    assert np.isfinite(history["loss"]).all()


@pytest.mark.slow
def test_compiled_by_xla_it_is_steered():
    callback = QANCallback(actions=[Decay(0.5)], agent=ConstantAgent(0), decide_every=12, **SMALL)
    model = student(keras.optimizers.SGD(0.01), jit_compile=True)
    assert fit(callback, model)["learning_rate"] == pytest.approx([0.0025, 0.0025])


@pytest.mark.slow
def test_class_weights_enter_the_loss_that_is_watched(tmp_path):
    callback = QANCallback(
        tmp_path, actions=[Hold()], agent=ConstantAgent(0), decide_every=6, **SMALL
    )
    model = student(keras.optimizers.SGD(1e-12))
    fit(callback, model, shuffle=False, class_weight={0: 3.0, 1: 3.0})
    plain = float(model.evaluate(*data(), verbose=0)[0])
    found = np.mean([r["loss"] for r in records(tmp_path, "decisions")[1:]])
    assert found == pytest.approx(3.0 * plain, rel=0.15)


@pytest.mark.slow
def test_early_stopping_beside_it_ends_the_episode_there(tmp_path):
    callback = QANCallback(tmp_path, actions=[Hold()], agent=ConstantAgent(0), **SMALL)
    stopper = keras.callbacks.EarlyStopping(monitor="loss", patience=0, min_delta=100.0)
    x, y = data()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    student().fit(
        x, y, epochs=9, batch_size=8, verbose=0, callbacks=[stopper, callback, checkpoint]
    )
    assert records(tmp_path, "episodes")[0]["steps"] == 24
    assert (tmp_path / "model.keras").exists()


def test_custom_training_step_without_keras_own_loss_sum_is_steered(tmp_path):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(keras.ops.reshape(inputs, (-1, 36)))

        @property
        def metrics(self):
            return []

        def train_step(self, batch):
            x, y = batch
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"loss": loss}

    model = Own()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-9), loss)
    callback = QANCallback(
        tmp_path, actions=[Hold()], agent=ConstantAgent(0), decide_every=6, **SMALL
    )
    fit(callback, model)
    found = [r["loss"] for r in records(tmp_path, "decisions")[1:]]
    assert np.mean(found) == pytest.approx(
        float(loss(data()[1], model(data()[0])).numpy()), rel=0.2
    )


@pytest.mark.slow
def test_watched_layers_are_the_ones_that_were_asked_for():
    callback = QANCallback(
        observations=[WeightStatistics(["logits", "first"])], agent=quick_agent()
    )
    fit(callback)
    assert callback.agent.arrays()["replay/observation"].shape[1] == 384


# Bad input.


@pytest.mark.parametrize(
    "rate", [keras.optimizers.schedules.CosineDecay(0.1, 10), lambda: 0.1], ids=["schedule", "call"]
)
def test_optimizer_whose_rate_cannot_be_set_is_refused(rate):
    with pytest.raises(ValueError, match=r"takes its learning rate from .* expected a number"):
        fit(QANCallback(**SMALL), student(keras.optimizers.SGD(rate)))


def test_model_that_is_not_compiled_is_refused():
    callback = QANCallback(**SMALL)
    callback.set_model(keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)]))
    with pytest.raises(ValueError, match="not compiled"):
        callback.on_train_begin()


def test_keras_2_model_is_refused_with_the_reason():
    callback = QANCallback(**SMALL)
    callback._model = object()
    with pytest.raises(TypeError, match="expected a Keras 3 model"):
        callback.on_train_begin()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
@pytest.mark.parametrize("is_trainable", [True, False])
def test_a_model_without_a_kernel_is_steered_by_its_losses(is_trainable):
    model = keras.Sequential([keras.layers.Input((36,)), keras.layers.BatchNormalization()])
    model.layers[-1].trainable = is_trainable
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(64, 36))
    history = model.fit(x, 2.0 * x, epochs=3, verbose=0, callbacks=[QANCallback()]).history
    assert np.isfinite(history["loss"]).all()
    assert len(history["learning_rate"]) == 3


def test_a_model_without_a_kernel_has_no_statistics_to_watch():
    model = keras.Sequential([keras.layers.Input((36,)), keras.layers.BatchNormalization()])
    model.compile("sgd", "mse")
    callback = QANCallback(observations=[WeightStatistics()])
    with pytest.raises(ValueError, match="no trainable kernel to watch"):
        model.fit(np.ones((8, 36)), np.ones((8, 36)), verbose=0, callbacks=[callback])


def test_layer_that_does_not_exist_is_refused_and_a_near_name_suggested():
    callback = QANCallback(observations=[WeightStatistics(["frist"])])
    with pytest.raises(ValueError, match="Did you mean 'first'"):
        fit(callback)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rival",
    [
        keras.callbacks.ReduceLROnPlateau(monitor="loss"),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate),
    ],
)
def test_callback_that_also_sets_the_rate_is_warned_of(rival):
    x, y = data()
    callback = QANCallback(actions=[Hold()], agent=ConstantAgent(0), **SMALL)
    with pytest.warns(UserWarning, match=type(rival).__name__):
        student().fit(x, y, verbose=0, callbacks=[rival, callback])


def test_two_of_them_in_one_fit_are_warned_of():
    x, y = data()
    both = [QANCallback(actions=[Hold()], agent=ConstantAgent(0), **SMALL) for _ in range(2)]
    with pytest.warns(UserWarning, match="two QANCallbacks in the same fit"):
        student().fit(x, y, verbose=0, callbacks=both)


def test_one_that_stands_twice_in_a_fit_is_refused():
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = QANCallback()
    with pytest.raises(ValueError, match="stands twice"):
        model.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0, callbacks=[callback, callback])


def test_directory_elsewhere_is_refused():
    with pytest.raises(ValueError, match="QANCallback's directory is 'gs://bucket/run'"):
        QANCallback("gs://bucket/run")


def test_directory_that_is_no_path_is_refused():
    with pytest.raises(TypeError, match=r"directory=3; expected the path .*decide_every=3"):
        QANCallback(3)


def test_unknown_callback_that_sets_the_rate_is_noticed():
    class Meddles(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = 0.123

    x, y = data()
    callback = QANCallback(actions=[Hold()], agent=ConstantAgent(0), decide_every=4, **SMALL)
    with pytest.warns(UserWarning, match=r"left the learning rate at 0.05 and found it at 0.123"):
        student().fit(x, y, batch_size=8, verbose=0, callbacks=[callback, Meddles()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"actions": []}, "at least one entry"),
        ({"actions": "Decay"}, "at least one entry"),
        ({"actions": [Decay]}, "a subclass of .*Action"),
        ({"observations": []}, "at least one entry"),
        ({"decide_every": 0}, "at least 1 step"),
        ({"decide_every": "50"}, "decide_every is '50'; expected at least 1 step"),
        ({"rate_bounds": (0.0, 1.0)}, "positive and finite"),
        ({"rate_bounds": 0.1}, r"rate_bounds is 0.1; expected a lowest and a highest"),
        ({"rate_bounds": ("1e-5", "0.1")}, "positive and finite"),
        ({"rate_bounds": (1.0, 0.1)}, "lowest first"),
    ],
)
def test_unusable_argument_is_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        QANCallback(**arguments)


def test_directory_that_cannot_be_written_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        QANCallback(file / "below")


@pytest.mark.slow
def test_directory_of_a_run_with_other_actions_is_refused(tmp_path):
    fit(QANCallback(tmp_path, agent=quick_agent(), **SMALL))
    with pytest.raises(ValueError, match="holds a run with actions"):
        QANCallback(tmp_path, actions=[Hold()])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decide_every": 7}, r"holds a run with decide_every=None, and decide_every=7"),
        ({"rate_bounds": (1e-4, 1e-2)}, r"holds a run with rate_bounds="),
        ({"policy": "slope"}, r"whose agent is a ThompsonDQN, and policy='slope'.*SlopeRule"),
    ],
)
def test_what_the_run_of_a_shipped_policy_does_not_have_is_refused(tmp_path, arguments, message):
    fit(QANCallback(tmp_path))
    with pytest.raises(ValueError, match=message):
        QANCallback(tmp_path, **arguments)
    assert QANCallback(tmp_path).episodes == 1
    assert QANCallback(tmp_path, policy="shipped").episodes == 1


@pytest.mark.slow
def test_directory_of_a_run_with_another_state_size_is_refused(tmp_path):
    observations = [WeightStatistics([0])]
    fit(QANCallback(tmp_path, agent=quick_agent(), observations=observations))
    with pytest.raises(ValueError, match="holds a run with observations"):
        QANCallback(tmp_path, observations=[WeightStatistics([0, 1])])


def test_directory_without_a_run_cannot_be_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no agent"):
        QANCallback.load(tmp_path)


@pytest.mark.slow
def test_damaged_checkpoint_is_named_and_the_one_before_used(tmp_path):
    callback = QANCallback(tmp_path, agent=quick_agent(), **SMALL)
    for _ in range(2):
        fit(callback)
    older, newest = sorted((tmp_path / "agent").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(RuntimeWarning, match=f"{newest.name} is damaged.*{older.name}"):
        assert QANCallback(tmp_path).episodes == 1
    # What the log says of the lost episode is gone too: it will be run again.
    assert [r["episode"] for r in records(tmp_path, "episodes")] == [0]
    older.write_bytes(b"")
    with pytest.raises(CheckpointError, match="None of the 2 checkpoints"):
        QANCallback(tmp_path)


@pytest.mark.slow
def test_random_agent_takes_every_action(tmp_path):
    actions = [Decay(0.9), Hold(), Raise(1.1)]
    callback = QANCallback(
        tmp_path, actions=actions, agent=RandomAgent(seed=1), decide_every=1, **SMALL
    )
    fit(callback)
    taken = [r["action"] for r in records(tmp_path, "decisions")]
    assert set(taken) == {"Decay(0.9)", "Hold()", "Raise(1.1)"}


def test_two_parts_of_the_state_that_watch_layers_are_refused():
    parts = [WeightStatistics(["first"]), WeightStatistics(["logits"])]
    with pytest.raises(ValueError, match="Name all layers in it"):
        QANCallback(observations=parts)
