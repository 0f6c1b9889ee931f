"""Mean boundary accuracy of masks (how well they follow the edges of the truth), and the IoU of a whole data set.

Paper: CascadePSP, arXiv:2005.02551, which introduces the measure; CRM, arXiv:2111.14482, is scored by it too.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

_RADII = 5
# Rows processed together: few enough for their arrays to stay in the processor's cache.
_MOST_BLOCK_ROWS = 64


def boundary_radii(height: int, width: int) -> tuple[int, ...]:
    """Return the five radii, in pixels, of the bands in which boundary accuracy is measured; small images repeat some.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """
    largest = (height + width) / 300
    return tuple(1 + math.trunc((largest - 1) / _RADII * step) for step in range(_RADII))


def disk_reach(radius: int) -> list[int]:
    """Return how far a disk reaches to either side, in pixels, in the row of its centre and the `radius` rows after it.

    This is OpenCV's elliptic structuring element of 2 * radius + 1 pixels; a reach is rounded to the nearest pixel.
    """
    return [round(math.sqrt(radius**2 - offset**2)) for offset in range(radius + 1)]


def boundary_counts(
    prediction: npt.NDArray[Any], truth: npt.NDArray[Any], *, void: int | None = None
) -> npt.NDArray[np.int64]:
    """Count the pixels near the boundaries of the truth, and those of them that are predicted correctly.

    A pixel is near a boundary if the disk around it holds more than one label. These pixels are the union of the
    morphological gradients of the labels, but they are found without morphology: a row of the disk holds another label
    if the nearest pixel of another label in that row is within the disk's reach. Outside the image there is no label.

    Args:
        prediction: (H, W), boolean or labels.
        truth: (H, W), of the same kind.
        void: The label of pixels that do not count.

    Returns:
        (5, 2) int64: pixels and correct pixels for each of `boundary_radii`.

    Raises:
        ValueError: The two are not of one size.
    """
    if prediction.shape != truth.shape or truth.ndim != 2:
        raise ValueError(f"The prediction is of size {prediction.shape}, the truth of {truth.shape}; one is wanted.")
    radii = boundary_radii(*truth.shape)
    distinct = sorted(set(radii))
    counts = np.zeros((len(distinct), 2), np.int64)
    for top in range(0, len(truth), _MOST_BLOCK_ROWS):
        # The disks of the block's pixels reach into the rows above and below it.
        above = min(top, distinct[-1])
        window = truth[top - above : top + _MOST_BLOCK_ROWS + distinct[-1]]
        # No disk outside these columns holds two labels.
        cols = _near_boundary(window, distinct[-1])
        own = truth[top : top + _MOST_BLOCK_ROWS, cols]
        if not own.size:
            continue
        right = prediction[top : top + _MOST_BLOCK_ROWS, cols] == own
        for number, band in enumerate(_bands(window[:, cols], slice(above, above + len(own)), distinct)):
            if void is not None:
                band &= own != void
            counts[number] += np.count_nonzero(band), np.count_nonzero(band & right)
    return counts[[distinct.index(radius) for radius in radii]]


def boundary_accuracy(prediction: npt.NDArray[Any], truth: npt.NDArray[Any], *, void: int | None = None) -> float:
    """Compute the share of correct pixels near the boundaries of the truth, averaged over the five `boundary_radii`.

    Args:
        prediction: (H, W), boolean, or labels to measure the boundaries between all classes.
        truth: (H, W), of the same kind.
        void: The label of pixels that do not count; their boundaries do.

    Returns:
        Between 0 and 1; NaN where the truth has no boundary.
    """
    near, right = boundary_counts(prediction, truth, void=void).T
    return float(np.mean(right / near)) if near.all() else math.nan


def _near_boundary(labels: npt.NDArray[Any], margin: int) -> slice:
    """Return the range of columns that holds all pixels next to another label, and `margin` more on each side."""
    across = (labels[:, 1:] != labels[:, :-1]).any(0)
    down = (labels[1:] != labels[:-1]).any(0)
    down[1:] |= across
    down[:-1] |= across
    columns = np.flatnonzero(down)
    return slice(max(columns[0] - margin, 0), columns[-1] + margin + 1) if columns.size else slice(0)


def _bands(labels: npt.NDArray[Any], own: slice, radii: list[int]) -> list[npt.NDArray[np.bool_]]:
    """Find the pixels near a boundary, for each radius.

    Args:
        labels: (H, W).
        own: The rows to compute; the other rows are their surroundings.
        radii: In pixels, ascending.

    Returns:
        For each radius (rows, W) bool.
    """
    # Capped just above the largest reach, so that the distances fit the smallest unsigned type.
    apart = _distance_in_row(labels, radii[-1] + 1)
    centre = labels[own]
    bands = [np.zeros(centre.shape, np.bool_) for _ in radii]
    reaches = [disk_reach(radius) for radius in radii]
    for offset in range(-radii[-1], radii[-1] + 1):
        # Only the rows to compute whose row at this offset lies within `labels`.
        first, last = max(own.start + offset, 0), min(own.stop + offset, len(labels))
        rows = slice(first - own.start - offset, last - own.start - offset)
        if first >= last:
            continue
        # `apart` is measured from the label in the pixel's own column. Where that label is another one than the
        # centre's, the distance is 0.
        distance = apart[first:last] * (labels[first:last] == centre[rows]).view(np.uint8)
        for band, reach in zip(bands, reaches, strict=True):
            if abs(offset) < len(reach):
                band[rows] |= distance <= reach[abs(offset)]
    return bands


def _distance_in_row(labels: npt.NDArray[Any], limit: int) -> npt.NDArray[Any]:
    """Compute the distance to the nearest pixel of another label in the same row, at most `limit`; (H, W) unsigned."""
    columns = np.arange(labels.shape[1], dtype=np.int32)
    changes = labels[:, 1:] != labels[:, :-1]
    # The first column of each pixel's run of equal labels, and the column after its last one. The runs at the image's
    # edges extend `limit` beyond it, since there is no other label outside.
    begin = np.full(labels.shape, -limit, np.int32)
    np.copyto(begin[:, 1:], columns[1:], where=changes)
    end = np.full(labels.shape, len(columns) + limit, np.int32)
    np.copyto(end[:, :-1], columns[1:], where=changes)
    np.maximum.accumulate(begin, axis=1, out=begin)
    np.minimum.accumulate(end[:, ::-1], axis=1, out=end[:, ::-1])
    nearest = np.minimum(columns - begin + 1, end - columns)
    return np.minimum(nearest, limit).astype(np.min_scalar_type(limit))


class MaskResult(NamedTuple):
    """The scores of masks, between 0 and 1; NaN where there was nothing to measure.

    Attributes:
        iou: Intersection over union, of the pixels of all images together.
        mba: The mean over the images of their boundary accuracy.
        images: The number of images.
        without_boundary: The number of images that count in the IoU only, because their truth has no boundary.
    """

    iou: float
    mba: float
    images: int
    without_boundary: int


class MaskScores(Metric):
    """IoU and mean boundary accuracy of masks, accumulated over images and processes.

    The IoU divides the intersections of all images together by their unions. A truth that fills the image, or is
    empty, has no boundary; such an image is left out of the mean boundary accuracy, where the authors' script would
    return NaN.
    """

    full_state_update = False
    pixels: Tensor
    accuracy: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("pixels", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("accuracy", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Count a batch of predicted and true masks, both (N, H, W) boolean."""
        self.pixels[0] += (predicted & truth).sum()
        self.pixels[1] += (predicted | truth).sum()
        for one, other in zip(predicted.cpu().numpy(), truth.cpu().numpy(), strict=True):
            accuracy = boundary_accuracy(one, other)
            self.images[0] += 1
            if math.isnan(accuracy):
                self.images[1] += 1
            else:
                self.accuracy += accuracy

    def compute(self) -> MaskResult:
        """Return the scores of everything counted so far."""
        intersection, union = self.pixels.tolist()
        images, without_boundary = self.images.tolist()
        measured = images - without_boundary
        return MaskResult(
            iou=intersection / union if union else math.nan,
            mba=float(self.accuracy) / measured if measured else math.nan,
            images=images,
            without_boundary=without_boundary,
        )
