"""The background of a cut-out: a colour or a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageOps

from segscape.segmentation.inputs import as_pixels

Background = tuple[int, int, int] | npt.NDArray[np.uint8]
"""A colour (red, green, blue), each 0 to 255, or a picture (H, W, 3) uint8."""
BackgroundInput = str | Path | Image.Image | Background
"""A background, a Pillow image, the path of a picture, or a colour as CSS writes it, such as `white` or `#ff8800`."""


def as_background(background: BackgroundInput) -> Background:
    """Return the colour or picture that the input stands for; a string that is a colour is not taken as a path.

    Raises:
        ValueError: A string is neither a colour nor a picture's path, a colour has an opacity or a channel outside 0 to
            255, the picture is damaged, or an array is not (H, W, 3) uint8.
    """
    if isinstance(background, str):
        return _of_text(background)
    if isinstance(background, tuple):
        return _checked(background, background)
    return as_pixels(background)


def background_pixels(background: Background, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return a background of the given size: a picture is scaled to cover it and cropped around its centre.

    Args:
        background: The colour or picture.
        size: (height, width) in pixels.

    Returns:
        (height, width, 3) uint8.
    """
    if isinstance(background, tuple):
        return np.full((*size, 3), background, np.uint8)
    return np.asarray(ImageOps.fit(Image.fromarray(background), size[::-1], Image.Resampling.LANCZOS))


def _of_text(text: str) -> Background:
    try:
        colour = ImageColor.getrgb(text)
    except ValueError:
        if not Path(text).is_file():
            raise ValueError(
                f"The background {text} is neither a colour, such as white or #ff8800, nor a picture's file."
            ) from None
        return as_pixels(text)
    return _checked(colour, text)


def _checked(colour: tuple[int, ...], given: object) -> tuple[int, int, int]:
    if len(colour) != 3 or min(colour) < 0 or max(colour) > 255:
        raise ValueError(
            f"The background {given} is no opaque colour; that has red, green and blue, each from 0 to 255."
        )
    red, green, blue = colour
    return red, green, blue
