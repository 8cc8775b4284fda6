"""MetaQNN: sampling, learning, going on after a kill, and the best together."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import warnings

import numpy as np
import pytest

from keras_qan.metaqnn import (
    EpsilonSchedule,
    ImpossibleSpaceError,
    MetaQNN,
    QLearning,
    Recipe,
    Space,
    Stopping,
)
from keras_qan.metaqnn.trial import TrialOutcome
from keras_qan.parallel import LocalExecutor

SPACE = Space(filters=(4, 8), sizes=(3,), pools=((2, 2),), dense=(8,), max_dense=1, max_depth=3)
QUICK = Recipe(stages=((0.03, 2),), batch_size=16, dropout=False, restart_after=0)


def data(count=48, classes=3):
    rng = np.random.default_rng(0)
    y = np.arange(count) % classes
    x = rng.normal(scale=0.3, size=(count, 6, 6, 1)).astype("float32")
    for label in range(classes):
        x[y == label, label] += 1.0
    return (x, y), (x[: count // 2], y[: count // 2])


def worth(text):
    """A score for each architecture, without training it."""
    return 0.3 + 0.05 * text.count("C(8") + 0.1 * ("GAP" in text) - 0.02 * text.count("FC")


def outcome(text, status="trained"):
    score = worth(text) if status != "out_of_memory" else math.nan
    return TrialOutcome(status, score, score, (score,), learning_rate=0.01, seconds=1.0)


class TableExecutor:
    """An executor that looks results up."""

    is_here = False

    def __init__(self, look_up=outcome, workers=1):
        self.workers, self._look_up = workers, look_up
        self.sizes = []

    def map(self, calls):
        self.sizes.append(len(calls))
        return [self._look_up(call.arguments["architecture"]) for call in calls]


def plain(row):
    """All of a row but what is NaN, which equals nothing."""
    return {k: v for k, v in dataclasses.asdict(row).items() if v == v}


def search(directory, engine=None, **more):
    arguments = {"learning": QLearning(EpsilonSchedule.scaled(20), replays=10), "recipe": QUICK}
    engine = engine or TableExecutor()
    return MetaQNN(SPACE, data(), directory, engine=engine, **(arguments | more))


def test_it_trains_so_many_different_models_and_keeps_a_row_of_each(tmp_path):
    found = search(tmp_path)
    rows = found.run(models=15)
    assert len({row.architecture for row in rows}) == len(rows) == found.num_models == 15
    assert len((tmp_path / "models.jsonl").read_text().splitlines()) == 15
    assert [row.number for row in rows] == list(range(15))
    assert rows[0].epsilon == 1.0
    assert rows[-1].epsilon < 0.8
    assert all(row.reward == worth(row.architecture) for row in rows)
    assert json.loads((tmp_path / "q_values.json").read_text())
    if importlib.util.find_spec("tensorboard"):
        assert len(list((tmp_path / "tensorboard").glob("model_*/events.out.*"))) == 15


def test_it_tells_the_best_so_far_and_the_stopped_and_each_model_when_asked(tmp_path, capsys):
    def look_up(text):
        return outcome(text, "no_better_than_chance" if "FC" in text else "trained")

    said = {}
    for verbose in (0, 1, 2):
        rows = search(tmp_path / str(verbose), TableExecutor(look_up)).run(8, verbose=verbose)
        said[verbose] = [s for s in capsys.readouterr().out.splitlines() if s.startswith("model ")]
    best, expected = -1.0, []
    for row in rows:
        if row.score > best or "FC" in row.architecture:
            expected.append(row.number)
        best = max(best, row.score)
    assert said[0] == []
    assert [int(line.split()[1].rstrip(":")) for line in said[1]] == expected
    assert len(said[2]) == 8
    assert said[2][0] == (
        f"model 0: {rows[0].architecture}, validation accuracy {rows[0].score:.4g} after 1 epoch"
        ", the best so far" + (", no better than chance" if "FC" in rows[0].architecture else "")
    )


def test_it_ends_with_better_models_than_it_began_with(tmp_path):
    rows = search(tmp_path, learning=QLearning(EpsilonSchedule(((1.0, 12), (0.1, 12))))).run(24)
    assert np.mean([r.reward for r in rows[12:]]) > np.mean([r.reward for r in rows[:12]]) + 0.03


def test_a_search_that_is_gone_on_with_is_the_same_as_one_in_one_go(tmp_path):
    whole = search(tmp_path / "a")
    whole.run(16)
    search(tmp_path / "b").run(5)
    path = tmp_path / "b" / "models.jsonl"
    path.write_bytes(path.read_bytes() + b'{"number": 5, "archi')  # killed while writing
    again = search(tmp_path / "b")
    assert again.num_models == 5
    again.run(16)
    assert [plain(row) for row in again.models] == [plain(row) for row in whole.models]
    assert again.agent.table.values == whole.agent.table.values


def test_what_is_known_is_learned_from_again_and_not_trained_again(tmp_path):
    found = search(tmp_path, learning=QLearning(EpsilonSchedule(((1.0, 6), (0.0, 6))), replays=5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        rows = found.run(9)
    repeats = [number for row in rows for number in row.repeats]
    assert len(found.agent.memory) >= len(rows) + len(repeats)
    assert len({row.architecture for row in rows}) == len(rows)


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_space_that_is_used_up_ends_the_search_with_a_word(tmp_path, parallel):
    tiny = Space(filters=(4,), sizes=(3,), pools=(), max_dense=0, max_depth=1)
    engine = TableExecutor(workers=parallel)
    found = MetaQNN(tiny, data(), tmp_path, engine=engine, learning=QLearning(replays=1))
    with pytest.warns(RuntimeWarning, match="2 of 5 models"):
        found.run(5)
    assert [row.number for row in found.models] == [0, 1]


def test_what_was_out_of_memory_is_neither_learned_from_nor_counted_nor_tried_again(tmp_path):
    def look_up(text):
        return outcome(text, "out_of_memory" if "C(8" in text else "trained")

    too_wide = TableExecutor(look_up)
    found = search(tmp_path, engine=too_wide)
    rows = found.run(5)
    dropped = [row for row in rows if not row.counts]
    assert dropped
    assert found.num_models == 5 == len(rows) - len(dropped)
    assert len({row.architecture for row in rows}) == len(rows)
    assert all(row.counts for row in found.best(10))
    assert not any(
        "C(8" in action for known in found.agent.table.values.values() for action in known
    )
    again = search(tmp_path, engine=too_wide)
    assert again.agent.table.values == found.agent.table.values


def test_trials_are_given_to_the_executor_together(tmp_path):
    engine = TableExecutor(workers=4)
    rows = search(tmp_path / "a", engine).run(10)
    assert engine.sizes == [4, 4, 2]
    assert len({row.architecture for row in rows}) == 10
    search(tmp_path / "b", engine, parallel=3).run(3)
    assert engine.sizes[3:] == [3]


def test_the_best_come_first(tmp_path):
    found = search(tmp_path)
    found.run(10)
    scores = [row.score for row in found.best(4)]
    assert scores == sorted((row.score for row in found.models), reverse=True)[:4]
    assert len(found.best(99)) == 10


def test_other_seeds_other_models(tmp_path):
    one, other = search(tmp_path / "a", seed=1).run(4), search(tmp_path / "b", seed=2).run(4)
    assert [r.architecture for r in one] != [r.architecture for r in other]


def test_a_directory_of_another_search_is_refused_with_what_differs(tmp_path):
    search(tmp_path)
    with pytest.raises(ValueError, match="another seed: seed is 0 there and 3 here"):
        search(tmp_path, seed=3)
    with pytest.raises(ValueError, match="another learning, space"):
        MetaQNN(Space(filters=(4,)), data(), tmp_path, recipe=QUICK)
    (tmp_path / "settings.json").unlink()
    (tmp_path / "models.jsonl").write_text("")
    with pytest.raises(ValueError, match="without settings"):
        search(tmp_path)


def test_a_line_that_is_no_row_is_refused(tmp_path):
    search(tmp_path).run(1)
    path = tmp_path / "models.jsonl"
    path.write_text(path.read_text() + '{"number": 3}\n')
    with pytest.raises(ValueError, match="no row of a search"):
        search(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y: ((x, y - 1), (x, y)), "from -1 to 1 for"),
        (lambda x, y: ((x, np.where(y == 1, 0, y)), (x, y)), r"without the classes \[1\]"),
        (lambda x, y: ((x, y), (x, y + 5)), "without the classes"),
        (lambda x, y: ((x, np.eye(3)[y]), (x, y)), "argmax"),
        (lambda x, y: ((x[..., 0], y), (x, y)), "Add the last dimension"),
        (lambda x, y: ((x, y), (x[:, :4], y)), "expected the same"),
        (lambda x, y: ((x[:0], y[:0]), (x, y)), "at least one image"),
    ],
)
def test_data_that_does_not_fit_is_refused(tmp_path, change, says):
    (x, y), _ = data()
    with pytest.raises(ValueError, match=says):
        MetaQNN(SPACE, change(x, y), tmp_path)


def test_labels_beyond_the_number_of_classes_are_refused(tmp_path):
    from keras_qan.data import load

    splits = dataclasses.replace(load("digits"), num_classes=9)
    with pytest.raises(ValueError, match="from 0 to 9 for 9 classes; expected 0 to 8"):
        MetaQNN(SPACE, splits, tmp_path)


def test_other_bad_input_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"keras_qan\.data\.load"):
        MetaQNN(SPACE, 3, tmp_path)
    with pytest.raises(ImpossibleSpaceError, match="window of 9"):
        MetaQNN(Space(filters=(4,), sizes=(9,), dense_below=1), data(), tmp_path)
    with pytest.raises(ValueError, match="seed is -1"):
        search(tmp_path / "a", seed=-1)
    found = search(tmp_path / "b")
    with pytest.raises(ValueError, match="models is 0"):
        found.run(0)
    with pytest.raises(ValueError, match=r"run\(models"):
        found.ensemble(1)
    with pytest.raises(ValueError, match=r"count is 5; expected 1 to 2\. retrain=2"):
        found.ensemble(5, retrain=2)


@pytest.mark.stress
def test_a_real_search_with_everything_switched_on_learns_and_is_combined(tmp_path):
    settings = {
        "engine": LocalExecutor(),
        "warm_start": True,
        "stopping": Stopping(confidence=0.75),
        "learning": QLearning(EpsilonSchedule.scaled(5), replays=8),
    }
    found = search(tmp_path, **settings)
    found.run(2)
    assert (tmp_path / "curves" / "curves.jsonl").exists()
    assert len(list((tmp_path / "weights").iterdir())) == 2
    again = search(tmp_path, **settings)
    again.run(3)
    assert again.num_models == 3
    together = again.ensemble(2, retrain=3)
    (x, _), _ = data()
    assert len(together.models) == 2
    odds = together.predict(x)
    np.testing.assert_allclose(odds.sum(axis=1), 1.0, atol=1e-6)
    assert together.accuracy(again.task.validation) > 0.5
    assert list(together.scores) == sorted(together.scores, reverse=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"space": Space}, r"MetaQNN's space is <class .*Space\.small_images\(\)"),
        ({"learning": QLearning}, r"MetaQNN's learning is .*QLearning\(\), or None"),
        ({"recipe": {"epochs": 3}}, r"MetaQNN's recipe is .*Recipe\(\), or None"),
    ],
)
def test_classes_and_dictionaries_in_the_place_of_settings_are_refused(tmp_path, arguments, says):
    with pytest.raises(ValueError, match=says):
        MetaQNN(**{"space": SPACE, "data": data(), "directory": tmp_path / "new"} | arguments)
    assert not (tmp_path / "new").exists()
