"""Figures of a run: logs become plain series, and series become pictures.

`draw("runs/mine")` writes them all. Importing this room does not load matplotlib.
"""

from keras_qan.plots.draw import draw
from keras_qan.plots.records import EmptyRunError

__all__ = ["EmptyRunError", "draw"]
