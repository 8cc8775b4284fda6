"""Young classes say in their docstrings what is not shown yet."""

import doctest
import inspect
import warnings

from keras_qan.utils import deprecation
from keras_qan.utils import experimental as module
from keras_qan.utils.experimental import experimental


@experimental("`benchmarks/speed` shows no gain yet.")
class Fast:
    """Train faster.

    Args:
      factor: how much.
    """

    def __init__(self, factor: int = 2) -> None:
        self.factor = factor


def test_the_docstring_gains_one_line_after_the_summary():
    assert inspect.getdoc(Fast) == (
        "Train faster.\n\nExperimental: `benchmarks/speed` shows no gain yet.\n\n"
        "Args:\n  factor: how much."
    )


def test_the_mark_can_be_read_and_use_does_not_warn():
    assert Fast.__experimental__ == "`benchmarks/speed` shows no gain yet."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Fast(3).factor == 3


def test_the_docstrings_examples():
    for each in (module, deprecation):
        assert doctest.testmod(each).failed == 0
