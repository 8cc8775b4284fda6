import json
from types import SimpleNamespace

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_qan.distribute import Cluster, WorkerLostError, collectives, lost_worker_is_said

TWO = {"worker": ["a:1", "b:2"]}


def read(cluster, task):
    return Cluster.from_environment({"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})})


def test_workers_are_numbered_as_listed_and_the_first_is_the_chief():
    first, second = (read(TWO, {"type": "worker", "index": n}) for n in (0, 1))
    assert first.addresses == second.addresses == ("a:1", "b:2")
    assert (first.index, second.index) == (0, 1)
    assert first.is_chief
    assert not second.is_chief


def test_a_chief_of_its_own_comes_before_the_workers():
    cluster = {"worker": ["b:2", "c:3"], "chief": ["a:1"]}
    chief = read(cluster, {"type": "chief", "index": 0})
    last = read(cluster, {"type": "worker", "index": 1})
    assert chief.addresses == ("a:1", "b:2", "c:3")
    assert chief.is_chief
    assert last.index == 2


@pytest.mark.parametrize(
    ("cluster", "task", "what"),
    [
        (TWO, {"type": "worker", "index": 2}, "index is 2 and there are 2"),
        (TWO, {"type": "worker", "index": -1}, "index is -1"),
        (TWO, {"type": "worker", "index": "0"}, "not a whole number"),
        (TWO, {"type": "worker", "index": True}, "not a whole number"),
        (TWO, {"type": "worker"}, "index is None"),
        (TWO, {"type": "chief", "index": 0}, "of type 'chief'"),
        (TWO, {}, "of type None"),
        (TWO, {"type": ["worker"], "index": 0}, "of type"),
        (TWO, None, "'task' is missing"),
        (None, {"type": "worker", "index": 0}, "'cluster' is missing"),
        ({}, {"type": "worker", "index": 0}, "'cluster' is missing"),
        ({"worker": []}, {"type": "worker", "index": 0}, "not a list of addresses"),
        ({"worker": "a:1"}, {"type": "worker", "index": 0}, "not a list of addresses"),
        ({"worker": ["a"]}, {"type": "worker", "index": 0}, "not of the form host:port"),
        ({"worker": ["a:0"]}, {"type": "worker", "index": 0}, "not of the form host:port"),
        ({"worker": ["a:70000"]}, {"type": "worker", "index": 0}, "not of the form host:port"),
        ({"worker": [7]}, {"type": "worker", "index": 0}, "not of the form host:port"),
        ({"worker": ["a:1", "a:1"]}, {"type": "worker", "index": 0}, "named twice"),
        ({**TWO, "ps": ["c:3"]}, {"type": "worker", "index": 0}, "ps beside workers"),
        ({**TWO, "chief": ["c:3", "d:4"]}, {"type": "worker", "index": 0}, "2 chiefs"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_expected_and_what_to_do(cluster, task, what):
    with pytest.raises(ValueError, match=what) as caught:
        read(cluster, task)
    for part in ("Received TF_CONFIG=", "expected something like", "start the process again"):
        assert part in str(caught.value)


@pytest.mark.parametrize("environment", [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": "  "}])
def test_without_tf_config_it_is_said_how_to_set_it(environment):
    with pytest.raises(ValueError, match=r"no TF_CONFIG.*expected.*before the process starts"):
        Cluster.from_environment(environment)


@pytest.mark.parametrize("text", ["{", "worker", "[1]", "7"])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ValueError, match=r"not JSON|not an object"):
        Cluster.from_environment({"TF_CONFIG": text})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cluster", "task", "worker", "chief", "type", "index"]), inner
        )
    ),
    max_leaves=8,
)


@given(json_values)
def test_anything_else_is_refused_with_a_value_error_or_gives_a_place_in_the_list(config):
    try:
        cluster = Cluster.from_environment({"TF_CONFIG": json.dumps(config)})
    except ValueError:
        return
    assert 0 <= cluster.index < len(cluster.addresses)


ABORTED = """Graph execution error:

Collective ops is aborted by: failed to connect to all addresses; Connection refused
Additional GRPC error information
The error could be from a previous operation. Restart your program to reset."""


def test_a_lost_worker_is_said_with_what_to_do(monkeypatch):
    error = tf.errors.UnavailableError(None, None, ABORTED)
    with pytest.raises(tf.errors.UnavailableError), lost_worker_is_said():  # nobody to lose
        raise error
    monkeypatch.setattr(collectives, "_current", SimpleNamespace(index=1, size=2))
    expected = r"Worker 1 has lost another one of the 2 .*Connection refused.*--resume"
    with pytest.raises(WorkerLostError, match=expected), lost_worker_is_said():
        raise error
    with pytest.raises(tf.errors.InternalError), lost_worker_is_said():
        raise tf.errors.InternalError(None, None, "something else")
