"""A reduced picture of a scene, overlaid with the colours of its classes."""

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
"""The longest side of the picture, in pixels; larger scenes are reduced."""
_ROWS = 512
"""Rows of the scene that are read at a time, about."""


def preview(source: Source, labels: Readable, palette: Sequence[tuple[int, int, int]]) -> npt.NDArray[np.uint8]:
    """Overlay a scene with its classes' colours, reduced by a whole factor to sides of at most 4096 pixels.

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
        # Labels cannot be averaged: the one in the middle stands for each square.
        few = labels.read(window)[factor // 2 :: factor, factor // 2 :: factor]
        if few.size:
            pixels = cv2.resize(source.read(window), (few.shape[1], few.shape[0]), interpolation=cv2.INTER_AREA)
            parts.append(overlay(pixels.astype(np.uint8, copy=False), few, palette))
    return np.concatenate(parts)
