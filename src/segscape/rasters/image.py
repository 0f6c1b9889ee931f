"""Images and label maps in the formats that Pillow reads: PNG, JPEG, WebP, TIFF and others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from segscape.files import atomic_path
from segscape.rasters.channels import Scaling, guess_scaling
from segscape.rasters.decoded import bit_depth, open_image, upright
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
    """Read the palette indices or grey values of a label file; see `read_label_image`."""
    return read_label_image(path)[0]


def read_label_image(path: str | Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """Read the palette indices or grey values of a label file, unchanged, upright, and its palette.

    A file of one bit has the values 0 and 1. Files of 16 or 32 bits, and of floating-point numbers, are read if their
    values are whole numbers of 8 bits, and those with opacity if every pixel is opaque.

    Args:
        path: A file of one channel.

    Returns:
        (H, W) uint8, the values; and (256, 3) uint8, the colour of each, None if the file has no palette.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image, is damaged, has several channels, or values that are no labels.
    """
    path = Path(path)
    image = open_image(path)
    shades = 2 ** min(bit_depth(path), 8) if image.format == "PNG" and image.mode == "L" else 256
    image = upright(image, path)
    if image.mode in ("LA", "PA"):
        if image.getchannel("A").getextrema()[0] != 255:
            raise ValueError(f"{path} has transparent pixels; save it without opacity, and give those pixels a value.")
        image = image.getchannel(image.mode[0])
    if not (image.mode in ("1", "L", "P", "F") or image.mode.startswith("I")):
        raise ValueError(f"{path} has mode {image.mode}; a label file has one channel, grey or with a palette.")
    values = np.asarray(image)
    if image.mode == "L" and shades < 256:
        # Pillow spreads fewer bits over the range from 0 to 255.
        values = values // np.uint8(255 // (shades - 1))
    labels = values.astype(np.uint8)
    if values.dtype != np.bool_ and not np.array_equal(labels, values):
        raise ValueError(
            f"{path} has values from {values.min():g} to {values.max():g}; labels are whole numbers from 0 to 255."
        )
    colours = image.getpalette("RGB") if image.mode == "P" else None
    if colours is None:
        return labels, None
    return labels, np.array([*colours, *[0] * (768 - len(colours))], np.uint8).reshape(256, 3)


def read_grey(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image of any kind as grey levels; colours are weighted as in ITU-R 601-2.

    Returns:
        (H, W) uint8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image, or damaged; the message names it.
    """
    return np.array(Image.fromarray(read_image(path)).convert("L"))


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
