import contextlib
import errno
import importlib.util
import json
import math
from pathlib import Path

import pytest
import tensorflow as tf

from keras_qan.storage import event_file
from keras_qan.storage.files import replace_non_finite
from keras_qan.storage.run_log import FILES, RunLog, read


def log_episode(log, number, phase="train", write=True, arm="qan"):
    log.context = {"arm": arm, "phase": phase, "episode": number, "seed": number}
    log.record("decisions", decision=0, action="Hold()")
    log.record("decisions", decision=1, action="Hold()")
    log.record("epochs", epoch=0)
    log.record("episodes", val_loss=0.5)
    if write:
        log.write()


def keys(directory, file="episodes"):
    return [(r["arm"], r["phase"], r["episode"]) for r in read(directory, file)]


def test_a_record_is_one_line_of_json_with_its_context_first(tmp_path):
    log = RunLog(tmp_path)
    log.context = {"arm": "qan", "episode": 2}
    log.record("decisions", decision=0, reward=math.nan, q_values=[1.0, math.inf, -math.inf])
    log.record("decisions", decision=1, reward=0.25, q_values=[], note="a\nb")
    log.write()
    lines = (tmp_path / "decisions.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        {"arm": "qan", "episode": 2, "decision": 0, "reward": None, "q_values": [1.0, None, None]},
        {"arm": "qan", "episode": 2, "decision": 1, "reward": 0.25, "q_values": [], "note": "a\nb"},
    ]
    assert list(json.loads(lines[0]))[:2] == ["arm", "episode"]


def test_nothing_is_written_before_the_episode_is_over(tmp_path):
    log = RunLog(tmp_path / "run")
    log_episode(log, 0, write=False)
    assert not (tmp_path / "run").exists()
    log.write()
    assert [len(read(log.directory, file)) for file in FILES] == [2, 1, 1]
    log.write()
    assert [len(read(log.directory, file)) for file in FILES] == [2, 1, 1]


def test_what_is_dropped_is_never_written(tmp_path):
    log = RunLog(tmp_path)
    log_episode(log, 0, write=False)
    log.scalar("qan/reward", 1.0, 1)
    log.drop()
    log.write()
    assert list(tmp_path.iterdir()) == []


def test_scalars_go_to_the_arms_own_events_and_not_a_number_does_not(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path)
    log.context = {"arm": "cosine", "phase": "evaluate"}
    log.scalar("learning_rate", 0.5, 3)
    log.scalar("learning_rate", math.nan, 4)
    log.scalar("learning_rate", math.inf, 5)
    log.write()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "cosine" / "evaluate"))
    events.Reload()
    (event,) = events.Tensors("learning_rate")
    assert (event.step, tf.make_ndarray(event.tensor_proto)) == (3, 0.5)


def test_finished_episodes_stay_as_they_are(tmp_path):
    log = RunLog(tmp_path)
    for number in range(3):
        log_episode(log, number)
    log_episode(log, 0, phase="evaluate", arm="random")
    before = {file: (tmp_path / f"{file}.jsonl").read_bytes() for file in FILES}
    kept = RunLog(tmp_path).keep_finished(3)
    assert kept == {("qan", "train", n) for n in range(3)} | {("random", "evaluate", 0)}
    assert {file: (tmp_path / f"{file}.jsonl").read_bytes() for file in FILES} == before


def test_training_episodes_that_the_checkpoint_does_not_know_are_taken_out(tmp_path):
    # Killed between the records and the checkpoint: episode 2 will be run again.
    log = RunLog(tmp_path)
    for number in range(3):
        log_episode(log, number)
    log_episode(log, 7, phase="evaluate")
    kept = RunLog(tmp_path).keep_finished(2)
    expected = [("qan", "train", 0), ("qan", "train", 1), ("qan", "evaluate", 7)]
    assert kept == set(expected)
    assert keys(tmp_path) == expected
    assert keys(tmp_path, "epochs") == expected
    assert len(read(tmp_path, "decisions")) == 6


def test_an_episode_without_its_own_record_is_taken_out_everywhere(tmp_path):
    # Killed while writing: decisions and epochs are there, the episode's record is not.
    log = RunLog(tmp_path)
    log_episode(log, 0)
    log_episode(log, 1)
    path = tmp_path / "episodes.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    RunLog(tmp_path).keep_finished(2)
    assert keys(tmp_path, "decisions") == [("qan", "train", 0)] * 2
    assert keys(tmp_path, "epochs") == [("qan", "train", 0)]


@pytest.mark.parametrize("cut", [1, 5, 40])
@pytest.mark.parametrize("file", FILES)
def test_a_last_line_that_was_cut_short_does_not_spoil_what_follows(tmp_path, file, cut):
    log = RunLog(tmp_path)
    log_episode(log, 0)
    log_episode(log, 1)
    path = tmp_path / f"{file}.jsonl"
    path.write_text(path.read_text()[:-cut])
    again = RunLog(tmp_path)
    # The checkpoint knows one episode: it is written after the records.
    again.keep_finished(1)
    log_episode(again, 1)
    assert [len(read(tmp_path, name)) for name in FILES] == [4, 2, 2]
    for name in FILES:
        for line in (tmp_path / f"{name}.jsonl").read_text().splitlines():
            json.loads(line)


def test_an_episode_that_was_run_twice_is_not_kept_twice(tmp_path):
    log = RunLog(tmp_path)
    log_episode(log, 0)
    log_episode(log, 1)
    RunLog(tmp_path).keep_finished(1)
    log_episode(RunLog(tmp_path), 1)
    assert keys(tmp_path) == [("qan", "train", 0), ("qan", "train", 1)]
    assert len(read(tmp_path, "decisions")) == 4


def test_an_empty_directory_has_no_finished_episodes(tmp_path):
    assert RunLog(tmp_path / "none").keep_finished(0) == set()
    assert not (tmp_path / "none").exists()
    assert read(tmp_path / "none", "decisions") == []


def test_plain_leaves_numbers_alone():
    value = {"a": [1, 2.5, True, None, "x", (math.nan, {"b": math.inf})]}
    assert replace_non_finite(value) == {"a": [1, 2.5, True, None, "x", [None, {"b": None}]]}


def test_a_disk_that_is_full_for_tensorboard_takes_back_what_was_half_written(
    tmp_path, monkeypatch
):
    log = RunLog(tmp_path)
    log.scalar("loss", 0.5, 1)
    log.write()
    (path,) = (tmp_path / "tensorboard").rglob("events*")
    before = path.read_bytes()
    log.scalar("loss", 0.25, 2)
    opened = Path.open

    def fill(self, mode="r", *arguments, **named):
        if mode != "ab":
            return opened(self, mode, *arguments, **named)
        with opened(self, mode) as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", fill)
    with pytest.raises(OSError, match="free some space") as caught:
        log.write()
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before


def test_without_tensorboard_one_sentence_says_so_and_the_lines_are_written(tmp_path, monkeypatch):
    event_file.has_tensorboard.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    log = RunLog(tmp_path)
    for number in range(2):
        log.scalar("loss", 0.5, 1)
        log_episode(log, number, write=False)
        with (
            pytest.warns(UserWarning, match=r"pip install 'keras-qan\[tensorboard\]'")
            if number == 0
            else contextlib.nullcontext()
        ):
            log.write()
    event_file.has_tensorboard.cache_clear()
    assert len(keys(tmp_path)) == 2
    assert not (tmp_path / "tensorboard").exists()
