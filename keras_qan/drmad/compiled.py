"""Compiled functions that TensorFlow's graph rewriter leaves as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_REWRITES = "disable_meta_optimizer"


class Compiled:
    """A compiled function whose graph TensorFlow's rewriter leaves as it is.

    The rewriter turns sums of large tensors into temporary variables, and in a loop the last,
    dead turn leaves one behind, so that the next call fails with "AlreadyExists"
    (tensorflow#23780, open). These loops were no slower without it.

    Args:
      function: of tensors and lists of tensors.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._compiled = tf.function(function, autograph=False)

    def __call__(self, *arguments: Any) -> Any:
        """Calls it; what was set before is set again after."""
        before = tf.config.optimizer.get_experimental_options().get(_REWRITES, False)
        tf.config.optimizer.set_experimental_options({_REWRITES: True})
        try:
            return self._compiled(*arguments)
        finally:
            tf.config.optimizer.set_experimental_options({_REWRITES: before})
