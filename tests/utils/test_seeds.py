"""A function that builds a model is given a seed where it asks for one."""

import functools

import pytest

from keras_qan.utils.seeds import takes_seed


def with_seed(seed=0, units=8):
    return seed, units


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda seed: seed, True),
        (lambda number: number, True),
        (with_seed, True),
        (lambda: None, False),
        (lambda units=64: units, False),
        (functools.partial(with_seed, 3), False),
        (lambda *_, **__: None, False),
        (len, True),
    ],
)
def test_a_seed_is_the_first_argument_without_a_default_or_called_so(function, expected):
    assert takes_seed(function) is expected
