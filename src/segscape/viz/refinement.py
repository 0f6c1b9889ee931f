"""Pictures of a mask before and after its refinement, where the two differ most."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

_OUTLINE = (255, 40, 40)


def outline(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], *, thickness: int = 2) -> npt.NDArray[np.uint8]:
    """Draw the edge of a mask into an image.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool.
        thickness: The thickness of the edge, in pixels.

    Returns:
        (H, W, 3) uint8.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(image).copy()
    cv2.drawContours(drawn, contours, -1, _OUTLINE, thickness, cv2.LINE_AA)
    return drawn


def cut_out(image: npt.NDArray[np.uint8], opacity: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Cut an object out of an image, onto white.

    Args:
        image: (H, W, 3) uint8.
        opacity: (H, W) uint8, 255 where the image shows in full.

    Returns:
        (H, W, 3) uint8.
    """
    share = opacity[..., None] / np.float32(255)
    return np.rint(image * share + 255 * (1 - share)).astype(np.uint8)


def most_changed(
    before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], size: tuple[int, int], *, count: int
) -> list[tuple[slice, slice]]:
    """Find the windows in which two masks differ in most pixels.

    Args:
        before: (H, W) bool.
        after: (H, W) bool.
        size: (height, width) of the windows, at most (H, W).
        count: The number of windows, at most.

    Returns:
        The rows and columns of each, most changed first; the windows do not overlap, and the masks differ in each.
    """
    height, width = size
    differing = cv2.integral((before != after).astype(np.uint8))
    sums = differing[height:, width:] - differing[:-height, width:] - differing[height:, :-width]
    sums += differing[:-height, :-width]
    windows: list[tuple[slice, slice]] = []
    while len(windows) < count and sums.max() > 0:
        row, col = (int(place) for place in np.unravel_index(sums.argmax(), sums.shape))
        windows.append((slice(row, row + height), slice(col, col + width)))
        sums[max(row - height + 1, 0) : row + height, max(col - width + 1, 0) : col + width] = 0
    return windows


def before_and_after(
    image: npt.NDArray[np.uint8],
    before: npt.NDArray[np.bool_],
    opacity: npt.NDArray[np.uint8],
    *,
    size: tuple[int, int] = (320, 480),
    count: int = 3,
) -> list[tuple[npt.NDArray[np.uint8], ...]]:
    """Draw pictures of a refined mask: the whole image, then the windows that changed most, at their own scale.

    Args:
        image: (H, W, 3) uint8, no smaller than `size`.
        before: (H, W) bool, the coarse mask.
        opacity: (H, W) uint8, the refined mask.
        size: (height, width) of the windows.
        count: The number of windows, at most.

    Returns:
        For each picture the coarse outline, the refined outline and the object cut out by the refined mask,
        (h, w, 3) uint8, as wide as `size`.
    """
    after = opacity > 127
    width = size[1]
    height = round(image.shape[0] * width / image.shape[1])
    thick = max(2 * image.shape[1] // width, 1)
    # Drawn into the whole image before cropping, since the borders of the windows are no edges.
    fine = [*(outline(image, mask) for mask in (before, after)), cut_out(image, opacity)]
    whole = [*(outline(image, mask, thickness=thick) for mask in (before, after)), fine[-1]]
    pictures = [tuple(_shrunk(x, (height, width)) for x in whole)]
    pictures += [tuple(x[place] for x in fine) for place in most_changed(before, after, size, count=count)]
    return pictures


def _shrunk(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize an image (H, W, 3) to a smaller size (height, width), by averaging."""
    return cast("npt.NDArray[np.uint8]", cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA))
