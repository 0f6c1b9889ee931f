"""Augmentation for images of other cameras, distances and lighting than those of the training set."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from cv2.typing import MatLike
from torchvision import tv_tensors
from torchvision.transforms import v2

from segscape.data.transforms.base import Augmentation, RandomFlip, chance, integer, uniform
from segscape.data.transforms.geometry import MEAN_COLOUR
from segscape.data.transforms.pixels import to_array, to_image, to_mask
from segscape.data.transforms.stdc import QuarterTurn
from segscape.labels import IGNORE_INDEX, LabelSpec

Pixels = npt.NDArray[np.uint8]

_TRIES = 10


class ScaledCrop(v2.Transform):
    """A random crop at a random scale, for which only the crop's box is resized and never the whole image.

    Scales are drawn uniformly by their logarithms. Where a small image does not fill the crop, it has the mean colour
    and no label. Image pixels are averaged where the crop is reduced and interpolated bilinearly where it is enlarged;
    labels take the nearest pixel. Up to ten boxes are drawn until most of one has labels and no class has three
    quarters of them.

    Args:
        size: (height, width) of the crop.
        scales: The range of the factor.
        aspect: The largest ratio between the scales of height and width.
        balanced: The share of the crops that must contain a certain pixel: one of a class that was drawn uniformly
            among the image's classes, so that rare ones are seen often (compare the rare class sampling of
            arXiv:2111.14887).
    """

    def __init__(
        self, size: tuple[int, int], scales: tuple[float, float], *, aspect: float = 1.1, balanced: float = 0.0
    ) -> None:
        super().__init__()
        self.size = size
        self.scales = scales
        self.aspect = aspect
        self.balanced = balanced

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw scale and place: the box in the image, and the part of the crop that it is resized to."""
        labels = next(value.as_subclass(torch.Tensor) for value in flat_inputs if isinstance(value, tv_tensors.Mask))
        scale = math.exp(uniform(*map(math.log, self.scales)))
        pixels = self._pixels_of_a_class(labels) if chance(self.balanced) else None
        for _ in range(_TRIES):
            pixel = None if pixels is None else pixels[integer(0, len(pixels))].tolist()
            params = self._placed(flat_inputs, scale, pixel)
            (top, rows), (left, columns) = params["box"]
            # Every fourth row and column suffice to estimate the shares of the classes.
            seen = labels[top : top + rows : 4, left : left + columns : 4].flatten()
            counts = torch.bincount(seen, minlength=256)[:IGNORE_INDEX]
            if counts.sum() > 0.5 * len(seen) and counts.max() < 0.75 * counts.sum():
                break
        return params

    @staticmethod
    def _pixels_of_a_class(labels: torch.Tensor) -> torch.Tensor | None:
        """Draw a class of the image and return the (row, column) of its pixels; None where nothing has a label."""
        # Labels are (1, H, W) or (H, W). Of a large scene every fourth row and column suffice, which saves time.
        labels = labels.reshape(labels.shape[-2:])
        step = 4 if labels.numel() > 1 << 21 else 1
        seen = labels[::step, ::step]
        present = torch.bincount(seen.flatten(), minlength=256)[:IGNORE_INDEX].nonzero().flatten()
        if len(present) == 0:
            return None
        return (seen == present[integer(0, len(present))]).nonzero() * step

    def _placed(self, flat_inputs: list[Any], scale: float, pixel: list[int] | None) -> dict[str, Any]:
        # Applied to the two axes in opposite directions, so that their scales differ by `aspect` at most.
        apart = math.exp(uniform(-math.log(self.aspect), math.log(self.aspect)) / 2)
        box, target = [], []
        for axis, (side, wanted, factor) in enumerate(
            zip(v2.query_size(flat_inputs), self.size, (scale * apart, scale / apart), strict=True)
        ):
            # The pixels that the box takes of the image along this axis, and those that they fill in the crop: fewer
            # than the crop has only where the image itself is too short.
            taken = min(max(round(wanted / factor), 1), side)
            filled = min(max(round(taken * factor), 1), wanted) if taken == side else wanted
            first, last = 0, side - taken
            if pixel is not None:
                # Only the starts from which the box contains the pixel and stays within the image.
                first, last = max(first, pixel[axis] - taken + 1), min(last, pixel[axis])
            box.append((integer(first, last + 1), taken))
            target.append((integer(0, wanted - filled + 1), filled))
        return {"box": box, "target": target}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut and resize an image or a mask."""
        (top, rows), (left, columns) = params["box"]
        (first_row, height), (first_column, width) = params["target"]
        if not isinstance(inpt, (tv_tensors.Image, tv_tensors.Mask)):
            return inpt
        source = inpt[..., top : top + rows, left : left + columns]
        if isinstance(inpt, tv_tensors.Mask):
            labels = source.as_subclass(torch.Tensor).contiguous().numpy()
            found = np.full(self.size, IGNORE_INDEX, np.uint8)
            # INTER_NEAREST samples half a pixel away from the place that the image's modes sample.
            resized = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            found[first_row : first_row + height, first_column : first_column + width] = resized
            return to_mask(found)
        pixels = to_array(tv_tensors.Image(source))
        # OpenCV averages areas only where both axes shrink, and emulates it by interpolation otherwise.
        reduces = height < rows and width < columns
        resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if reduces else cv2.INTER_LINEAR)
        if (height, width) == self.size:
            return to_image(resized)
        crop = np.full((*self.size, 3), MEAN_COLOUR, np.uint8)
        crop[first_row : first_row + height, first_column : first_column + width] = resized
        return to_image(crop)


class OtherCamera(v2.Transform):
    """The same scene as another camera, lens, light and file format would show it; each step at random.

    Brightness, contrast, gamma and the balance of the colours; saturation and hue; now and then no colour; a shadow
    with a soft edge; blur, coarser pixels, noise, and the blocks of JPEG.
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change an image (3, H, W) uint8; leave anything else."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        pixels = to_array(inpt)
        # Light first, then the lens, then the sensor and the file.
        for probability, step in (
            (0.1, _shadow),
            (0.8, _tones),
            (0.5, _saturation_and_hue),
            (0.03, _grey),
            (0.15, _blur),
            (0.07, _coarse),
            (0.15, _noise),
            (0.2, _jpeg),
        ):
            if chance(probability):
                pixels = step(pixels)
        return to_image(np.ascontiguousarray(pixels))


