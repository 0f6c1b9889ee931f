"""GeoTIFF files by rasterio: pixels of any depth, and where on Earth they lie."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segscape.files import atomic_path

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
"""Suffixes of the files that are read and written here, in lower case."""

_BLOCK = 256


@dataclass(frozen=True)
class Georeference:
    """Where a raster lies and what else its file says of it.

    Attributes:
        crs: The coordinate reference system, as rasterio has it; `None` where there is none.
        transform: From (column, row) to coordinates of `crs`, an `affine.Affine`.
        nodata: The value of pixels without data, if there is one.
        tags: The file's own tags.
    """

    crs: Any
    transform: Any
    nodata: float | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GeoTiff:
    """What a file holds.

    Attributes:
        bands: (H, W, C), as stored.
        has_alpha: Whether the last band is opacity.
        palette: The colour (red, green, blue) of each value, where there is a colour table.
        georeference: Where it lies.
    """

    bands: npt.NDArray[Any]
    has_alpha: bool
    palette: tuple[tuple[int, int, int], ...] | None
    georeference: Georeference


def has_rasterio() -> bool:
    """Whether GeoTIFF can be read and written here."""
    return importlib.util.find_spec("rasterio") is not None


def read_geotiff(path: Path) -> GeoTiff:
    """Read all bands of a file.

    Raises:
        ModuleNotFoundError: Rasterio is missing; the message names the extra.
        FileNotFoundError: There is no such file.
        ValueError: The file is no TIFF, or damaged; the message names it.
    """
    with _opened(path) as dataset:
        return GeoTiff(
            bands=np.moveaxis(dataset.read(), 0, -1),
            has_alpha=dataset.colorinterp[-1].name == "alpha",
            palette=_palette(dataset),
            georeference=_georeference(dataset),
        )


def read_georeference(path: Path) -> Georeference:
    """Where a file lies, without reading its pixels; raises as `read_geotiff` does."""
    with _opened(path) as dataset:
        return _georeference(dataset)


def write_geotiff(
    path: Path,
    values: npt.NDArray[np.uint8],
    *,
    georeference: Georeference | None = None,
    palette: Sequence[tuple[int, int, int]] | None = None,
) -> None:
    """Write one band, compressed and tiled; the file appears whole or not at all.

    Args:
        path: The file, with the suffix `.tif` or `.tiff`.
        values: (H, W) uint8.
        georeference: Where the pixels lie; a nodata value that is no 8-bit integer is left out.
        palette: A colour (red, green, blue) for each value.

    Raises:
        ModuleNotFoundError: Rasterio is missing; the message names the extra.
        OSError: The file cannot be written.
    """
    rasterio = _rasterio(path)
    place: dict[str, Any] = {}
    if georeference is not None:
        fits = georeference.nodata is not None and georeference.nodata in range(256)
        place = {
            "crs": georeference.crs,
            "transform": georeference.transform,
            "nodata": georeference.nodata if fits else None,
        }
    with atomic_path(path) as temporary, _quiet(rasterio):
        try:
            with rasterio.open(
                temporary,
                "w",
                driver="GTiff",
                height=values.shape[0],
                width=values.shape[1],
                count=1,
                dtype="uint8",
                compress="deflate",
                tiled=True,
                blockxsize=_BLOCK,
                blockysize=_BLOCK,
                **place,
            ) as dataset:
                if palette:
                    dataset.write_colormap(1, {value: (*colour, 255) for value, colour in enumerate(palette)})
                if georeference is not None:
                    dataset.update_tags(**georeference.tags)
                dataset.write(values, 1)
        except rasterio.errors.RasterioError as error:
            raise OSError(f"{path} cannot be written: {error}.") from None


def _rasterio(path: Path) -> Any:
    try:
        import rasterio
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"The GeoTIFF {path} needs rasterio: pip install 'segscape[raster]', or use PNG.", name="rasterio"
        ) from None
    return rasterio


@contextmanager
def _quiet(rasterio: Any) -> Iterator[None]:
    """Without warnings of files that lie nowhere: plain TIFF is welcome."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    rasterio = _rasterio(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with _quiet(rasterio), rasterio.open(path) as dataset:
            yield dataset
    except rasterio.errors.RasterioError as error:
        raise ValueError(f"{path} cannot be decoded, it may be cut short or damaged: {error}.") from None


def _georeference(dataset: Any) -> Georeference:
    return Georeference(dataset.crs, dataset.transform, dataset.nodata, dataset.tags())


def _palette(dataset: Any) -> tuple[tuple[int, int, int], ...] | None:
    try:
        table = dataset.colormap(1)
    except ValueError:
        return None
    return tuple((red, green, blue) for red, green, blue, _ in (table[value] for value in range(len(table))))
