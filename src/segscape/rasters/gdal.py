"""GDAL through rasterio: files are opened, its cache is limited, its errors become sentences."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from segscape.files import check_readable
from segscape.rasters.stored import Band

# GDAL's default is a twentieth of all memory. This holds a row of 512 x 512 blocks, 80,000 pixels wide, of three bands.
_CACHE_BYTES = 128 << 20
# A file is opened as what its suffix says: GDAL would go by the content, and a text that is called .tif may name other
# files, or addresses to ask.
_DRIVERS = {
    ".bmp": "BMP",
    ".j2k": "JP2OpenJPEG",
    ".jfif": "JPEG",
    ".jp2": "JP2OpenJPEG",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".mpo": "JPEG",
    ".png": "PNG",
    ".ppm": "PNM",
    ".tif": "GTiff",
    ".tiff": "GTiff",
    ".vrt": "VRT",
    ".webp": "WEBP",
}
_LISTING_DRIVERS = frozenset(
    ("DERIVED", "GTI", "HTTP", "OGCAPI", "PLMOSAIC", "STACIT", "STACTA", "VRT", "WCS", "WMS", "WMTS", "ZARR")
)
"""Drivers of formats that are lists of other files or addresses; only a suffix of theirs opens them."""


def has_rasterio() -> bool:
    """Return whether rasterio is installed, so that GeoTIFF can be read and written."""
    return importlib.util.find_spec("rasterio") is not None


def load_rasterio(path: Path) -> Any:
    """Import rasterio and return the package; called only when a file needs it.

    Raises:
        ModuleNotFoundError: It is missing; the message names `path` and the extra.
    """
    try:
        import rasterio
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"The raster {path} needs rasterio: pip install rasterio, or use PNG.", name="rasterio"
        ) from None
    _drop_failures_of_logging()
    return rasterio


@cache
def _drop_failures_of_logging() -> None:
    """Have rasterio print nothing where a message of GDAL is no UTF-8, as one that quotes a damaged file."""
    show = sys.unraisablehook

    def show_others(failure: Any) -> None:
        if not (isinstance(failure.exc_value, UnicodeDecodeError) and "rasterio" in str(failure.object)):
            show(failure)

    sys.unraisablehook = show_others


@contextmanager
def bounded_gdal(**options: str) -> Iterator[Any]:
    """Limit GDAL's block cache within the context, a `rasterio.Env`, which is yielded.

    Args:
        options: Further configuration options of GDAL, by name.
    """
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES, **options) as environment:
        yield environment


@contextmanager
def without_place_warnings() -> Iterator[None]:
    """Suppress the warnings about files without a georeference within the context: plain TIFF is welcome."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def open_raster(path: Path) -> Any:
    """Open a file as a rasterio dataset.

    Raises:
        ModuleNotFoundError: Rasterio is missing; the message names the extra.
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: It is no raster, or damaged; the message names it.
    """
    rasterio = load_rasterio(path)
    check_readable(path)
    driver = _DRIVERS.get(path.suffix.lower())
    with decoding(path), bounded_gdal() as environment, without_place_warnings():
        if driver is not None:
            return rasterio.open(path, driver=driver)
        return rasterio.io.DatasetReader(path, driver=sorted(environment.drivers().keys() - _LISTING_DRIVERS))


def bands_of(dataset: Any) -> tuple[Band, ...]:
    """Return the bands of an open rasterio dataset."""
    bands = []
    for number, (interpretation, name) in enumerate(zip(dataset.colorinterp, dataset.dtypes, strict=True), start=1):
        dtype, colours = np.dtype(name), None
        if interpretation.name == "palette":
            # Black where the file's table has no colour.
            colours = np.zeros((np.iinfo(dtype).max + 1, 4), np.uint8)
            colours[:, 3] = 255
            for value, colour in dataset.colormap(number).items():
                colours[value] = colour
        bands.append(Band(interpretation.name, dtype, colours))
    return tuple(bands)


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Raise a ValueError that names the file where rasterio cannot decode it within the context."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import CRSError, RasterioError

    try:
        yield
    # GDAL's own errors, which rasterio exports only from this private module, come through where it has none for them.
    except (RasterioError, CPLE_BaseError, CRSError, UnicodeDecodeError) as error:
        if "not recognized as being in a supported" in str(error):
            kind = path.suffix.lower().lstrip(".")
            if f".{kind}" in _DRIVERS:
                raise ValueError(f"{path} is no {kind} file, or its beginning is damaged.") from None
            raise ValueError(f"{path} is in no format that can be read; convert it to PNG, JPEG or TIFF.") from None
        raise ValueError(f"{path} cannot be decoded, it may be cut short or damaged: {error}.") from None
