"""Where a coarse mask is in doubt: along its boundary."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def boundary_band(inside: npt.NDArray[np.bool_], distance: int) -> npt.NDArray[np.bool_]:
    """The pixels from which the other side of the boundary is near.

    Args:
        inside: (H, W), the mask.
        distance: In pixels, the larger of the steps along the rows and along the columns.

    Returns:
        (H, W), whether a pixel of the other side is at most so far away.
    """
    square = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    mask = inside.astype(np.uint8)
    return cv2.dilate(mask, square) != cv2.erode(mask, square)
