"""Resizing of 8-bit images and label maps with OpenCV: as in MMSegmentation, and antialiased to a working size."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from segscape.geometry.window import Window, windows

_MOST_ASPECT = 16
"""An image is enlarged at most until its longer side is this multiple of the requested shorter side.

Without the limit a row of pixels would become gigabytes.
"""
_MOST_STRIP_PIXELS = 1 << 21
"""The number of pixels held at a time, of the larger of both images."""


def kept_ratio_size(size: tuple[int, int], base: tuple[int, int]) -> tuple[int, int]:
    """Return the largest size of an image's own aspect whose long and short sides fit those of a base.

    Args:
        size: (height, width) of the image.
        base: Its longer side bounds the image's longer side, its shorter side the shorter; their order does not matter.

    Returns:
        (height, width), each rounded half up and at least 1.
    """
    factor = min(max(base) / max(size), min(base) / min(size))
    height, width = (max(int(side * factor + 0.5), 1) for side in size)
    return height, width


def resize_pixels(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize an image (H, W, 3) bilinearly, without antialiasing, to (height, width)."""
    if image.shape[:2] == size:
        return image
    return cast("npt.NDArray[np.uint8]", cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR))


def resize_indices(labels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize labels (H, W) to (height, width): output pixel i takes input pixel floor(i * in / out) of each axis."""
    if labels.shape == size:
        return labels
    return cast("npt.NDArray[np.uint8]", cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST))


def working_size_of(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """Compute the size at which an image has a given shorter side, by enlarging or reducing it.

    An image is enlarged only until its longer side is 16 times the given shorter side.

    Args:
        size: (height, width) of the image.
        shorter_side: In pixels.

    Returns:
        (height, width) in the image's own aspect, rounded half up and at least 1.
    """
    factor = shorter_side / min(size)
    if factor > 1:
        factor = min(factor, max(_MOST_ASPECT * shorter_side / max(size), 1.0))
    height, width = (max(int(side * factor + 0.5), 1) for side in size)
    return height, width


def resize_smoothly(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize an image (H, W, 3) to (height, width): by area averages where no side grows, else bilinearly.

    Both align the outlines of the two images, so the contents are not shifted.
    """
    if image.shape[:2] == size:
        return image
    if _shrinks((image.shape[0], image.shape[1]), size):
        return cast("npt.NDArray[np.uint8]", cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA))
    # In float32: for 8-bit images OpenCV would round the weights, too.
    larger = cv2.resize(image.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return cast("npt.NDArray[np.uint8]", (larger + 0.5).astype(np.uint8))


def read_smoothly(
    read: Callable[[Window], npt.NDArray[np.uint8]], place: Window, size: tuple[int, int], window: Window
) -> npt.NDArray[np.uint8]:
    """Read a window of a resized rectangle, as `resize_smoothly` resizes it, without holding the whole of it.

    Each pixel is the same whatever window it is in. It differs from that of `resize_smoothly` by at most one of the 256
    levels, and is equal to it where both sides are divided by whole numbers.

    Args:
        read: Returns the pixels (h, w, 3) of a window of the raster.
        place: The rectangle of the raster.
        size: (height, width) that it is resized to.
        window: The window, within that size.

    Returns:
        (window.height, window.width, 3) uint8.
    """
    # The rows and columns of the raster per pixel of the result, rounded up.
    down, across = -(-place.height // size[0]), -(-place.width // size[1])
    rows_at_once = max(_MOST_STRIP_PIXELS // (window.width * across * down), 1)
    strips = windows(window.size, (rows_at_once, window.width))
    made = np.empty((*window.size, 3), np.uint8)
    if (down * size[0], across * size[1]) == place.size:
        # Whole factors: no area that is averaged crosses the border of a strip, so strips are resized on their own.
        for strip in strips:
            corner = place.row + (window.row + strip.row) * down, place.col + window.col * across
            held = read(Window(*corner, strip.height * down, strip.width * across))
            made[strip.slices] = resize_smoothly(held, strip.size)
        return made
    # OpenCV would fit a strip's own outline. These weights depend on the position in the whole result only, so that
    # strips and windows fit together.
    shrinks = _shrinks(place.size, size)
    cols, col_weights = _mixture(window.col, window.stop_col, size[1], place.width, shrinks)
    left, width = int(cols.min()), int(cols.max()) + 1 - int(cols.min())
    for strip in strips:
        top = window.row + strip.row
        rows, row_weights = _mixture(top, top + strip.height, size[0], place.height, shrinks)
        first = int(rows.min())
        held = read(Window(place.row + first, place.col + left, int(rows.max()) + 1 - first, width))
        # Rows first: each lies together in memory.
        mixed = _mixed(held, rows - first, row_weights[..., None, None], axis=0)
        mixed = _mixed(mixed, cols - left, col_weights[..., None], axis=1)
        # The assignment to uint8 truncates, so that this rounds.
        mixed += 0.5
        made[strip.slices] = mixed
    return made


def _shrinks(size: tuple[int, int], target: tuple[int, int]) -> bool:
    return target[0] <= size[0] and target[1] <= size[1]


def _mixture(
    start: int, stop: int, made: int, source: int, shrinks: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Compute the source rows (or columns) and weights of the rows from `start` to `stop` of a resized image.

    Args:
        start: The first row of the resized image.
        stop: The row after the last one.
        made: The number of rows of the whole resized image.
        source: The number of rows of the source.
        shrinks: Whether to average areas, or else to interpolate bilinearly.

    Returns:
        The indices of the source rows and their weights, both (taps, stop - start); the weights of a row sum to 1.
    """
    scale = source / made
    places = np.arange(start, stop)
    if shrinks:
        low = places * scale
        high = np.minimum(low + scale, source)
        # An interval of length `scale` meets at most ceil(scale) + 1 pixels; each weighs by its overlap.
        taps = np.floor(low).astype(np.int64) + np.arange(int(np.ceil(scale)) + 1)[:, None]
        weights = (np.minimum(taps + 1, high) - np.maximum(taps, low)).clip(0)
        weights /= weights.sum(0)
    else:
        position = ((places + 0.5) * scale - 0.5).clip(0, source - 1)
        taps = np.floor(position).astype(np.int64) + np.arange(2)[:, None]
        weights = 1 - np.abs(position - taps)
    # Taps beyond the source have weight 0; they only need an index that exists.
    return taps.clip(0, source - 1), weights.astype(np.float32)


def _mixed(
    values: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    taps: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float32],
    *,
    axis: int,
) -> npt.NDArray[np.float32]:
    total = np.take(values, taps[0], axis) * weights[0]
    for places, share in zip(taps[1:], weights[1:], strict=True):
        total += np.take(values, places, axis) * share
    return cast("npt.NDArray[np.float32]", total)
