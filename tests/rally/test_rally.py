"""The rally: what grows, what it notes, and that it goes on after a kill."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from helpers.rally_cases import (
    TEST,
    TRAIN,
    VALIDATION,
    build_eager_model,
    build_model,
    data,
)
from hypothesis import given
from hypothesis import strategies as st

from keras_qan import QANCallback, Rally, Stage
from keras_qan import rally as rally_package
from keras_qan.agents.scripted import RandomAgent
from keras_qan.rally import Cost, GrowthRule, PlannedStage, cost_to
from keras_qan.rally.plan import spend_savings
from keras_qan.rally.subsets import Subsets, as_examples
from keras_qan.rally.training import falling_rates

STAGES = [
    Stage(0.25, epochs=2),
    Stage(0.5, epochs=2, widths={"hidden": 8}),
    Stage(1.0, epochs=2, widths={"hidden": 12}, deepen=["hidden"]),
]


def run(rally, **more):
    return rally.run(build_model, TRAIN, VALIDATION, **more)


def run_eagerly(rally, **more):
    """For trainings of a few steps."""
    return rally.run(build_eager_model, TRAIN, VALIDATION, **more)


def with_dropout(seed):
    return build_model(seed, dropout=0.3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A rally through all stages, kept in a directory."""
    rally = Rally(STAGES, tmp_path_factory.mktemp("whole"), batch_size=20)
    return rally.run(with_dropout, TRAIN, VALIDATION, TEST)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_subsets_are_nested_and_stratified():
    examples = as_examples(TRAIN, "train")
    subsets = Subsets(examples, seed=3)
    small, large = set(subsets.members(60)), set(subsets.members(120))
    assert small < large
    share = np.bincount(examples.y) / len(examples)
    for size in (60, 120):
        found = np.bincount(subsets.take(size).y)
        assert np.all(np.abs(found - share * size) < 1.0)
    assert subsets.take(240) is examples
    assert set(Subsets(examples, seed=4).members(60)) != small


@pytest.mark.slow
def test_data_and_network_grow_and_the_costs_add_up(whole):
    report = whole
    # 6·w + w·3 multiply-adds forward, and 6·w + 2·w·3 backward; deepened by w·w and 2·w·w.
    forward = [9 * 4, 9 * 8, 9 * 12 + 144]
    backward = [12 * 4, 12 * 8, 12 * 12 + 288]
    steps = [2 * 3, 2 * 6, 2 * 12]
    costs = [20 * s * (f + b) for s, f, b in zip(steps, forward, backward, strict=True)]
    assert [s["examples"] for s in report.stages] == [60, 120, 240]
    assert [s["forward_multiply_adds"] for s in report.stages] == forward
    assert [s["backward_multiply_adds"] for s in report.stages] == backward
    assert [s["steps"] for s in report.stages] == steps
    assert [s["multiply_adds"] for s in report.stages] == costs
    assert report.multiply_adds == sum(costs)
    assert [layer.name for layer in report.model.layers] == [
        "hidden", "hidden_deeper", "dropout", "logits",
    ]  # fmt: skip
    assert report.model.get_layer("hidden_deeper").units == 12
    assert set(report.test) == {"loss", "accuracy"}
    assert all(stage["seconds"] > 0.0 for stage in report.stages)
    assert report.looks[-1]["seconds"] == pytest.approx(sum(s["seconds"] for s in report.stages))


def test_growing_changes_neither_function_nor_the_optimizers_count(whole):
    for before, after in zip(whole.stages, whole.stages[1:], strict=False):
        assert after["val_loss_at_start"] == pytest.approx(before["val_loss"], rel=1e-5)
    assert int(whole.model.optimizer.iterations) == 6 + 12 + 24


@pytest.mark.slow
def test_random_padding_does_change_it():
    report = run_eagerly(Rally(STAGES[:2], batch_size=20, new="random"))
    assert report.stages[1]["val_loss_at_start"] != pytest.approx(
        report.stages[0]["val_loss"], rel=1e-3
    )


@pytest.mark.slow
def test_it_learns():
    report = run(Rally([Stage(0.5, epochs=10), Stage(1.0, 10, {"hidden": 16})], batch_size=20))
    first, last = report.looks[0]["val_accuracy"], report.looks[-1]["val_accuracy"]
    assert last > max(first + 0.2, 0.75)
    cost = report.cost_to(0.5 * (first + last))
    assert 0.0 < cost < report.multiply_adds


