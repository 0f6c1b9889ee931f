"""Writing of label maps, confidences and scores of any size, block by block, to files that other programs open.

GeoTIFF is written as a cloud-optimised GeoTIFF (COG): in blocks of 512 x 512, compressed, with overviews and with the
place of the scene. A label map holds its class names twice: as tags of its band (`class_0`, `class_1`, ...), which
rasterio shows, and as GDAL's category names, which QGIS shows in its legend. GDAL 3.10 keeps the latter in a small file
beside the map, `<name>.aux.xml`; the map is complete without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from segscape.files import atomic_path, cannot_be_written
from segscape.geometry.window import Readable, Window, windows
from segscape.rasters.gdal import bounded_gdal, has_rasterio, load_rasterio, without_place_warnings
from segscape.rasters.georeference import Georeference
from segscape.rasters.image import write_labels
from segscape.rasters.suffixes import TIFF_SUFFIXES
from segscape.rasters.world_file import write_place

OnProgress = Callable[[int, int], None]
"""A function of the number of pixels written so far and the number of all pixels."""

_BLOCK = 512
# The most values held at once, unless a single block has more.
_VALUES = 16 << 20
# Above this a PNG is written row by row, by GDAL.
_PNG_PIXELS = 64_000_000
# The type and the checksum of the empty chunk that ends every PNG.
_PNG_END = b"IEND\xaeB`\x82"
_PLACE = ("OFFSET", "SIZE")


@dataclass(frozen=True)
class _Content:
    """The description of a file's values.

    Attributes:
        bands: A name for each band.
        georeference: Where the pixels lie.
        nodata: The value of pixels without data.
        palette: The colour of each value of a label map; empty for other values.
        class_names: The names of a label map's classes; empty for other values.
        resampling: GDAL's name of the resampling method for overviews.
        mask: The mask of a GeoTIFF's pixels, (H, W) uint8, 0 where there is no data.
    """

    bands: tuple[str, ...]
    georeference: Georeference | None
    nodata: int | None
    palette: tuple[tuple[int, int, int], ...] = ()
    class_names: tuple[str, ...] = ()
    resampling: str = "AVERAGE"
    mask: Readable | None = None


def write_label_map(
    path: Path,
    labels: Readable,
    *,
    palette: Sequence[tuple[int, int, int]],
    class_names: Sequence[str],
    georeference: Georeference | None = None,
    nodata: int | None = None,
    overviews: bool = True,
    on_progress: OnProgress | None = None,
) -> None:
    """Write a label map with its colours; it appears whole or not at all.

    Args:
        path: The file: `.tif` or `.tiff` for GeoTIFF with class names and, by the most frequent label, overviews;
            `.png` for a PNG with a palette.
        labels: (H, W) uint8, class indices.
        palette: A colour (red, green, blue) for each class.
        class_names: A name for each class.
        georeference: Where the scene lies. A GeoTIFF takes over its location and tags, but not its nodata value, which
            has another meaning among labels.
        nodata: The label of pixels without data, if there may be any.
        overviews: Add smaller versions to a GeoTIFF, each half the size of the one before.
        on_progress: Called after each block.

    Raises:
        ModuleNotFoundError: Rasterio is missing for a GeoTIFF.
        ValueError: The suffix is none of these.
        OSError: The file cannot be written; the message says how much room the disk has left.
    """
    content = _Content(("class",), georeference, nodata, tuple(palette), tuple(class_names), "MODE")
    _write(path, labels, content, overviews, on_progress)


def write_bands(
    path: Path,
    values: Readable,
    *,
    names: Sequence[str],
    georeference: Georeference | None = None,
    mask: Readable | None = None,
    overviews: bool = True,
    on_progress: OnProgress | None = None,
) -> None:
    """Write confidences or the scores of all classes; the file appears whole or not at all.

    Args:
        path: The file: `.tif` or `.tiff` for GeoTIFF with averaged overviews; `.png` for one band in grey.
        values: (H, W) or (H, W, K) uint8, probabilities times 255.
        names: The names of the K bands of a GeoTIFF.
        georeference: See `write_label_map`.
        mask: 0 where there is no data, else 255, (H, W) uint8, if any pixel may lack data: every value is a
            probability, so none can mark these pixels. PNG has no place for it.
        overviews: See `write_label_map`.
        on_progress: Called after each block.

    Raises:
        ModuleNotFoundError: Rasterio is missing for a GeoTIFF.
        ValueError: The suffix is none of these, or several bands are to become PNG.
        OSError: The file cannot be written; the message says how much room the disk has left.
    """
    _write(path, values, _Content(tuple(names), georeference, None, mask=mask), overviews, on_progress)


def _write(path: Path, values: Readable, content: _Content, overviews: bool, on_progress: OnProgress | None) -> None:
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        options = {
            "driver": "COG",
            "BLOCKSIZE": _BLOCK,
            "COMPRESS": "DEFLATE",
            "BIGTIFF": "IF_SAFER",
            "OVERVIEWS": "AUTO" if overviews else "NONE",
            "OVERVIEW_RESAMPLING": content.resampling,
            "NUM_THREADS": "ALL_CPUS",
        }
        with ExitStack() as files:
            if content.class_names:
                # Appears only after the map is complete, when the stack is left.
                beside = files.enter_context(atomic_path(path.with_name(f"{path.name}.aux.xml")))
                _write_category_names(beside, path, content.class_names)
            _write_by_blocks(path, values, content, options, on_progress)
    elif suffix != ".png":
        raise ValueError(f"{path} does not end in .tif, .tiff or .png, the formats that can be written.")
    elif len(content.bands) > 1:
        raise ValueError(f"{path} would need {len(content.bands)} bands, which PNG has not; use .tif.")
    else:
        _write_png(path, values, content, on_progress)


def _write_png(path: Path, values: Readable, content: _Content, on_progress: OnProgress | None) -> None:
    # Before the picture, so that it never lies without its place.
    write_place(path, content.georeference)
    if math.prod(values.size) > _PNG_PIXELS and has_rasterio():
        # With a nodata value GDAL would write those pixels transparent.
        content = replace(content, georeference=None, nodata=None)
        _write_by_blocks(path, values, content, {"driver": "PNG", "ZLEVEL": 1}, on_progress)
        return
    pixels = values.read(Window(0, 0, *values.size)).reshape(values.size)
    if content.palette:
        write_labels(path, pixels, content.palette)
    else:
        with atomic_path(path) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)
    if on_progress is not None:
        on_progress(math.prod(values.size), math.prod(values.size))


def _write_by_blocks(
    path: Path, values: Readable, content: _Content, options: dict[str, Any], on_progress: OnProgress | None
) -> None:
    """Write a plain GeoTIFF by blocks first, then have GDAL copy it into the final format.

    Args:
        path: The file.
        values: The values to write.
        content: Their description.
        options: The driver of the final format, and its creation options.
        on_progress: Called after each block.
    """
    load_rasterio(path)
    from rasterio.shutil import copy

    # Otherwise GDAL might leave its .aux.xml files beside the temporary ones.
    gdal = bounded_gdal(GDAL_PAM_ENABLED="NO", GDAL_TIFF_INTERNAL_MASK="YES")
    with atomic_path(path) as temporary, gdal, without_place_warnings(), _disk_errors(path):
        # GDAL writes COG and PNG only as a copy of a whole raster, so the blocks go to an intermediate file first.
        blocks = temporary.with_suffix(".blocks.tif")
        try:
            _write_blocks(blocks, values, content, on_progress)
            _check_complete(blocks)
            copy(blocks, temporary, **options)
            _check_complete(temporary)
        finally:
            blocks.unlink(missing_ok=True)
            # The COG driver's own temporary file of overviews.
            temporary.with_name(f"{temporary.name}.ovr.tmp").unlink(missing_ok=True)


def _write_blocks(path: Path, values: Readable, content: _Content, on_progress: OnProgress | None) -> None:
    import rasterio
    from rasterio.windows import Window as Place

    location = {} if content.georeference is None else content.georeference.profile
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": len(content.bands),
        "height": values.size[0],
        "width": values.size[1],
        "nodata": content.nodata,
        "tiled": True,
        "blockxsize": _BLOCK,
        "blockysize": _BLOCK,
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "if_safer",
    }
    done, total = 0, math.prod(values.size)
    # Windows of whole blocks, so that each block is compressed and written once.
    blocks_in_row = max(_VALUES // (_BLOCK * _BLOCK * len(content.bands)), 1)
    with rasterio.open(path, "w", **profile, **location) as dataset:
        _describe(dataset, content)
        for window in windows(values.size, (_BLOCK, blocks_in_row * _BLOCK)):
            pixels = values.read(window).reshape(*window.size, -1)
            place = Place(window.col, window.row, window.width, window.height)
            dataset.write(np.moveaxis(pixels, -1, 0), window=place)
            if content.mask is not None:
                dataset.write_mask(content.mask.read(window), window=place)
            done += math.prod(window.size)
            if on_progress is not None:
                on_progress(done, total)


def _describe(dataset: Any, content: _Content) -> None:
    if content.palette:
        dataset.write_colormap(1, {label: (*colour, 255) for label, colour in enumerate(content.palette)})
    if content.georeference is not None:
        dataset.update_tags(**content.georeference.tags)
    for band, name in enumerate(content.bands, start=1):
        dataset.set_band_description(band, name)
    dataset.update_tags(1, **{f"class_{label}": name for label, name in enumerate(content.class_names)})


def _check_complete(path: Path) -> None:
    """Check that a file holds all of its blocks: GDAL reports no error if a write fails while it closes a file.

    Raises:
        OSError: A block is missing.
    """
    import rasterio

    size = path.stat().st_size
    if path.suffix.lower() == ".png":
        with path.open("rb") as file:
            file.seek(max(size - len(_PNG_END), 0))
            if file.read() != _PNG_END:
                raise rasterio.errors.RasterioIOError("its end is missing")
        return
    with rasterio.open(path) as dataset:
        for row, col in np.ndindex(-(-dataset.height // _BLOCK), -(-dataset.width // _BLOCK)):
            # The bands are interleaved in the same blocks, so the first one stands for all.
            offset, length = (dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=1) for what in _PLACE)
            if offset is None or int(offset) + int(length) > size:
                raise rasterio.errors.RasterioIOError(f"its block in row {row} and column {col} is missing")


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn GDAL's errors into an `OSError` that names the file and the free room on the disk."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    try:
        yield
    # Copying raises GDAL's own errors, which rasterio exports only from this private module.
    except (RasterioError, CPLE_BaseError) as error:
        raise cannot_be_written(path, error.__cause__ or error) from None


def _write_category_names(beside: Path, path: Path, names: Sequence[str]) -> None:
    """Write the file that GDAL keeps `beside` a raster whose first band has these categories."""
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    categories = ElementTree.SubElement(band, "CategoryNames")
    for name in names:
        ElementTree.SubElement(categories, "Category").text = name
    try:
        beside.write_bytes(ElementTree.tostring(root))
    except OSError as error:
        raise cannot_be_written(path, error.strerror) from None
