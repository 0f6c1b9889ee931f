"""GeoTIFF files through rasterio: pixels of any bit depth, and their georeference."""

from __future__ import annotations

import importlib.util
import math
import os
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
"""Suffixes of the files that this module reads and writes, in lower case."""

_SEMI_AXIS = 6378137.0
"""The semi-major axis of the WGS 84 ellipsoid, in metres; other ellipsoids differ by less than a thousandth."""
_SQUARED_ECCENTRICITY = 0.00669437999014
"""The squared eccentricity of the WGS 84 ellipsoid."""
_BLOCK = 256
# GDAL's default is a twentieth of all memory. This holds a row of 512 x 512 blocks, 80,000 pixels wide, of three bands.
_CACHE_BYTES = 128 << 20


@dataclass(frozen=True)
class Georeference:
    """Where a raster lies on Earth, and further metadata of its file.

    Attributes:
        crs: The coordinate reference system of the transform or the ground control points, a `rasterio.crs.CRS`;
            `None` where there is none.
        transform: From (column, row) to coordinates of `crs`, an `affine.Affine`; the identity where there is none.
        nodata: The value of pixels without data, if there is one.
        tags: The file's own tags.
        gcps: Ground control points, `rasterio.control.GroundControlPoint`, of a raster without a transform.
        rpcs: Rational polynomial coefficients, a `rasterio.rpc.RPC`, if the file has them.
    """

    crs: Any
    transform: Any
    nodata: float | None = None
    tags: dict[str, str] = field(default_factory=dict)
    gcps: tuple[Any, ...] = ()
    rpcs: Any = None

    @property
    def profile(self) -> dict[str, Any]:
        """The arguments of `rasterio.open` that give a new file the same location."""
        place: dict[str, Any] = {"crs": self.crs}
        if self.gcps:
            place["gcps"] = list(self.gcps)
        elif self.transform != self.transform.identity():
            place["transform"] = self.transform
        if self.rpcs is not None:
            place["rpcs"] = self.rpcs
        return place


@dataclass(frozen=True)
class GeoTiff:
    """The contents of a file.

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
    """Return whether rasterio is installed, so that GeoTIFF can be read and written."""
    return importlib.util.find_spec("rasterio") is not None


def read_geotiff(path: Path) -> GeoTiff:
    """Read all bands of a file.

    Raises:
        ModuleNotFoundError: Rasterio is missing; the message names the extra.
        FileNotFoundError: There is no such file.
        ValueError: The file is no TIFF, or damaged; the message names it.
    """
    with open_raster(path) as dataset, _decoding(path):
        return GeoTiff(
            bands=np.moveaxis(dataset.read(), 0, -1),
            has_alpha=dataset.colorinterp[-1].name == "alpha",
            palette=_palette(dataset),
            georeference=georeference_of(dataset),
        )


def read_georeference(path: Path) -> Georeference:
    """Read the georeference of a file, without its pixels; raises as `read_geotiff` does."""
    with open_raster(path) as dataset:
        return georeference_of(dataset)


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
    rasterio = load_rasterio(path)
    place: dict[str, Any] = {}
    if georeference is not None:
        fits = georeference.nodata is not None and georeference.nodata in range(256)
        place = {**georeference.profile, "nodata": georeference.nodata if fits else None}
    with atomic_path(path) as temporary, bounded_gdal(), without_place_warnings():
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


def load_rasterio(path: Path) -> Any:
    """Import rasterio and return the package; called only when a file needs it.

    Raises:
        ModuleNotFoundError: It is missing; the message names `path` and the extra.
    """
    try:
        import rasterio
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"The raster {path} needs rasterio: pip install 'segscape[raster]', or use PNG.", name="rasterio"
        ) from None
    return rasterio


@contextmanager
def bounded_gdal(**options: str) -> Iterator[None]:
    """Limit GDAL's block cache within the context.

    Args:
        options: Further configuration options of GDAL, by name.
    """
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES, **options):
        yield


@contextmanager
def without_place_warnings() -> Iterator[None]:
    """Suppress the warnings about files without a georeference within the context: plain TIFF is welcome."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def check_readable(path: Path) -> None:
    """Check that a file exists and may be read.

    Raises:
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path} may not be read; its permissions forbid it.")


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
    with _decoding(path), bounded_gdal(), without_place_warnings():
        return rasterio.open(path)


def georeference_of(dataset: Any) -> Georeference:
    """Return the georeference of an open rasterio dataset."""
    # A dataset with ground control points alone has no reference system of its own: it is stored with the points.
    gcps, gcps_crs = dataset.gcps
    return Georeference(
        dataset.crs or gcps_crs, dataset.transform, dataset.nodata, dataset.tags(), tuple(gcps), dataset.rpcs
    )


def ground_resolution(georeference: Georeference, size: tuple[int, int]) -> float | None:
    """Compute the ground resolution in metres a pixel: the side of a square with the area of the central pixel.

    A projected system's unit is taken as its length on the ground, except in Mercator's projection, whose metres
    correspond to less ground towards the poles.

    Args:
        georeference: Where the raster lies.
        size: Its (height, width), in pixels.

    Returns:
        The metres a pixel; `None` where there is no transform, as with ground control points alone, or no coordinate
        reference system that is geographic or projected.
    """
    crs, transform = georeference.crs, georeference.transform
    if crs is None or georeference.gcps or transform == transform.identity():
        return None
    # The determinant is the area of a pixel, of rotated and sheared rasters too.
    side = math.sqrt(abs(transform.determinant))
    row, col = size[0] / 2, size[1] / 2
    x = transform.a * col + transform.b * row + transform.c
    y = transform.d * col + transform.e * row + transform.f
    if crs.is_geographic:
        radians = crs.units_factor[1]
        metres = side * radians * _metres_per_radian(y * radians)
    elif crs.is_projected:
        metres = side * crs.linear_units_factor[1] * _mercator_factor(crs, x, y)
    else:
        return None
    return metres if math.isfinite(metres) and metres > 0 else None


def _metres_per_radian(latitude: float) -> float:
    """Return the geometric mean of the metres per radian northwards and eastwards, at a latitude in radians."""
    flattened = 1 - _SQUARED_ECCENTRICITY * math.sin(latitude) ** 2
    northwards = _SEMI_AXIS * (1 - _SQUARED_ECCENTRICITY) / flattened**1.5
    eastwards = _SEMI_AXIS * math.cos(latitude) / math.sqrt(flattened)
    # The cosine is negative beyond 90 degrees, where a coordinate is no valid latitude.
    return math.sqrt(max(northwards * eastwards, 0))


def _mercator_factor(crs: Any, x: float, y: float) -> float:
    """Return the metres on the ground per metre of a projected system: 1 for all but Mercator's projection."""
    if crs.to_dict().get("proj") not in ("merc", "webmerc"):
        return 1.0
    from rasterio.warp import transform

    _, (latitude,) = transform(crs, "EPSG:4326", [x], [y])
    return math.cos(math.radians(latitude))


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    import rasterio

    try:
        yield
    except rasterio.errors.RasterioError as error:
        raise ValueError(f"{path} cannot be decoded, it may be cut short or damaged: {error}.") from None


def _palette(dataset: Any) -> tuple[tuple[int, int, int], ...] | None:
    try:
        table = dataset.colormap(1)
    except ValueError:
        return None
    return tuple((red, green, blue) for red, green, blue, _ in (table[value] for value in range(len(table))))
