"""Label maps in colour, alone and over their image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segscape.labels import IGNORE_INDEX


def colourise(labels: npt.NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]) -> npt.NDArray[np.uint8]:
    """Render a label map in its classes' colours, black where there is no label.

    Args:
        labels: (H, W) uint8, class indices or the ignore index.
        palette: A colour (red, green, blue) for each class.

    Returns:
        (H, W, 3) uint8.
    """
    table = np.zeros((IGNORE_INDEX + 1, 3), np.uint8)
    table[: len(palette)] = palette
    return table[labels]


def overlay(
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    palette: Sequence[tuple[int, int, int]],
    *,
    opacity: float = 0.5,
) -> npt.NDArray[np.uint8]:
    """Blend the classes' colours over an image.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) uint8, class indices; pixels of the ignore index stay as they are.
        palette: A colour (red, green, blue) for each class.
        opacity: Of the colours, 0 to 1.

    Returns:
        (H, W, 3) uint8.
    """
    blended = np.round(image * (1 - opacity) + colourise(labels, palette) * opacity).astype(np.uint8)
    return np.where((labels == IGNORE_INDEX)[..., None], image, blended)
