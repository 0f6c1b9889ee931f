"""Raster files that are read block by block, through rasterio."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segscape.geometry.window import Window
from segscape.messages import say_once
from segscape.rasters.gdal import bands_of, bounded_gdal, decoding, open_raster
from segscape.rasters.georeference import Georeference, georeference_of, ground_resolution
from segscape.rasters.stored import StoredImage
from segscape.rasters.suffixes import PHOTO_SUFFIXES
from segscape.rasters.world_file import read_place

_log = logging.getLogger(__name__)


class RasterFile(StoredImage):
    """A raster that is read by window.

    Reading a window decodes all blocks that it touches. In a file with a single block, as some TIFF files are, that is
    the whole image.

    Args:
        path: The file.

    Raises:
        ModuleNotFoundError: Rasterio is missing; the message names the extra.
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: It is no raster, damaged, or turned by an orientation tag.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: _Handle | None = _Handle(open_raster(path))
        with decoding(path):
            self._describe(self._handle.dataset)

    def _describe(self, dataset: Any) -> None:
        """Take over what a dataset says of itself."""
        path = self.path
        if dataset.tags().get("EXIF_Orientation", "1") != "1":
            raise ValueError(
                f"{path} is turned by a camera's orientation tag, which cannot be followed by windows; turn its "
                "pixels with an image editor first."
            )
        if dataset.photometric is not None and dataset.photometric.name == "cielab":
            raise ValueError(f"{path} holds CIELAB colours, not red, green and blue; convert it to RGB first.")
        if dataset.driver == "GTiff" and len(dataset.subdatasets) > 1:
            say_once(_log, f"{path.name}: it holds {len(dataset.subdatasets)} images, of which the first is read.")
        self.size = dataset.height, dataset.width
        self.bands = bands_of(dataset)
        self._georeference = georeference_of(dataset)
        self.resolution = ground_resolution(self._georeference, self.size)
        # Of each band: whether some pixels may lack data.
        self._has_mask = [any(flag.name != "all_valid" for flag in flags) for flags in dataset.mask_flag_enums]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    @cached_property
    def georeference(self) -> Georeference | None:
        """Where it lies, see `StoredImage.georeference`."""
        is_photo = self.path.suffix.lower() in PHOTO_SUFFIXES
        return (read_place(self.path) if is_photo else None) or self._georeference

    def read(self, window: Window, bands: tuple[int, ...]) -> npt.NDArray[Any]:
        """Read some bands of a window, see `StoredImage.read`."""
        dtype = np.result_type(*(self.bands[band - 1].dtype for band in bands))
        with self._reading(window) as (dataset, place):
            return np.moveaxis(dataset.read(bands, window=place, out_dtype=dtype), 0, -1)

    def valid(self, window: Window, bands: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
        """Return which pixels hold data, see `StoredImage.valid`."""
        if not any(self._has_mask[band - 1] for band in bands):
            return None
        with self._reading(window) as (dataset, place):
            # A pixel with data may hold the nodata value in one of its bands, but not in all.
            valid: npt.NDArray[np.bool_] = dataset.read_masks(bands, window=place).any(axis=0)
        return valid

    def close(self) -> None:
        """Close the file, see `StoredImage.close`."""
        # A dataset inherited by a forked process belongs to the parent.
        if self._handle is not None and self._handle.process == os.getpid():
            self._handle.dataset.close()
        self._handle = None

    @contextmanager
    def _reading(self, window: Window) -> Iterator[tuple[Any, Any]]:
        """Yield the dataset, locked for this thread, and the window as rasterio's type."""
        from rasterio._err import CPLE_BaseError
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as Place

        # After a fork the parent's dataset must not be used, and its lock may be held by a thread that does not exist
        # here. After `close` there is no dataset.
        handle = self._handle
        if handle is None or handle.process != os.getpid():
            handle = self._handle = _Handle(open_raster(self.path))
        with handle.lock, bounded_gdal():
            try:
                yield handle.dataset, Place(window.col, window.row, window.width, window.height)
            except (RasterioError, CPLE_BaseError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"{self.path} cannot be decoded in {window}, it may be cut short or damaged: "
                    f"{error.__cause__ or error}."
                ) from None


@dataclass(frozen=True)
class _Handle:
    """An open dataset, used by one thread at a time, in the process that opened it."""

    dataset: Any
    process: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
