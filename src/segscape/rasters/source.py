"""Images that are read by window, from files of any size.

`open_source` reads GeoTIFF, COG, VRT, JPEG 2000 and whatever else rasterio opens, block by block. JPEG, PNG, WebP and
BMP of ordinary size are decoded whole, by Pillow. Both give 8-bit red, green and blue.

Values that are not of 8 bits need a `Scaling`. Without one, unsigned 16-bit values are taken to span the full range
from 0 to 65535; other types, whose range is unknown, are refused.
"""

from __future__ import annotations

import math
import os
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from segscape.geometry.window import Window
from segscape.rasters.geotiff import (
    TIFF_SUFFIXES,
    Georeference,
    bounded_gdal,
    check_readable,
    georeference_of,
    has_rasterio,
    open_raster,
)
from segscape.rasters.image import IMAGE_SUFFIXES, open_image

# Larger photographs are read by window as well, where rasterio is installed; this many take 192 MB decoded.
_DECODED_PIXELS = 64_000_000


@dataclass(frozen=True)
class Scaling:
    """A linear mapping of stored values to 8 bits, rounded and clipped to the range.

    Attributes:
        low: The value that becomes 0.
        high: The value that becomes 255.

    Raises:
        ValueError: `low` is not below `high`, or one of them is not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"A scaling goes from a lower to a higher value, not from {self.low} to {self.high}.")

    def to_eight_bits(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Convert values of any real type and shape to uint8; NaN becomes 0."""
        scaled = values.astype(np.result_type(values.dtype, np.float32))
        scaled -= self.low
        scaled *= 255 / (self.high - self.low)
        np.rint(scaled, out=scaled)
        np.nan_to_num(scaled, copy=False, nan=0, posinf=255, neginf=0)
        return scaled.clip(0, 255, out=scaled).astype(np.uint8)


_FULL_RANGE = Scaling(0, 65535)


class Source(ABC):
    """An image of any size, read by window.

    A source is a context manager. It can be pickled, and used in a forked process, where a file that is read by window
    is opened anew.

    Attributes:
        path: The file.
        size: (height, width) in pixels.
        georeference: Where it lies; `None` for an image that is decoded whole.
    """

    size: tuple[int, int]
    georeference: Georeference | None = None

    def __init__(self, path: Path, bands: Sequence[int] | None, scaling: Scaling | None) -> None:
        self.path = path
        self._arguments = (path, bands, scaling)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    @abstractmethod
    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Read a window, (h, w, 3) uint8, red, green, blue; pixels without data have whatever values the file holds.

        Raises:
            ValueError: The window is empty or reaches beyond the image, or the file is damaged there.
        """

    @abstractmethod
    def valid(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """Return which pixels of a window hold data, (h, w) bool, or `None` for every window if none can lack data.

        Pixels lack data by a nodata value, a mask, an opacity of 0 or NaN.

        Raises:
            ValueError: The window is empty or reaches beyond the image, or the file is damaged there.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the file and the decoded pixels; a later read opens it again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_source(path: str | Path, *, bands: Sequence[int] | None = None, scaling: Scaling | None = None) -> Source:
    """Open an image of any size.

    Args:
        path: A file. TIFF without rasterio, and photographs of ordinary size, are decoded whole, and upright by their
            orientation tag.
        bands: The numbers, from 1, of the bands that are red, green and blue, or of one that is grey. By default the
            first three without opacity, or the only one; a colour table is applied.
        scaling: How values become 8-bit ones. By default those of 8 bits stay as they are, and those of 16 bits without
            sign are taken to reach from 0 to 65535.

    Raises:
        ModuleNotFoundError: The format needs rasterio; the message names the extra.
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: It is no image, is damaged or too large to be decoded whole, has no such bands, or values whose
            scaling must be stated; the message names it.
    """
    path = Path(path)
    check_readable(path)
    suffix = path.suffix.lower()
    decoded = not has_rasterio() if suffix in TIFF_SUFFIXES else suffix in IMAGE_SUFFIXES
    if decoded and not (has_rasterio() and _is_large(path)):
        return _DecodedSource(path, bands, scaling)
    return _RasterSource(path, bands, scaling)


