"""The colours of an object alone, where its edge is mixed with the old background.

Paper: Forte, Approximate Fast Foreground Colour Estimation, ICIP 2021: a photograph is I = a F + (1 - a) B at every
pixel, a the opacity, and the foreground F is estimated from averages over a window, weighted by opacity, corrected by
their residual of I. The authors' windows are 90 and then 6 pixels wide; ours are odd, which is symmetric.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

_WINDOWS = (91, 7)
_LEAST_WEIGHT = 1e-5
# Rows that are processed together, so that memory does not grow with the photograph's height.
_MOST_BLOCK_ROWS = 512

_Planes = npt.NDArray[np.float32]


def foreground(image: npt.NDArray[np.uint8], opacity: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Estimate the object's own colour at every pixel.

    An opaque pixel keeps its colour. Outside the object its colours continue for three pixels, so that nothing of the
    old background shows when a cut-out is scaled; farther away everything is black.

    Args:
        image: (H, W, 3) uint8.
        opacity: (H, W) float32, 0 to 1.

    Returns:
        (H, W, 3) uint8.
    """
    result = np.empty_like(image)
    reach = sum(window // 2 for window in _WINDOWS)
    for top in range(0, len(image), _MOST_BLOCK_ROWS):
        first = max(top - reach, 0)
        rows = slice(first, top + _MOST_BLOCK_ROWS + reach)
        colours = _estimate(image[rows].astype(np.float32), opacity[rows, :, None])
        own = colours[top - first : top - first + _MOST_BLOCK_ROWS]
        result[top : top + _MOST_BLOCK_ROWS] = np.rint(own).clip(0, 255).astype(np.uint8)
    return result


def _estimate(image: _Planes, opacity: _Planes) -> _Planes:
    """Estimate the foreground (H, W, 3) of an image (H, W, 3), 0 to 255, with its opacity (H, W, 1)."""
    front = back = image
    for window in _WINDOWS:
        smooth_front = _weighted_mean(front, opacity, window)
        back = _weighted_mean(back, 1 - opacity, window)
        front = smooth_front + opacity * (image - opacity * smooth_front - (1 - opacity) * back)
        front = front.clip(0, 255)
    return front


def _weighted_mean(values: _Planes, weights: _Planes, window: int) -> _Planes:
    """Return the weighted mean over a square window around each pixel; 0 where all weights are 0."""
    total = cv2.blur(values * weights, (window, window)).reshape(values.shape)
    weight = cv2.blur(weights, (window, window)).reshape(weights.shape)
    return cast("_Planes", total / (weight + np.float32(_LEAST_WEIGHT)))
