"""Checks of arguments: values pass through, and messages have three parts."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from keras_qan.utils.validation import (
    check,
    check_choice,
    check_folder,
    check_integer,
    check_number,
)


def test_values_within_their_bounds_come_back_as_plain_numbers():
    assert check_integer("epochs", np.int64(3), 1, 3) == 3
    assert type(check_integer("epochs", 3.0)) is int
    assert check_number("share", np.float32(0.5), above=0, maximum=1) == 0.5
    assert check_choice("engine", "ray", ("local", "ray")) == "ray"
    check(True, "anything", None, "nothing")


@pytest.mark.parametrize(
    ("value", "minimum", "maximum", "message"),
    [
        (0, 1, None, r"^epochs is 0; expected at least 1\.$"),
        (9, 1, 8, r"^epochs is 9; expected 1 to 8\.$"),
        (9, None, 8, r"^epochs is 9; expected at most 8\.$"),
        (1.5, 1, None, r"^epochs is 1.5; expected a whole number, at least 1\.$"),
        (True, 1, None, r"^epochs is True; expected a whole number, at least 1\.$"),
        ("3", None, None, r"^epochs is '3'; expected a whole number\.$"),
        (None, 1, None, r"^epochs is None; expected a whole number, at least 1\.$"),
    ],
)
def test_integers_out_of_bounds_are_refused(value, minimum, maximum, message):
    with pytest.raises(ValueError, match=message):
        check_integer("epochs", value, minimum, maximum)


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (0.0, {"above": 0}, r"expected a finite number above 0\."),
        (-1, {"minimum": 0}, r"expected a finite number at least 0\."),
        (2, {"below": 2}, r"expected a finite number below 2\."),
        (3, {"maximum": 2}, r"expected a finite number at most 2\."),
        (0.0, {"above": 0, "maximum": 1}, r"expected a number in \(0, 1\]\."),
        (1.0, {"minimum": 0, "below": 1}, r"expected a number in \[0, 1\)\."),
        (math.nan, {}, r"expected a finite number\."),
        (math.inf, {"minimum": 0}, r"expected a finite number at least 0\."),
        ("0.5", {}, r"share is '0.5'; expected a finite number\."),
        (True, {}, r"share is True; expected a finite number\."),
    ],
)
def test_numbers_out_of_bounds_are_refused(value, bounds, message):
    with pytest.raises(ValueError, match=message):
        check_number("share", value, **bounds)


def test_a_hint_says_what_to_do():
    with pytest.raises(ValueError, match=r"expected at least 1\. Leave it out for 1\."):
        check_integer("epochs", 0, 1, hint="Leave it out for 1.")
    with pytest.raises(ValueError, match=r"expected one of local, ray\. Did you mean 'ray'\?"):
        check_choice("engine", "rey", ("local", "ray"))
    with pytest.raises(ValueError, match=r"engine is 3; expected one of local, ray\.$"):
        check_choice("engine", 3, ("local", "ray"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.zeros((400, 2)), "an array of shape (400, 2)"),
        (np.zeros(2), "array([0., 0.])"),
        (list(range(1500)), "a list of 1,500 values"),
        ("abc", "'abc'"),
        (type("Long", (), {"__repr__": lambda self: "x" * 500})(), "a Long"),
    ],
    ids=["large array", "small array", "list", "text", "object"],
)
def test_a_large_value_is_told_by_kind_and_size(value, shown):
    with pytest.raises(ValueError, match=re.escape(f"num_classes is {shown}; expected a")):
        check(False, "num_classes", value, "a number")


@pytest.mark.parametrize("folder", ["runs/mine", "/tmp/mine", r"C:\runs", "~/runs", Path("x")])
def test_a_folder_of_this_machine_is_a_path(folder):
    assert check_folder("directory", folder) == Path(folder)


@pytest.mark.parametrize("address", ["gs://bucket/run", "s3://bucket", Path("hdfs://host/run")])
def test_an_address_of_a_store_elsewhere_is_no_folder(address):
    with pytest.raises(ValueError, match=r"^directory is '.*expected the path of a folder of this"):
        check_folder("directory", address)
