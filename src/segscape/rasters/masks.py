"""Masks of one object and class maps, in the various kinds of files that hold them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from segscape.files import atomic_path, check_readable
from segscape.labels import IGNORE_INDEX
from segscape.messages import say_once
from segscape.rasters.decoded import is_decoded_whole, open_image
from segscape.rasters.georeference import Georeference
from segscape.rasters.geotiff import read_geotiff, write_geotiff
from segscape.rasters.image import write_labels
from segscape.rasters.scratch import MemoryArray
from segscape.rasters.sink import write_label_map
from segscape.rasters.suffixes import PHOTO_SUFFIXES, TIFF_SUFFIXES
from segscape.rasters.world_file import read_place, write_place

_log = logging.getLogger(__name__)

_CLASSES = 256
_KINDS = "a mask is binary, grey, an alpha channel, or a class map of whole numbers from 0 to 255"


@dataclass(frozen=True)
class ObjectMask:
    """A mask of one object.

    Attributes:
        values: (H, W) float32, from 0 outside the object to 1 inside it.
        georeference: Where it lies, if it was read from a GeoTIFF.
        outside: (H, W) bool, the pixels without data, if there are any; their value is 0.
    """

    values: npt.NDArray[np.float32]
    georeference: Georeference | None = None
    outside: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class ClassMap:
    """A class for every pixel.

    Attributes:
        labels: (H, W) uint8, class indices or `ignore_index`.
        palette: The colour (red, green, blue) of each class; empty where the file has none.
        ignore_index: The label of pixels without a class.
        georeference: Where it lies, if it was read from a GeoTIFF.
        class_names: The names of the classes, where the file says them.
        overviews: Whether the file holds smaller versions of itself.
    """

    labels: npt.NDArray[np.uint8]
    palette: tuple[tuple[int, int, int], ...] = ()
    ignore_index: int = IGNORE_INDEX
    georeference: Georeference | None = None
    class_names: tuple[str, ...] = ()
    overviews: bool = False


@dataclass(frozen=True)
class _Raster:
    """The contents of a file of any format: `bands` (H, W, C), and the rest as in `GeoTiff`."""

    bands: npt.NDArray[Any]
    has_alpha: bool
    palette: tuple[tuple[int, int, int], ...] | None
    georeference: Georeference | None
    class_names: tuple[str, ...] = ()
    overviews: bool = False


def read_mask(path: str | Path) -> npt.NDArray[np.float32]:
    """Read the values of a file that holds the mask of one object; see `read_mask_file`.

    Returns:
        (H, W) float32, from 0 to 1.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or holds no mask of one object; the message names it.
    """
    mask = read_mask_file(path)
    if isinstance(mask, ClassMap):
        raise ValueError(f"{path} has a palette, so it is a class map and not the mask of one object.")
    return mask.values


def to_mask(image: Image.Image) -> npt.NDArray[np.float32]:
    """Convert a Pillow image of one object's mask to (H, W) float32, from 0 to 1, upright; see `read_mask_file`.

    Raises:
        ValueError: It holds no such mask.
    """
    raster = _of_pillow(image)
    if raster.palette is not None:
        raise ValueError("The mask has a palette, so it is a class map and not the mask of one object.")
    return _object_mask(raster, "The mask").values


def read_mask_file(path: str | Path, *, as_classes: bool = False) -> ObjectMask | ClassMap:
    """Read a mask of any kind.

    A file with a palette or a colour table is a class map. Anything else is the mask of one object: the opacity if it
    varies, else the grey values, which may be of 1, 8, 16 or 32 bits or floating point. Integer values that do not
    exceed 1 are taken as 0 and 1, and those of more bits that do not exceed 255 as levels from 0 to 255, which is
    logged. A mask of numbered objects is refused. A camera's orientation tag is applied.

    Args:
        path: PNG, TIFF or another format of `read_image`. GeoTIFF is read by rasterio where it is installed.
        as_classes: Read grey values as class indices.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or no mask; the message names it.
    """
    path = Path(path)
    raster = _read(path)
    if as_classes or raster.palette is not None:
        return _class_map(raster, str(path))
    return _object_mask(raster, str(path))


def write_mask(path: Path, values: npt.NDArray[np.uint8], *, like: ObjectMask) -> None:
    """Write an 8-bit mask as grey PNG or, by the suffix, as GeoTIFF; the file appears whole or not at all.

    Args:
        path: The file.
        values: (H, W) uint8.
        like: The mask it was computed from. In a GeoTIFF the pixels without data keep the nodata value, and a value of
            the mask that equals it is lowered by 1.

    Raises:
        ModuleNotFoundError: Rasterio is missing for a GeoTIFF.
        OSError: The file cannot be written.
    """
    if path.suffix.lower() not in TIFF_SUFFIXES:
        write_place(path, like.georeference)
        _write_grey(path, values)
        return
    nodata = None if like.georeference is None else like.georeference.nodata
    if like.outside is not None and nodata is not None and nodata in range(1, 256):
        missing = np.uint8(nodata)
        values = np.where(like.outside, missing, np.where(values == missing, missing - 1, values)).astype(np.uint8)
    write_geotiff(path, values, georeference=like.georeference)


def write_class_map(path: Path, labels: npt.NDArray[np.uint8], *, like: ClassMap) -> None:
    """Write labels as PNG or, by the suffix, as GeoTIFF, with the palette and georeference of their class map.

    Args:
        path: The file; it appears whole or not at all.
        labels: (H, W) uint8.
        like: The class map they were computed from.

    Raises:
        ModuleNotFoundError: Rasterio is missing for a GeoTIFF.
        OSError: The file cannot be written.
    """
    if path.suffix.lower() in TIFF_SUFFIXES:
        nodata = None if like.georeference is None else like.georeference.nodata
        write_label_map(
            path,
            MemoryArray(labels),
            palette=like.palette,
            class_names=like.class_names,
            georeference=like.georeference,
            nodata=int(nodata) if nodata is not None and nodata in range(_CLASSES) else None,
            overviews=like.overviews,
        )
        return
    write_place(path, like.georeference)
    if like.palette:
        write_labels(path, labels, like.palette)
    else:
        _write_grey(path, labels)


def _write_grey(path: Path, values: npt.NDArray[np.uint8]) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG", compress_level=1)


def _read(path: Path) -> _Raster:
    check_readable(path)
    # Formats that only Pillow is known to read are none of rasters.
    if path.suffix.lower() in PHOTO_SUFFIXES | TIFF_SUFFIXES and not is_decoded_whole(path):
        file = read_geotiff(path)
        return _Raster(file.bands, file.has_alpha, file.palette, file.georeference, file.class_names, file.overviews)
    raster = _of_pillow(open_image(path), str(path))
    return replace(raster, georeference=read_place(path)) if path.suffix.lower() in PHOTO_SUFFIXES else raster


def _of_pillow(image: Image.Image, name: str = "The mask") -> _Raster:
    image = ImageOps.exif_transpose(image)
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        raise ValueError(f"{name} is a picture of mode {image.mode}, not a mask: {_KINDS}.")
    palette = None
    if image.mode == "P":
        flat = image.getpalette() or []
        palette = tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3))
    values = np.asarray(image)
    bands = values[..., None] if values.ndim == 2 else values
    return _Raster(bands, image.mode in ("LA", "RGBA", "La", "RGBa"), palette, None)


def _grey(raster: _Raster, name: str) -> npt.NDArray[Any]:
    """Return the one relevant band, (H, W): the opacity if it varies, else the grey values."""
    bands = raster.bands
    if raster.has_alpha:
        alpha = bands[..., -1]
        if alpha.min() != alpha.max():
            return alpha
        bands = bands[..., :-1]
    if not all(np.array_equal(bands[..., 0], bands[..., band]) for band in range(1, bands.shape[-1])):
        raise ValueError(f"{name} has {bands.shape[-1]} channels that differ, like a photograph; {_KINDS}.")
    return bands[..., 0]


def _object_mask(raster: _Raster, name: str) -> ObjectMask:
    values = _grey(raster, name)
    outside = _without_data(values, raster.georeference)
    if outside is not None:
        values = np.where(outside, np.zeros((), values.dtype), values)
    return ObjectMask(_to_unit(values, name), raster.georeference, outside)


def _without_data(values: npt.NDArray[Any], georeference: Georeference | None) -> npt.NDArray[np.bool_] | None:
    """Return the pixels with the nodata value, if there are any; a nodata value of 0 means no object instead."""
    nodata = None if georeference is None else georeference.nodata
    if nodata is None or nodata == 0:
        return None
    outside = np.isnan(values) if np.isnan(nodata) else values == nodata
    return outside if outside.any() else None


def _to_unit(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
    """Convert grey values of any type to float32 from 0 to 1."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        # Negated so that NaN is refused as well.
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{name} has floating-point values from {low} to {high}; those of a mask lie in 0 to 1.")
        return values.astype(np.float32)
    # Not compared with uint16: the mode of 16-bit images, and so the type, differs between Pillow's versions.
    is_deep = values.dtype != np.uint8
    if low < 0 or high > (65535 if is_deep else 255):
        raise ValueError(f"{name} has values from {low} to {high}, which is no mask of 1, 8 or 16 bits.")
    if is_deep and 1 < high <= 255:
        say_once(_log, f"{name}: its {values.dtype.name} values do not exceed 255; they are read as levels of 8 bits.")
    _refuse_numbers(values, name)
    return values.astype(np.float32) / np.float32(1 if high <= 1 else 65535 if high > 255 else 255)


