"""Callbacks that watch a training and change nothing: what it tells about itself."""

from keras_qan.diagnostics.slope_ratio import SlopeRatio

__all__ = ["SlopeRatio"]
