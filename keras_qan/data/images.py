"""Images and their classes, as a source gives them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Images:
    """Images as they are on disk.

    Args:
        pixels: uint8 [N, height, width, channels].
        labels: int64 [N].
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