def _tones(pixels: Pixels) -> Pixels:
    """Change gamma, contrast about the middle, brightness and the gain of each channel, by one table per channel."""
    levels = np.arange(256, dtype=np.float64) / 255
    gamma, contrast, brightness = math.exp(uniform(-0.3, 0.3)), uniform(0.75, 1.25), uniform(-0.1, 0.1)
    toned = (levels**gamma - 0.5) * contrast + 0.5 + brightness
    tables = np.stack([toned * uniform(0.92, 1.08) for _ in range(3)], axis=-1)
    return _lookup(pixels, tables * 255)


def _lookup(pixels: Pixels, tables: npt.NDArray[np.float64]) -> Pixels:
    table = np.clip(np.rint(tables), 0, 255).astype(np.uint8)[None]
    return _as_uint8(cv2.LUT(pixels, table))


def _saturation_and_hue(pixels: Pixels) -> Pixels:
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    levels = np.arange(256, dtype=np.float64)
    # OpenCV's hue has 180 steps.
    hue = (levels + uniform(-6, 6)) % 180
    tables = np.stack([hue, levels * uniform(0.6, 1.4), levels], axis=-1)
    return _as_uint8(cv2.cvtColor(_lookup(_as_uint8(hsv), tables), cv2.COLOR_HSV2RGB))


def _grey(pixels: Pixels) -> Pixels:
    return np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1).astype(np.uint8)


