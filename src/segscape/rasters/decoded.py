"""Image files that are decoded whole, by Pillow."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from segscape.geometry.window import Window
from segscape.rasters.gdal import has_rasterio
from segscape.rasters.stored import Band, StoredImage
from segscape.rasters.suffixes import PHOTO_SUFFIXES, TIFF_SUFFIXES
from segscape.rasters.world_file import read_place

_log = logging.getLogger(__name__)

# Larger photographs are read by window as well, where rasterio is installed; this many take 192 MB decoded.
_DECODED_PIXELS = 64_000_000


def open_image(path: Path) -> Image.Image:
    """Open a file as a decoded Pillow image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image, or damaged; the message names it.
    """
    try:
        with warnings.catch_warnings():
            # The user chose the file, so a large size needs no warning; Pillow still refuses a huge one.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
            image.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that can be read; PNG, JPEG, WebP and TIFF can.") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to be read whole: {error}.") from None
    except Exception as error:  # whatever the decoder of a format, of damaged bytes, fails with
        raise ValueError(f"{path} cannot be decoded, it may be cut short or damaged: {error}.") from None
    return image


def upright(image: Image.Image, path: Path) -> Image.Image:
    """Turn an image by its orientation tag; one whose tags are damaged stays as it is, which is logged."""
    try:
        # In place, to avoid a copy of the whole image.
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # whatever damaged tags fail with
        _log.warning("%s: its tags are damaged; it is read without turning it.", path.name)
    return image


def is_decoded_whole(path: Path) -> bool:
    """Return whether a file is decoded whole: photographs of ordinary size, and what rasterio would be needed for."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return not has_rasterio()
    return suffix in PHOTO_SUFFIXES and not (has_rasterio() and _is_large(path))


class DecodedImage(StoredImage):
    """An image that is decoded whole, upright by its orientation tag.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no image, damaged, or too large to be decoded whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._decoded: _Decoded | None = _decode(path)
        values = self._decoded.values
        self.size = values.shape[0], values.shape[1]
        kinds = ("gray",) if values.shape[2] == 1 else ("red", "green", "blue")
        self.bands = tuple(Band(kind, values.dtype) for kind in kinds)
        self.georeference = read_place(path) if path.suffix.lower() in PHOTO_SUFFIXES else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    def read(self, window: Window, bands: tuple[int, ...]) -> npt.NDArray[Any]:
        """Read some bands of a window, see `StoredImage.read`."""
        values = self._whole().values[window.slices]
        if bands == tuple(range(1, values.shape[2] + 1)):
            return values.copy()
        return values[..., [band - 1 for band in bands]]

    def valid(self, window: Window, bands: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
        """Return which pixels hold data, see `StoredImage.valid`."""
        valid = self._whole().valid
        return None if valid is None else valid[window.slices].copy()

    def close(self) -> None:
        """Release the file and the decoded pixels, see `StoredImage.close`."""
        self._decoded = None

    def _whole(self) -> _Decoded:
        # A local reference, since another thread may close the image meanwhile.
        decoded = self._decoded
        if decoded is None:
            decoded = self._decoded = _decode(self.path)
        return decoded


@dataclass(frozen=True)
class _Decoded:
    """The values of a whole image, (H, W, C), and which of its pixels hold data, (H, W), if some may not."""

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None


def _decode(path: Path) -> _Decoded:
    image = open_image(path)
    if image.format == "PNG" and image.mode in ("RGB", "RGBA") and bit_depth(path) == 16:
        return _decode_deep(path)
    image = upright(image, path)
    valid = np.asarray(image.convert("RGBA").getchannel("A")) > 0 if image.has_transparency_data else None
    if image.mode == "LA":
        image = image.getchannel("L")
    elif image.mode not in ("RGB", "L", "F") and not image.mode.startswith("I"):
        image = image.convert("RGB")
    values = np.asarray(image)
    if image.mode == "I" and image.format == "PNG":
        # Some versions of Pillow open 16-bit PNG in this mode of 32 bits.
        values = values.astype(np.uint16)
    return _Decoded(values if values.ndim == 3 else values[..., None], valid)


def bit_depth(path: Path) -> int:
    """Return the bits of a PNG's channels, which stand at a fixed place in its header."""
    with path.open("rb") as file:
        return file.read(25)[24]


def _decode_deep(path: Path) -> _Decoded:
    """Decode a colour PNG of 16 bits, of which Pillow keeps the upper 8."""
    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise ValueError(f"{path} cannot be decoded, it may be cut short or damaged.")
    valid = values[..., 3] > 0 if values.shape[2] == 4 else None
    return _Decoded(np.ascontiguousarray(values[..., 2::-1]), valid)


def _is_large(path: Path) -> bool:
    """Return whether a photograph has too many pixels to be decoded whole; only its header is read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return math.prod(image.size) > _DECODED_PIXELS
    except Image.DecompressionBombError:
        return True
    except Exception:
        # Decoding it whole fails with a message that names the reason.
        return False
