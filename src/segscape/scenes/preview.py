"""A picture of a scene under its classes' colours, small enough for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from segscape.geometry.window import Readable, Window
from segscape.rasters.source import Source
from segscape.viz.overlay import overlay

_SIDE = 4096
"""Scenes with longer sides are reduced."""
_ROWS = 512


def preview(source: Source, labels: Readable, palette: Sequence[tuple[int, int, int]]) -> npt.NDArray[np.uint8]:
    """The scene under its classes' colours, reduced by a whole factor to sides of at most 4096 pixels.

    Args:
        source: The scene.
        labels: Its labels.
        palette: A colour (red, green, blue) for each class.

    Returns:
        (h, w, 3) uint8.
    """
    height, width = source.size
    factor = math.ceil(max(height, width) / _SIDE)
    step = factor * max(_ROWS // factor, 1)
    parts = []
    for row in range(0, height, step):
        window = Window(row, 0, min(step, height - row), width)
        few = labels.read(window)[factor // 2 :: factor, factor // 2 :: factor]
        if few.size:
            pixels = cv2.resize(source.read(window), (few.shape[1], few.shape[0]), interpolation=cv2.INTER_AREA)
            parts.append(overlay(pixels.astype(np.uint8, copy=False), few, palette))
    return np.concatenate(parts)
