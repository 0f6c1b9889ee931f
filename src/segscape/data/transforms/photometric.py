"""MMSegmentation's photometric distortion, on 8-bit pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike
from torchvision import tv_tensors
from torchvision.transforms import v2

from segscape.data.transforms.base import chance, integer, uniform
from segscape.data.transforms.pixels import to_array, to_image

# Of the official pipelines: brightness in grey levels, factors of contrast and saturation, hue in steps of two degrees.
_BRIGHTNESS = 32.0
_FACTORS = 0.5, 1.5
_HUE = 18
# OpenCV's hue runs from 0 to 179 in 8 bits.
_HUES = 180

_LEVELS = np.arange(256, dtype=np.float32)


def _scaled_levels(factor: float, offset: float = 0.0) -> npt.NDArray[np.uint8]:
    """Return the new value of each of the 256 levels: clipped, its fraction dropped."""
    levels: npt.NDArray[np.float32] = np.clip(_LEVELS * np.float32(factor) + np.float32(offset), 0, 255)
    return levels.astype(np.uint8)


def _hue_table(shift: int) -> npt.NDArray[np.uint8]:
    return ((np.arange(256) + shift) % _HUES).astype(np.uint8)


def _change_channel(pixels: MatLike, channel: int, table: npt.NDArray[np.uint8]) -> MatLike:
    """Map one channel (0 hue, 1 saturation) of the image's HSV form through a table."""
    hsv = list(cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)))
    hsv[channel] = cv2.LUT(hsv[channel], table)
    return cv2.cvtColor(cv2.merge(hsv), cv2.COLOR_HSV2RGB)


class PhotometricDistortion(v2.Transform):
    """Brightness, contrast, saturation and hue, each with probability 1/2.

    Contrast comes second or, with probability 1/2, last. After each step the pixels are 8 bits again, their fractions
    dropped; saturation and hue are changed in OpenCV's 8-bit HSV.

    MMSegmentation converts its BGR pixels properly, as here. sssegmentation applies the RGB conversions to BGR pixels;
    that mirrors the hue circle about green (h becomes 120 - h), so a shift of k there is one of -k here. Shifts are
    even over -18 to 17 here and -17 to 18 there; nothing else differs but the rounding of the conversion.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the amount of every step, None for a step that is left out."""
        return {
            "brightness": uniform(-_BRIGHTNESS, _BRIGHTNESS) if chance(0.5) else None,
            "contrast": uniform(*_FACTORS) if chance(0.5) else None,
            "contrast_last": chance(0.5),
            "saturation": uniform(*_FACTORS) if chance(0.5) else None,
            "hue": integer(-_HUE, _HUE) if chance(0.5) else None,
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change an image (3, H, W) uint8; leave anything else."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        pixels: MatLike = to_array(inpt)
        contrast = None if params["contrast"] is None else _scaled_levels(params["contrast"])
        if params["brightness"] is not None:
            pixels = cv2.LUT(pixels, _scaled_levels(1.0, params["brightness"]))
        if contrast is not None and not params["contrast_last"]:
            pixels = cv2.LUT(pixels, contrast)
        if params["saturation"] is not None:
            pixels = _change_channel(pixels, 1, _scaled_levels(params["saturation"]))
        if params["hue"] is not None:
            pixels = _change_channel(pixels, 0, _hue_table(params["hue"]))
        if contrast is not None and params["contrast_last"]:
            pixels = cv2.LUT(pixels, contrast)
        return to_image(pixels)
