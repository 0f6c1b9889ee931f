"""GeoTIFF files of a few bands, read and written whole: class rasters and masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segscape.files import atomic_path
from segscape.rasters.gdal import bounded_gdal, decoding, load_rasterio, open_raster, without_place_warnings
from segscape.rasters.georeference import Georeference, georeference_of

_BLOCK = 256
# Red, green, blue and opacity.
_MOST_BANDS = 4


@dataclass(frozen=True)
class GeoTiff:
    """The contents of a file.

    Attributes:
        bands: (H, W, C), as stored.
        has_alpha: Whether the last band is opacity.
        palette: The colour (red, green, blue) of each value, where there is a colour table.
        georeference: Where it lies.
        class_names: The names of the classes 0, 1, ... of the first band, where its tags hold them.
        overviews: Whether the file holds smaller versions of itself.
    """

    bands: npt.NDArray[Any]
    has_alpha: bool
    palette: tuple[tuple[int, int, int], ...] | None
    georeference: Georeference
    class_names: tuple[str, ...]
    overviews: bool


def read_geotiff(path: Path) -> GeoTiff:
    """Read all bands of a file.

    Raises:
        ModuleNotFoundError: Rasterio is missing; the message names the extra.
        FileNotFoundError: There is no such file.
        ValueError: The file is no TIFF, damaged, or has more bands than a picture; the message names it.
    """
    with open_raster(path) as dataset, decoding(path):
        if dataset.count > _MOST_BANDS:
            raise ValueError(
                f"{path} has {dataset.count} bands; a mask or a class raster has one, or a picture's, which are alike."
            )
        return GeoTiff(
            bands=np.moveaxis(dataset.read(), 0, -1),
            has_alpha=dataset.colorinterp[-1].name == "alpha",
            palette=_palette(dataset),
            georeference=georeference_of(dataset),
            class_names=_class_names(dataset.tags(1)),
            overviews=bool(dataset.overviews(1)),
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
) -> None:
    """Write one band, compressed and tiled; the file appears whole or not at all.

    Args:
        path: The file, with the suffix `.tif` or `.tiff`.
        values: (H, W) uint8.
        georeference: Where the pixels lie; a nodata value that is no 8-bit integer is left out.

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
                if georeference is not None:
                    dataset.update_tags(**georeference.tags)
                dataset.write(values, 1)
        except rasterio.errors.RasterioError as error:
            raise OSError(f"{path} cannot be written: {error}.") from None


def _palette(dataset: Any) -> tuple[tuple[int, int, int], ...] | None:
    try:
        table = dataset.colormap(1)
    except ValueError:
        return None
    return tuple((red, green, blue) for red, green, blue, _ in (table[value] for value in range(len(table))))


def _class_names(tags: dict[str, str]) -> tuple[str, ...]:
    """Return the names that `segscape.rasters.sink.write_label_map` keeps as `class_0`, `class_1` and so on."""
    names: list[str] = []
    while (key := f"class_{len(names)}") in tags:
        names.append(tags[key])
    return tuple(names)
