"""Checks of user input: devices and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from segscape.rasters.image import read_image, to_rgb


def usable_device(device: str | torch.device | None) -> torch.device:
    """Return the device of that name, by default a GPU where there is one.

    Raises:
        ValueError: There is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"The device {device} cannot be used here ({reason}); leave it out, or use cpu.") from None


def as_pixels(image: str | Path | Image.Image | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert a path, a Pillow image or an array to an array (H, W, 3) uint8, red, green, blue.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or the array is not (H, W, 3) uint8.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(
            f"An image is an array (H, W, 3) of uint8, red, green, blue; this one is {image.shape} of {image.dtype}."
        )
    return image
