"""What a training tells about itself: callbacks that watch it and change nothing."""

from keras_qan.diagnostics.slope_ratio import SlopeRatio

__all__ = ["SlopeRatio"]
