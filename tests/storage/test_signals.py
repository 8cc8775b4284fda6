"""A request to stop is answered, whatever becomes of the exception that tells of it."""

import contextlib
import os
import signal

import pytest

from keras_qan.storage.signals import Stopped, StopRequests


def ask_to_stop():
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_request_ends_what_runs():
    went_on = False
    with contextlib.suppress(Stopped), StopRequests():
        ask_to_stop()
        went_on = True
    assert not went_on


def test_a_request_whose_exception_was_swallowed_is_answered_at_the_end():
    swallows = contextlib.suppress(Exception)
    with pytest.raises(Stopped, match="asked to stop"), StopRequests(), swallows:
        ask_to_stop()


def test_a_run_that_nobody_asks_to_stop_ends_as_it_would():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequests():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
