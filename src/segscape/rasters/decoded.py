"""Image files that are decoded whole, by Pillow."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from segscape.files import check_readable
from segscape.geometry.window import Window
from segscape.rasters.gdal import has_rasterio
from segscape.rasters.georeference import Georeference
from segscape.rasters.stored import Band, StoredImage
from segscape.rasters.suffixes import PHOTO_SUFFIXES, TIFF_SUFFIXES
from segscape.rasters.world_file import read_place

_log = logging.getLogger(__name__)

# Larger photographs are read by window as well, where rasterio is installed; this many take 192 MB decoded.
_DECODED_PIXELS = 64_000_000
# Deflate, as in PNG, holds no more bytes in one: a match of 258 bytes takes 2 bits.
_MOST_DEFLATED = 1032
# JPEG holds no more pixels in a byte: each block of 64 takes a bit at least, twice as many pixels are for safety.
_MOST_JPEG_PIXELS = 1024
# Photographs that rasterio does not read, or only as indices of a palette.
_PILLOW_ALONE = frozenset({".avif", ".gif"})
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_header_lock = threading.Lock()


class ImpossibleSizeError(ValueError):
    """A file claims to have more pixels than it can hold."""


class AnimationError(ValueError):
    """A photograph's file holds several frames."""


def open_image(path: Path) -> Image.Image:
    """Open a file as a decoded Pillow image.

    Raises:
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: The file is no image, damaged, or claims a size that it cannot hold; the message names it.
    """
    check_readable(path)
    with _decoding(path):
        image = _open_header(path)
        _check_claim(path, image)
        # An MPO file holds views of one scene, of which the first is the photograph.
        if image.format != "MPO" and getattr(image, "is_animated", False) and path.suffix.lower() in PHOTO_SUFFIXES:
            raise AnimationError(
                f"{path} is an animation; make a video of it, such as {path.stem}.mp4, or give one of its frames."
            )
        image.load()
    return image


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Raise a ValueError that names the file where Pillow cannot decode it within the context."""
    try:
        yield
    except (ImpossibleSizeError, AnimationError):
        raise
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that can be read; PNG, JPEG, WebP and TIFF can.") from None
    except MemoryError:
        raise ValueError(f"{path} is too large to be read whole: there is not enough memory for its pixels.") from None
    except Exception as error:  # whatever the decoder of a format, of damaged bytes, fails with
        reason = f": {error}" if str(error) else ""
        raise ValueError(f"{path} cannot be decoded, it may be cut short or damaged{reason}.") from None


def claimed_size(path: Path) -> tuple[int, int] | None:
    """Return the (height, width) that the header of an image says; None if it cannot be read.

    Raises:
        ImpossibleSizeError: The file is too small for so many pixels.
    """
    try:
        with _open_header(path) as image:
            _check_claim(path, image)
            return image.height, image.width
    except ImpossibleSizeError:
        raise
    except Exception:  # whatever damaged bytes fail with; decoding fails with a message that names the reason
        return None


def _open_header(path: Path) -> Image.Image:
    """Open an image of any size, undecoded; Pillow's own limit is a number of pixels, which large scenes exceed."""
    with _header_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_claim(path: Path, image: Image.Image) -> None:
    """Refuse a header whose pixels the file cannot hold, however they are compressed.

    Raises:
        ImpossibleSizeError: It cannot.
    """
    held = path.stat().st_size
    if image.format == "PNG":
        with path.open("rb") as file:
            depth, kind = file.read(26)[24:]
        row = 1 + -(-image.width * depth * _PNG_CHANNELS.get(kind, 1) // 8)
        is_possible = image.height * row <= held * _MOST_DEFLATED
    elif image.format in ("JPEG", "MPO"):
        is_possible = image.width * image.height <= held * _MOST_JPEG_PIXELS
    else:
        # BMP and PPM are checked by their decoders; WebP has at most 268 million pixels.
        return
    if not is_possible:
        raise ImpossibleSizeError(
            f"{path} claims to have {image.width} x {image.height} pixels, more than its {held:,} bytes can hold."
        )


def upright(image: Image.Image, path: Path) -> Image.Image:
    """Turn an image by its orientation tag; one whose tags are damaged stays as it is, which is logged."""
    try:
        # In place, to avoid a copy of the whole image.
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # whatever damaged tags fail with
        _log.warning("%s: its tags are damaged; it is read without turning it.", path.name)
    return image


def is_decoded_whole(path: Path) -> bool:
    """Return whether a file is decoded whole: photographs of ordinary size, and TIFF without rasterio.

    Raises:
        ImpossibleSizeError: It claims more pixels than it can hold.
    """
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return not has_rasterio()
    if suffix not in PHOTO_SUFFIXES:
        return False
    if suffix in _PILLOW_ALONE:
        return True
    size = claimed_size(path)
    # Without rasterio, photographs of a few times as many pixels still fit into most memories.
    return size is None or math.prod(size) <= _DECODED_PIXELS * (1 if has_rasterio() else 4)


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

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    @cached_property
    def georeference(self) -> Georeference | None:
        """Where it lies, see `StoredImage.georeference`; read when it is asked for, as few commands do."""
        return read_place(self.path) if self.path.suffix.lower() in PHOTO_SUFFIXES else None

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
    with _decoding(path):
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