class _DecodedSource(Source):
    """An image that is decoded whole, by Pillow."""

    def __init__(self, path: Path, bands: Sequence[int] | None, scaling: Scaling | None) -> None:
        super().__init__(path, bands, scaling)
        self._decoded: _Decoded | None = _decode(path, bands, scaling)
        self.size = self._decoded.size

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        window.check_inside(self.size)
        return self._whole().pixels[window.slices].copy()

    def valid(self, window: Window) -> npt.NDArray[np.bool_] | None:
        window.check_inside(self.size)
        valid = self._whole().valid
        return None if valid is None else valid[window.slices].copy()

    def close(self) -> None:
        self._decoded = None

    def _whole(self) -> _Decoded:
        # A local reference, since another thread may close the source meanwhile.
        decoded = self._decoded
        if decoded is None:
            decoded = self._decoded = _decode(*self._arguments)
        return decoded


@dataclass(frozen=True)
class _Decoded:
    """The pixels of a whole image, (H, W, 3), and which of them hold data, (H, W), if some may not."""

    pixels: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.bool_] | None

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]


def _decode(path: Path, bands: Sequence[int] | None, scaling: Scaling | None) -> _Decoded:
    image = open_image(path)
    # In place, to avoid a copy of the whole image.
    ImageOps.exif_transpose(image, in_place=True)
    valid = np.asarray(image.convert("RGBA").getchannel("A")) > 0 if image.has_transparency_data else None
    values = _plain_values(image)
    count = values.shape[2]
    chosen = _choose_bands(path, bands, colour=range(1, count + 1), count=count)
    scaling = _choose_scaling(path, values.dtype, scaling)
    if chosen != list(range(1, count + 1)):
        values = values[..., [band - 1 for band in chosen]]
    return _Decoded(_three_channels(values, scaling), valid)


@dataclass(frozen=True)
class _Handle:
    """An open dataset, used by one thread at a time, in the process that opened it."""

    dataset: Any
    process: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _RasterSource(Source):
    """An image that is read block by block, through rasterio.

    Reading a window decodes all blocks that it touches. In a file with a single block, as some TIFF files are, that is
    the whole image.
    """

    def __init__(self, path: Path, bands: Sequence[int] | None, scaling: Scaling | None) -> None:
        super().__init__(path, bands, scaling)
        self._handle: _Handle | None = _Handle(open_raster(path))
        dataset = self._handle.dataset
        kinds = [interpretation.name for interpretation in dataset.colorinterp]
        _refuse_strange(path, dataset, kinds)
        colour = [band for band, kind in enumerate(kinds, start=1) if kind != "alpha"]
        self._bands = _choose_bands(path, bands, colour=colour, count=dataset.count)
        self._dtype = np.result_type(*(dataset.dtypes[band - 1] for band in self._bands))
        self._colours = _colour_table(dataset, self._dtype) if bands is None and kinds[0] == "palette" else None
        self._scaling = None if self._colours is not None else _choose_scaling(path, self._dtype, scaling)
        flags = [dataset.mask_flag_enums[band - 1] for band in self._bands]
        self._has_mask = any(flag.name != "all_valid" for of_band in flags for flag in of_band)
        self.size = dataset.height, dataset.width
        self.georeference = georeference_of(dataset)

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        values = self._read(window)
        if self._colours is not None:
            return self._colours[values[..., 0], :3]
        return _three_channels(values, self._scaling)

    def valid(self, window: Window) -> npt.NDArray[np.bool_] | None:
        window.check_inside(self.size)
        is_float = self._dtype.kind == "f"
        has_clear_colour = self._colours is not None and bool((self._colours[:, 3] == 0).any())
        if not (self._has_mask or is_float or has_clear_colour):
            return None
        valid = np.ones(window.size, np.bool_)
        if self._has_mask:
            with self._reading(window) as (dataset, place):
                # A pixel with data may hold the nodata value in one of its bands, but not in all.
                valid = dataset.read_masks(self._bands, window=place).any(axis=0)
        if is_float:
            valid &= ~np.isnan(self._read(window)).any(axis=-1)
        if has_clear_colour:
            assert self._colours is not None
            valid &= self._colours[self._read(window)[..., 0], 3] > 0
        return valid

    def close(self) -> None:
        # A dataset inherited by a forked process belongs to the parent.
        if self._handle is not None and self._handle.process == os.getpid():
            self._handle.dataset.close()
        self._handle = None

    def _read(self, window: Window) -> npt.NDArray[Any]:
        """Read the stored values of the chosen bands, (h, w, C)."""
        with self._reading(window) as (dataset, place):
            return np.moveaxis(dataset.read(self._bands, window=place, out_dtype=self._dtype), 0, -1)

    @contextmanager
    def _reading(self, window: Window) -> Iterator[tuple[Any, Any]]:
        """Yield the dataset, locked for this thread, and the window as rasterio's type."""
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as Place

        window.check_inside(self.size)
        # After a fork the parent's dataset must not be used, and its lock may be held by a thread that does not exist
        # here. After `close` there is no dataset.
        handle = self._handle
        if handle is None or handle.process != os.getpid():
            handle = self._handle = _Handle(open_raster(self.path))
        with handle.lock, bounded_gdal():
            try:
                yield handle.dataset, Place(window.col, window.row, window.width, window.height)
            except RasterioError as error:
                raise ValueError(
                    f"{self.path} cannot be decoded in {window}, it may be cut short or damaged: "
                    f"{error.__cause__ or error}."
                ) from None


