"""Images and label maps in the formats that Pillow reads: PNG, JPEG, WebP, TIFF and others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from segscape.files import atomic_path
from segscape.rasters.channels import Scaling, guess_scaling
from segscape.rasters.decoded import open_image
from segscape.rasters.source import open_source


def to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Convert an image of any Pillow mode to (H, W, 3) uint8, upright.

    Values that are not of 8 bits are mapped by `guess_scaling`, transparency is dropped, and a camera's orientation tag
    is applied.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image)
        # Pillow widens 16-bit values to 32 bits in some modes.
        held = grey.astype(np.uint16) if grey.dtype.kind == "i" and 0 <= grey.min() <= grey.max() < 2**16 else grey
        scaling, _ = guess_scaling(held)
        return np.repeat(scaling.to_eight_bits(grey)[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def read_image(
    path: str | Path, *, bands: Sequence[int] | None = None, scaling: Scaling | None = None
) -> npt.NDArray[np.uint8]:
    """Read an image of any kind as a whole.

    Args:
        path: The file.
        bands: See `segscape.rasters.channels.choose_channels`.
        scaling: See `choose_channels`.

    Returns:
        (H, W, 3) uint8, red, green, blue, upright.

    Raises:
        ModuleNotFoundError: The format needs rasterio; the message names the extra.
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: The file is no image, or damaged; the message names it.
    """
    with open_source(path, bands=bands, scaling=scaling) as source:
        return source.whole()


def read_labels(path: str | Path) -> npt.NDArray[np.uint8]:
    """Read the palette indices or grey values of a label file, unchanged.

    Args:
        path: A file of one 8-bit channel.

    Returns:
        (H, W) uint8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image, is damaged, or has several channels or more than 8 bits.
    """
    image = open_image(Path(path))
    if image.mode not in ("P", "L"):
        raise ValueError(f"{path} has mode {image.mode}; a label file has one 8-bit channel, grey or with a palette.")
    return np.asarray(image)


def write_image(path: str | Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write an image in the format of the suffix; the file appears whole or not at all.

    Args:
        path: The file.
        pixels: uint8, (H, W) grey, (H, W, 3) red, green, blue, or (H, W, 4) with opacity.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, compress_level=1)


def write_labels(path: str | Path, labels: npt.NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]) -> None:
    """Write a label map as an 8-bit PNG with a palette; the file appears whole or not at all.

    Args:
        path: The file, with the suffix `.png`.
        labels: (H, W) uint8, class indices.
        palette: A colour (red, green, blue) for each class.
    """
    image = Image.fromarray(labels, mode="L")
    # With fewer colours Pillow would store fewer bits, and 255 would not survive.
    full = [*palette, *[(0, 0, 0)] * (256 - len(palette))]
    image.putpalette([channel for colour in full for channel in colour])
    with atomic_path(Path(path)) as temporary:
        image.save(temporary, format="PNG", compress_level=1)