@pytest.mark.slow
def test_one_stage_of_everything_is_an_ordinary_training():
    report = run(Rally([Stage(1.0, epochs=3)], batch_size=20, seed=5))
    model = build_model(5)
    seed = int(np.random.SeedSequence([5, 1]).generate_state(1)[0] >> 1)
    batches = as_examples(TRAIN, "train").batches(20, seed=seed)
    as_in_a_rally = as_examples(VALIDATION, "validation").batches(256)
    model.evaluate(as_in_a_rally, verbose=0)
    model.fit(batches, epochs=3, shuffle=False, verbose=0)
    for one, other in zip(report.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_each_stage_begins_with_its_own_rate():
    seen = []

    class Rates(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(float(self.model.optimizer.learning_rate))

        def on_train_end(self, logs=None):
            self.model.optimizer.learning_rate = 1e-5  # as something that anneals leaves it

    stages = [Stage(0.5), Stage(0.5, widths={"hidden": 8}), Stage(1.0, learning_rate=0.003)]
    run(Rally(stages, batch_size=20), callbacks=[Rates()])
    assert seen == pytest.approx([0.01, 0.01, 0.003])


class Falls(keras.callbacks.Callback):
    """Notes the rate of each step."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))


@pytest.mark.slow
def test_a_stages_rate_falls_linearly_to_its_last_whatever_the_looks_are():
    falls = Falls()
    stages = [
        Stage(0.5, 2, final_learning_rate=0.004),
        Stage(1.0, 1, {"hidden": 8}, learning_rate=0.005, final_learning_rate=0.001),
    ]
    run(Rally(stages, batch_size=20, look_every=4), callbacks=[falls])
    # 12 steps from the compiled rate, looked at every 4; then 12 from the stage's own.
    first = [0.01 + (0.004 - 0.01) * t / 12 for t in range(12)]
    second = [0.005 + (0.001 - 0.005) * t / 12 for t in range(12)]
    assert falls.rates == pytest.approx(first + second, rel=1e-5)


@pytest.mark.slow
def test_one_rate_falls_linearly_through_all_stages_and_a_kill(tmp_path):
    stages = [Stage(0.5, 2), Stage(1.0, 1, {"hidden": 8}), Stage(1.0, 1)]
    whole, broken = Falls(), Falls()
    Rally(stages, batch_size=20, final_learning_rate=0.001).run(
        build_eager_model, TRAIN, VALIDATION, callbacks=[whole]
    )
    assert whole.rates == pytest.approx([0.01 - 0.009 * t / 36 for t in range(36)], rel=1e-5)
    with pytest.raises(KilledError):
        Rally(stages, tmp_path, batch_size=20, final_learning_rate=0.001).run(
            build_eager_model, TRAIN, VALIDATION, callbacks=[Kill(1)]
        )
    Rally(stages, tmp_path, batch_size=20, final_learning_rate=0.001).run(
        build_eager_model, TRAIN, VALIDATION, callbacks=[broken]
    )
    assert broken.rates == whole.rates[-len(broken.rates) :]


@pytest.mark.stress
@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(0.01, 1)), min_size=1, max_size=5),
    st.floats(1e-4, 1),
)
def test_a_falling_rate_has_no_jumps_and_ends_where_it_is_to(stages, final):
    """Also where a rule ends stages early."""
    steps_of_all = [steps for steps, _ in stages]
    planned = [steps_of_all[number:] for number in range(len(stages))]
    done, rate = [], 1.0
    for steps, share in stages:
        first, last = falling_rates(1.0, final, planned, done)
        assert first == pytest.approx(rate)
        assert min(rate, final) - 1e-9 <= last <= max(rate, final) + 1e-9
        done.append(max(1, round(share * steps)))
        rate = first + (last - first) * done[-1] / steps
    assert last == pytest.approx(final)


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        (Stage(1.0, learning_rate=0.1), {}),
        (Stage(1.0, final_learning_rate=0.1), {}),
        (Stage(1.0), {"qan": QANCallback}),
    ],
)
def test_one_falling_rate_and_another_hand_at_the_rate_are_refused(stage, more):
    more = {name: make() for name, make in more.items()}
    with pytest.raises(ValueError, match="sets the rate too; expected one of both"):
        Rally([stage], final_learning_rate=0.01, **more)


def test_an_agent_and_a_falling_rate_are_not_both_at_the_wheel():
    stages = [Stage(0.5), Stage(1.0, final_learning_rate=1e-4)]
    with pytest.raises(ValueError, match=r"stage 2 has final_learning_rate=0\.0001; expected one"):
        Rally(stages, qan=QANCallback())


@pytest.mark.slow
def test_noise_parts_the_copies_of_its_stage_alone():
    def grown(noise):
        stages = [Stage(0.5, learning_rate=1e-12), Stage(1.0, 1, {"hidden": 8}, (), 1e-12)]
        if noise:
            stages[1] = Stage(1.0, 1, {"hidden": 8}, (), 1e-12, noise=noise)
        report = run_eagerly(Rally(stages, batch_size=20))
        before, after = report.looks[1], report.looks[2]
        return before["val_loss"], after["val_loss"], report.model.get_layer("logits").kernel

    before, exact, plain = grown(0.0)
    assert exact == pytest.approx(before, rel=1e-5)
    _, noisy, parted = grown(0.5)
    assert abs(noisy - before) > 1e-3
    # The first four units are the old ones: theirs stays, and a copy's moves by about half of the
    # weights' spread.
    moved = np.abs(np.asarray(parted) - np.asarray(plain))
    assert np.all(moved[:4] < 1e-6)
    assert 0.1 < np.std(moved[4:]) / np.std(np.asarray(plain)) < 1.0


class KilledError(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends the process, as it were, in the fit with that number."""

    def __init__(self, number):
        super().__init__()
        self.left = number

    def on_epoch_end(self, epoch, logs=None):
        if self.left == 0:
            raise KilledError

    def on_train_end(self, logs=None):
        self.left -= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage",
    [pytest.param(0, marks=pytest.mark.stress), pytest.param(1, marks=pytest.mark.stress), 2],
)
def test_a_rally_that_was_killed_goes_on_to_the_same_end(tmp_path, whole, stage):
    def go(**more):
        rally = Rally(STAGES, tmp_path, batch_size=20)
        return rally.run(with_dropout, TRAIN, VALIDATION, TEST, **more)

    with pytest.raises(KilledError):
        go(callbacks=[Kill(stage)])
    report = go()
    for one, other in zip(whole.model.get_weights(), report.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert whole.test == report.test

    def timeless(records):
        return [{k: v for k, v in r.items() if "seconds" not in k} for r in records]

    for log in ("stages", "looks"):
        logs = [timeless(lines(folder / f"{log}.jsonl")) for folder in (whole.directory, tmp_path)]
        assert logs[0] == logs[1]
    # Finished: nothing is trained again, and all is told again.
    again = go(callbacks=[Kill(0)])
    assert again.stages == report.stages
    np.testing.assert_array_equal(again.model.get_weights()[0], report.model.get_weights()[0])


def test_another_rally_in_the_directory_is_refused_with_what_differs(tmp_path):
    run_eagerly(Rally([Stage(0.5)], tmp_path, batch_size=20))
    with pytest.raises(ValueError, match=r"holds a rally with other seed; .*seed=0"):
        run_eagerly(Rally([Stage(0.5)], tmp_path, batch_size=20, seed=1))
    with pytest.raises(ValueError, match="other plan"):
        Rally([Stage(0.5)], tmp_path, batch_size=20).run(
            lambda seed: build_model(seed, width=5), TRAIN, VALIDATION
        )


@pytest.mark.slow
def test_a_policy_steers_all_stages_as_one_training(tmp_path):
    stages = [
        Stage(0.5, epochs=8),
        Stage(1.0, epochs=4),
        Stage(1.0, epochs=4, widths={"hidden": 8}),
    ]

    def rally(name):
        return Rally(stages, tmp_path / name, qan=QANCallback(), batch_size=20)

    steered = rally("whole")
    whole = run_eagerly(steered)
    assert steered.qan.total_steps is None  # it may steer another training
    rates = [look["learning_rate"] for look in whole.looks if look["look"]]
    # It looks for a rate in the first stage, and falls through the others to nothing.
    assert np.all(np.diff(rates[7:]) < 0.0)
    assert rates[-1] < 0.01 * max(rates)
    assert rates[11] > 0.1 * rates[7]
    assert float(whole.model.optimizer.learning_rate) == pytest.approx(0.01)
    with pytest.raises(KilledError):
        run_eagerly(rally("run"), callbacks=[Kill(1)])
    resumed = run_eagerly(rally("run"))
    assert [look["learning_rate"] for look in resumed.looks if look["look"]] == rates
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_one_agent_goes_through_all_stages_and_through_a_kill(tmp_path):
    stages = STAGES[:2]

    def qan(name):
        return QANCallback(tmp_path / name / "qan", agent=RandomAgent(0), decide_every=2)

    whole = run_eagerly(Rally(stages, tmp_path / "whole", qan=qan("whole"), batch_size=20))
    episodes = lines(tmp_path / "whole" / "qan" / "episodes.jsonl")
    assert [episode["stage"] for episode in episodes] == [1, 2]
    assert all(e["initial_learning_rate"] == pytest.approx(0.01) for e in episodes)
    with pytest.raises(KilledError):
        run_eagerly(
            Rally(stages, tmp_path / "run", qan=qan("run"), batch_size=20), callbacks=[Kill(1)]
        )
    # As if the kill had come between the agent's writing of stage 2 and the rally's.
    more = qan("run")
    model = build_eager_model(0)
    model.fit(*TRAIN, epochs=1, verbose=0, callbacks=[more])
    assert more.episodes == 2
    rally = Rally(stages, tmp_path / "run", qan=qan("run"), batch_size=20)
    report = run_eagerly(rally)
    assert rally.qan.episodes == 2
    for one, other in zip(whole.model.get_weights(), report.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_rule_grows_when_the_gain_per_cost_falls_below_what_growth_brings():
    rule = GrowthRule(width_gain=0.1, window=1)
    # (0.5 − 0.3)(1 − √(1/4)) = 0.1 by data, and 0.1 · 0.5 · log₂ 4 = 0.1 by width.
    assert rule.expected(0.3, 0.5, (100, 400), (10, 40)) == pytest.approx(0.2)
    assert rule.expected(0.6, 0.5, (100, 400), (10, 10)) == 0.0
    # A gain of 0.1 for 50, against 0.2 for 200 or for 50.
    assert not rule.says_grow([0.6, 0.5], 50.0, 0.2, 200.0)
    assert rule.says_grow([0.6, 0.5], 50.0, 0.2, 50.0)
    assert not rule.says_grow([0.6], 50.0, 0.2, 50.0)
    # Over two looks: 0.4 for 100.
    assert not GrowthRule(window=2).says_grow([0.9, 0.6, 0.5], 50.0, 0.2, 100.0)


def test_an_evaluation_that_is_high_by_chance_ends_no_stage():
    losses = [0.9, 0.8, 0.7, 0.6, 0.7]
    # The line through them falls by 0.06 an evaluation: (2·0.9 + 0.8 − 0.6 − 2·0.7) / 10. They lie
    # 0.04, 0.0, −0.04, −0.08 and 0.08 above it, so that its error is √(0.016 / 3 / 10) = 0.0231.
    for standard_errors, bound in ((0.0, 0.06), (1.0, 0.0831), (2.0, 0.1062)):
        rule = GrowthRule(window=4, standard_errors=standard_errors)
        assert not rule.says_grow(losses, 1.0, bound - 1e-4, 1.0)
        assert rule.says_grow(losses, 1.0, bound + 1e-4, 1.0)
    # Of the last three alone, without an error, nothing falls.
    assert GrowthRule(window=2, standard_errors=0.0).says_grow(losses, 1.0, 1e-6, 1.0)


@pytest.mark.slow
def test_a_stage_ends_early_by_the_rule_and_the_last_one_never():
    stages = [Stage(0.25, epochs=40), Stage(1.0, epochs=3, widths={"hidden": 12})]
    report = run(Rally(stages, batch_size=20, rule=GrowthRule(width_gain=0.5)))
    first, last = report.stages
    assert first["ended_by_rule"]
    assert 4 <= first["looks"] < 40
    assert first["steps"] == 3 * first["looks"]
    assert last["looks"] == 3
    assert not last["ended_by_rule"]


def test_what_a_stage_saves_makes_the_next_one_longer_at_its_price():
    def planned(number, looks, price):
        cost = Cost(forward=1, backward=price - 1)
        return PlannedStage(number, 100, {}, (), 0.0, 10, looks, 5, cost)

    plan = [planned(1, 6, 2), planned(2, 4, 3), planned(3, 1, 8)]
    assert spend_savings(plan, []) == plan
    # 30 steps at 2 are 20 at 3.
    assert spend_savings(plan, [30]) == [planned(2, 6, 3), plan[2]]
    # Of these 60 steps, 40 at 3 are 15 at 8, which is one evaluation and a half.
    assert spend_savings(plan, [30, 20]) == [planned(3, 2, 8)]
    assert spend_savings(plan, [60, 40]) == [plan[2]]


@pytest.mark.slow
def test_a_rally_that_keeps_its_budget_costs_what_was_planned_and_its_rate_falls_to_the_end():
    stages = [Stage(1.0, 4), Stage(1.0, 2, {"hidden": 8})]
    falls = Falls()
    rally = Rally(
        stages,
        batch_size=20,
        rule=GrowthRule(width_gain=1e9, window=1),  # grows at the first evaluation
        final_learning_rate=0.001,
        keep_budget=True,
    )
    report = run_eagerly(rally, callbacks=[falls])
    # 36 of 48 steps are saved, each for half of a wider one's cost: one more pass of 12.
    assert [stage["steps"] for stage in report.stages] == [12, 36]
    planned = sum(stage.steps * stage.cost.training for stage in rally.plan(build_model, TRAIN))
    price = rally.plan(build_model, TRAIN)[1].cost.training
    assert 0 <= 20 * planned - report.multiply_adds < 20 * 12 * price
    first = [0.01 - 0.009 * t / 72 for t in range(12)]
    second = [0.0085 - 0.0075 * t / 36 for t in range(36)]
    assert falls.rates == pytest.approx(first + second, rel=1e-5)


def test_a_budget_is_kept_with_a_rule_alone():
    with pytest.raises(ValueError, match=r"keep_budget=True and no rule; expected both"):
        Rally([Stage(1.0)], keep_budget=True)


def test_a_rally_of_before_budgets_could_be_kept_goes_on(tmp_path):
    run_eagerly(Rally([Stage(0.5)], tmp_path, batch_size=20))
    path = tmp_path / "settings.json"
    settings = json.loads(path.read_text())
    del settings["keep_budget"]
    path.write_text(json.dumps(settings))
    report = run_eagerly(Rally([Stage(0.5)], tmp_path, batch_size=20), callbacks=[Kill(0)])
    assert len(report.stages) == 1


@pytest.mark.slow
def test_it_tells_each_stage_when_asked_and_nothing_when_silenced(capsys):
    rally = Rally([Stage(1.0, epochs=1)], batch_size=20)
    run_eagerly(rally, verbose=0)
    assert capsys.readouterr().out == ""
    last = run_eagerly(rally, verbose=2).stages[-1]
    first, *told = capsys.readouterr().out.splitlines()
    assert first.startswith("stages: 0 of 1, ")
    assert told[-1] == (
        f"stage 1 of 1: {last['examples']} examples, {last['parameters']} weights, validation "
        f"loss {last['val_loss']:.4g} after {last['steps']} steps"
    )


def test_an_end_by_the_rule_is_told_with_its_reason():
    record = {
        "stage": 1, "examples": 1000, "parameters": 50, "val_loss": 0.5, "steps": 7,
        "ended_by_rule": True,
    }  # fmt: skip
    assert rally_package.report.describe_stage(record, 2) == (
        "stage 1 of 2: 1,000 examples, 50 weights, validation loss 0.5 after 7 steps; it was "
        "ended, as growth is expected to bring more"
    )


@pytest.mark.slow
def test_looks_can_be_closer_than_passes():
    report = run(Rally([Stage(1.0, epochs=2)], batch_size=20, look_every=5))
    # 24 steps are rounded to five looks.
    assert [look["step"] for look in report.looks] == [0, 5, 10, 15, 20, 25]


@pytest.mark.slow
def test_a_stage_may_be_part_of_a_pass():
    # A pass has 12 steps.
    report = run(Rally([Stage(1.0, epochs=0.25), Stage(1.0, epochs=1.5)], batch_size=20))
    assert [stage["steps"] for stage in report.stages] == [3, 18]
    assert [look["step"] for look in report.looks] == [0, 3, 3, 12, 21]
    closer = run(Rally([Stage(1.0, epochs=1.5)], batch_size=20, look_every=6))
    assert [look["step"] for look in closer.looks] == [0, 6, 12, 18]


def test_the_cost_of_a_target_is_linear_between_looks():
    looks = [
        {"val_accuracy": a, "val_loss": b, "multiply_adds": c}
        for a, b, c in [(0.1, 2.0, 0), (0.5, 1.0, 100), (0.5, 1.1, 100), (0.9, 0.5, 300)]
    ]
    assert cost_to(looks, 0.3) == pytest.approx(50.0)
    assert cost_to(looks, 0.7) == pytest.approx(200.0)
    assert cost_to(looks, 0.8, "val_loss") == pytest.approx(200.0)
    assert cost_to(looks, 0.95) == float("inf")
    assert cost_to(looks, 0.05) == 0


def stage(examples=0.5, **more):
    return lambda: Stage(examples, **more)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (stage(0.0), r"examples is 0.0; expected a share in \(0, 1\]"),
        (stage(1.5), "examples is 1.5"),
        (stage(0), "examples is 0;"),
        (stage(True), "examples is True"),
        (stage("all"), "examples is 'all'"),
        (stage(epochs=0), "epochs is 0; expected a finite number above 0"),
        (stage(epochs=float("nan")), "epochs is nan"),
        (stage(epochs="2"), "epochs is '2'"),
        (stage(widths={"hidden": 0}), "width of 'hidden' is 0; expected at least 1"),
        (stage(deepen="hidden"), r"for example \['hidden'\]"),
        (stage(learning_rate=0.0), "learning_rate is 0.0"),
        (stage(final_learning_rate=-1.0), "final_learning_rate is -1.0"),
        (stage(noise=-0.1), "noise is -0.1"),
        (stage(noise=float("nan")), "noise is nan"),
        (lambda: Rally([]), "at least one stage"),
        (lambda: Rally([Stage(0.5), Stage(0.4)]), "Stage 2 has examples=0.4 and the one before it"),
        (
            lambda: Rally([Stage(0.5, widths={"a": 8}), Stage(0.6), Stage(1.0, widths={"a": 4})]),
            "Stage 3 asks for 4 units in layer 'a', which has 8",
        ),
        (lambda: Rally([Stage(0.5)], batch_size=0), "batch_size is 0; expected at least 1"),
        (lambda: Rally([Stage(0.5)], new="copies"), "new is 'copies'; expected one of net2net"),
        (lambda: Rally([Stage(0.5)], rule=0.5), "expected GrowthRule"),
        (lambda: Rally([Stage(0.5)], qan="shipped"), "expected a QANCallback"),
        (
            lambda: Rally([Stage(0.5)], "x", qan=QANCallback(agent=RandomAgent(0))),
            "could not go on after a kill",
        ),
        (
            lambda: GrowthRule(width_gain=-1.0),
            "width_gain is -1.0; expected a finite number at least 0",
        ),
        (lambda: GrowthRule(window=0), "window is 0; expected at least 1"),
        (
            lambda: GrowthRule(standard_errors=float("nan")),
            "standard_errors is nan; expected a finite number at least 0",
        ),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(made, message):
    with pytest.raises(ValueError, match=message):
        made()


def test_something_else_than_a_stage_is_refused():
    with pytest.raises(TypeError, match="expected Stage"):
        Rally([0.5, 1.0])


def untrainable(seed):
    model = build_model(seed)

    def train_step(data):
        raise AssertionError("trained before all was tried out")

    model.train_step = train_step
    return model


RARE = (np.concatenate([TRAIN[0], data(2, seed=7)[0]]), np.concatenate([TRAIN[1], [3, 3]]))


@pytest.mark.parametrize(
    ("stages", "train", "message"),
    [
        ([Stage(0.5), Stage(1.0, widths={"logits": 5})], TRAIN,
         "growth of stage 2 is refused before anything is trained: .*output"),
        ([Stage(0.5), Stage(1.0, deepen=["logits"])], TRAIN, "growth of stage 2 is refused"),
        ([Stage(0.5), Stage(1.0, widths={"hiden": 9})], TRAIN, "growth of stage 2 is refused"),
        ([Stage(0.5), Stage(1.0, widths={"hidden": 3})], TRAIN,
         "Stage 2 asks for 3 units in layer 'hidden', which has 4"),
        ([Stage(100), Stage(0.25)], TRAIN, "Stage 2 has 60 examples and the one before it 100"),
        ([Stage(19), Stage(1.0)], TRAIN, "Stage 1 has 19 examples and a batch has 20"),
        ([Stage(30), Stage(1.0)], RARE, "Stage 1 has 30 examples and none of class 3"),
        ([Stage(241)], TRAIN, "asks for 241 examples, and there are 240"),
        ([Stage(0.5)], TRAIN[0], "or a pair"),
        ([Stage(0.5)], (TRAIN[0], TRAIN[1] / 2.0), "one integer class for each example"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_before_anything_is_trained(stages, train, message):
    with pytest.raises(ValueError, match=message):
        Rally(stages, batch_size=20).run(untrainable, train, VALIDATION)


def test_a_model_that_is_not_compiled_is_refused():
    with pytest.raises(TypeError, match="expected a compiled"):
        Rally([Stage(0.5)]).run(
            lambda seed: keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]),
            TRAIN, VALIDATION,
        )  # fmt: skip


@pytest.mark.slow
def test_a_stage_that_diverges_says_so():
    stages = [Stage(0.5, learning_rate=1e30)]
    with pytest.raises(RuntimeError, match="Stage 1 diverged"):
        Rally(stages, batch_size=20).run(
            lambda seed: build_model(seed, optimizer=keras.optimizers.SGD(0.1)), TRAIN, VALIDATION
        )


def test_former_names_give_the_new_classes_with_a_warning():
    with pytest.warns(DeprecationWarning, match=r"rally\.Planned is now .*PlannedStage"):
        assert rally_package.Planned is rally_package.PlannedStage
    with pytest.warns(DeprecationWarning, match=r"rally\.Report is now .*RallyReport"):
        assert rally_package.Report is rally_package.RallyReport


def test_a_function_that_takes_no_seed_is_refused():
    with pytest.raises(TypeError, match=r"takes no seed; expected .*def build_model\(seed\)"):
        Rally([Stage(1.0)]).run(lambda: build_model(0), TRAIN, VALIDATION)


class Counts(keras.metrics.Metric):
    """A vector, such as a score of each class."""

    def __init__(self, name="counts", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.sums = self.add_variable((2,), "zeros", name="sums")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.sums.assign(keras.ops.arange(2, dtype="float32") + 5)

    def result(self):
        return self.sums


def compiled(optimizer, metrics):
    def build(seed):
        model = build_eager_model(seed)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer(), loss, metrics=metrics(), run_eagerly=True)
        return model

    return build


def test_a_metric_that_is_a_vector_is_noted_number_by_number(tmp_path):
    build = compiled(keras.optimizers.Adam, lambda: [Counts()])
    rally = Rally([Stage(0.5)], tmp_path, batch_size=20)
    report = rally.run(build, TRAIN, VALIDATION, TEST, callbacks=None, verbose=0)
    assert (report.test["counts_0"], report.test["counts_1"]) == (5.0, 6.0)
    assert lines(tmp_path / "looks.jsonl")[-1]["val_counts_1"] == 6.0
    assert "val_counts_1 6" in str(report)


def test_a_schedule_of_the_models_own_is_refused_where_the_rally_sets_the_rate():
    def scheduled():
        return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 30))

    build = compiled(scheduled, list)
    for rally in (
        Rally([Stage(1.0, learning_rate=0.1)]),
        Rally([Stage(1.0)], final_learning_rate=0.1),
    ):
        with pytest.raises(
            ValueError, match=r"^Rally got .*rate.* a schedule of its own; expected"
        ):
            rally.run(build, TRAIN, VALIDATION, verbose=0)
    assert Rally([Stage(0.5)], batch_size=20).run(build, TRAIN, VALIDATION, verbose=0).stages