def _is_large(path: Path) -> bool:
    """Return whether a photograph has too many pixels to be decoded whole; only its header is read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return math.prod(image.size) > _DECODED_PIXELS
    except Image.DecompressionBombError:
        return True
    except (OSError, SyntaxError, ValueError):
        # Decoding it whole fails with a message that names the reason.
        return False


def _plain_values(image: Image.Image) -> npt.NDArray[Any]:
    """Return an image's values in any mode, without its opacity: (H, W, 1) grey or (H, W, 3) red, green, blue."""
    if image.mode == "LA":
        image = image.getchannel("L")
    elif image.mode not in ("RGB", "L", "F") and not image.mode.startswith("I"):
        image = image.convert("RGB")
    values = np.asarray(image)
    if image.mode == "I" and image.format == "PNG":
        # Some versions of Pillow open 16-bit PNG in this mode of 32 bits.
        values = values.astype(np.uint16)
    return values if values.ndim == 3 else values[..., None]


def _choose_bands(path: Path, bands: Sequence[int] | None, *, colour: Sequence[int], count: int) -> list[int]:
    """Return the numbers of three bands, or of the one that is grey.

    Args:
        path: For the message.
        bands: The numbers that the user asks for, if any.
        colour: The bands that are not opacity.
        count: The number of bands.
    """
    if bands is None:
        if len(colour) == 1 or len(colour) >= 3:
            return list(colour[:3])
        raise ValueError(
            f"{path} has {len(colour)} bands besides opacity, neither grey nor red, green and blue; "
            f"say which to use, such as bands=(1,)."
        )
    if len(bands) not in (1, 3):
        raise ValueError(f"One band or three can be read, not {len(bands)}: {tuple(bands)}.")
    missing = [band for band in bands if not 1 <= band <= count]
    if missing:
        raise ValueError(f"{path} has no band {missing[0]}; its bands are numbered from 1 to {count}.")
    return list(bands)


def _choose_scaling(path: Path, dtype: np.dtype[Any], scaling: Scaling | None) -> Scaling | None:
    if scaling is not None or dtype == np.uint8:
        return scaling
    # Some TIFF files have the other byte order.
    if dtype.newbyteorder("=") == np.uint16:
        return _FULL_RANGE
    raise ValueError(
        f"{path} holds {dtype.name} values, whose range is unknown; say what becomes black and what white, "
        f"such as scaling=Scaling(0, 1)."
    )


def _three_channels(values: npt.NDArray[Any], scaling: Scaling | None) -> npt.NDArray[np.uint8]:
    """Convert values (h, w, 1) or (h, w, 3) to (h, w, 3) uint8."""
    eight_bits = values.astype(np.uint8, copy=False) if scaling is None else scaling.to_eight_bits(values)
    if values.shape[2] == 1:
        return np.repeat(eight_bits, 3, axis=2)
    return np.ascontiguousarray(eight_bits)


def _colour_table(dataset: Any, dtype: np.dtype[Any]) -> npt.NDArray[np.uint8]:
    """Return the colour and opacity of every value of an unsigned dtype, (N, 4); black where the file has none."""
    table = np.zeros((np.iinfo(dtype).max + 1, 4), np.uint8)
    table[:, 3] = 255
    for value, colour in dataset.colormap(1).items():
        table[value] = colour
    return table


def _refuse_strange(path: Path, dataset: Any, kinds: Sequence[str]) -> None:
    """Refuse files that would be read incorrectly."""
    if not kinds:
        raise ValueError(f"{path} holds no bands itself, but files within the file; export one of them as GeoTIFF.")
    if any(name.startswith("complex") for name in dataset.dtypes):
        raise ValueError(f"{path} holds complex numbers; export their magnitude first.")
    if dataset.tags().get("EXIF_Orientation", "1") != "1":
        raise ValueError(
            f"{path} is turned by a camera's orientation tag, which cannot be followed by windows; turn its pixels "
            f"with an image editor first."
        )