def _shadow(pixels: Pixels) -> Pixels:
    """Darken a half plane or band with a soft edge, like the shadow of a building or a cloud."""
    height, width = pixels.shape[:2]
    angle, reach = uniform(0, 2 * math.pi), math.hypot(height, width)
    rows, columns = np.ogrid[:height, :width]
    # The distance of each pixel from the centre along the drawn direction, which is across the shadow's edge.
    along = (columns - width / 2) * math.cos(angle) + (rows - height / 2) * math.sin(angle)
    start, soft = uniform(-0.4, 0.3) * reach, uniform(0.005, 0.1) * reach
    inside = np.clip((along - start) / soft, 0, 1)
    if chance(0.5):
        inside = inside * np.clip((start + uniform(0.1, 0.5) * reach - along) / soft, 0, 1)
    factor = (1 - uniform(0.2, 0.6) * inside)[..., None].astype(np.float32)
    return (pixels * factor).astype(np.uint8)


def _blur(pixels: Pixels) -> Pixels:
    if chance(0.3):
        # Along one axis, as a camera that moves.
        length = 2 * integer(1, 5) + 1
        return _as_uint8(cv2.blur(pixels, (length, 1) if chance(0.5) else (1, length)))
    return _as_uint8(cv2.GaussianBlur(pixels, (0, 0), uniform(0.4, 2.0)))


def _coarse(pixels: Pixels) -> Pixels:
    """Reduce and enlarge the image again, as if it were a small or shrunken one."""
    height, width = pixels.shape[:2]
    factor = uniform(0.35, 0.8)
    small = (max(round(width * factor), 1), max(round(height * factor), 1))
    reduced = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return _as_uint8(cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR))


def _noise(pixels: Pixels) -> Pixels:
    # From torch's generator, which the sample's seed fixes, and not from NumPy's.
    noise = torch.randn(pixels.shape if chance(0.5) else (*pixels.shape[:2], 1)).numpy()
    return np.clip(pixels + noise * np.float32(uniform(2, 14)), 0, 255).astype(np.uint8)


def _jpeg(pixels: Pixels) -> Pixels:
    # OpenCV takes the channels for blue, green, red both ways, so they return in their order.
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, integer(25, 95)])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def _as_uint8(pixels: MatLike) -> Pixels:
    return np.asarray(pixels, np.uint8)


@dataclass(frozen=True)
class CameraAugmentation(Augmentation):
    """Crops over a wide range of scales, seen by other cameras; see `ScaledCrop` and `OtherCamera`.

    Attributes:
        crop: (height, width) of the crop, in pixels after scaling.
        scales: The range of the factor by which images are scaled.
        flip: The probability of a horizontal flip.
        balanced: The share of the crops that are drawn around a class, every class of an image equally often.
        quarter_turns: Also turn square crops by a random multiple of 90 degrees, as views from above have no upright.

    Raises:
        ValueError: Scales that are no positive range, a share outside [0, 1], or quarter turns of crops that are not
            square.
    """

    crop: tuple[int, int]
    scales: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    balanced: float = 0.0
    quarter_turns: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scales[0] <= self.scales[1]:
            raise ValueError(f"scales must be a positive range (low, high), not {tuple(self.scales)}.")
        if not 0 <= self.balanced <= 1:
            raise ValueError(f"balanced is a share of the crops, from 0 to 1, not {self.balanced}.")
        if self.quarter_turns and self.crop[0] != self.crop[1]:
            raise ValueError(f"Quarter turns need a square crop, not {self.crop[0]} x {self.crop[1]}.")

    def scaled(self, scales: tuple[float, float]) -> CameraAugmentation:
        """Return the same augmentation with another range of scales."""
        return replace(self, scales=scales)

    def build(self, label_spec: LabelSpec) -> v2.Transform:
        """Return the transform from a sample to its augmented crop."""
        steps = [
            ScaledCrop(self.crop, self.scales, balanced=self.balanced),
            RandomFlip(self.flip, label_spec.flip_pairs),
            OtherCamera(),
        ]
        return v2.Compose([*steps, QuarterTurn()] if self.quarter_turns else steps)
