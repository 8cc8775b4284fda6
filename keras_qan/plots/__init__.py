"""Figures of a run: logs become plain series, and series become pictures.

`draw("runs/mine")` writes them all, `draw_search` those of an architecture search, `draw_rally` a
rally's accuracy against its cost,
`draw_selection(selector.shares(), path)` what batches were made of. Importing this room does not
load matplotlib.
"""

from keras_qan.plots.draw import draw, draw_selection
from keras_qan.plots.rally import draw_rally
from keras_qan.plots.records import EmptyRunError
from keras_qan.plots.search import draw_search

__all__ = ["EmptyRunError", "draw", "draw_rally", "draw_search", "draw_selection"]