def _refuse_numbers(values: npt.NDArray[Any], name: str) -> None:
    """Refuse a mask of numbered objects, in which the lower numbers would count as hardly any object at all.

    Objects are flat, where two values meet they have nothing to do with each other, and none of them prevails; in a
    soft mask, neighbours are alike, and most of the object has the highest value.
    """
    if ((values == values.min()) | (values == values.max())).all():
        # The usual mask, of two values, is told by a fraction of the work.
        return
    pairs = ((values[:, :-1], values[:, 1:]), (values[:-1], values[1:]))
    counts = np.sum([np.bincount(one[one == other], minlength=2**16) for one, other in pairs], axis=0)
    numbers = np.flatnonzero(counts[1:]) + 1
    if not numbers.size:
        return
    counts = counts[numbers]
    large = counts > max(20, counts.sum() // 2000)
    steps = np.concatenate([np.abs(one.astype(np.int64) - other)[one != other] for one, other in pairs])
    is_abrupt = steps.size and np.mean(steps <= max(2, int(values.max()) // 50)) < 0.2
    prevails = counts.max() > 0.6 * counts.sum()
    if is_abrupt and large.sum() > 2 and not prevails:
        raise ValueError(
            f"{name} holds {len(numbers)} numbered objects or classes (values {numbers.min()} to {numbers.max()}), not "
            "the mask of one object; with --classes each is refined."
        )


def _class_map(raster: _Raster, name: str) -> ClassMap:
    bands = raster.bands[..., :-1] if raster.has_alpha else raster.bands
    labels = bands[..., 0].astype(np.uint8)
    if bands.shape[-1] > 1 or not np.array_equal(labels, bands[..., 0]):
        raise ValueError(f"{name} is no class map: that has one channel of whole numbers from 0 to {_CLASSES - 1}.")
    nodata = None if raster.georeference is None else raster.georeference.nodata
    ignore_index = int(nodata) if nodata is not None and nodata in range(_CLASSES) else IGNORE_INDEX
    return ClassMap(
        labels, raster.palette or (), ignore_index, raster.georeference, raster.class_names, raster.overviews
    )
