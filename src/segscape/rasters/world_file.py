"""Where photographs lie on Earth: their formats have no place for it, so small files beside them say so."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from segscape.files import atomic_path
from segscape.messages import say_once
from segscape.rasters.gdal import has_rasterio, open_raster
from segscape.rasters.georeference import Georeference, georeference_of

_log = logging.getLogger(__name__)

_ORIENTATION_TAG = 0x0112


def place_files(path: Path) -> list[Path]:
    """Return the files beside a photograph that say where it lies: its world file, and GDAL's own.

    A world file is named after the photograph: `photo.jgw`, `photo.jpgw` or `photo.wld` of `photo.jpg`.
    """
    kind = path.suffix.lower().lstrip(".")
    endings = [f".{kind[:1]}{kind[-1:]}w", f".{kind}w", ".wld"]
    names = [path.with_suffix(form) for ending in endings for form in (ending, ending.upper())]
    return [name for name in (*names, path.with_name(f"{path.name}.aux.xml")) if name.is_file()]


def read_place(path: Path) -> Georeference | None:
    """Read where a photograph lies, from the files beside it.

    World files hold no coordinate reference system: it is GDAL's `photo.jpg.aux.xml` or `photo.prj` that has it. What
    was read is logged, and so is a world file that cannot be used: without rasterio, of a photograph that is turned by
    its orientation tag, or a damaged one.

    Args:
        path: The photograph.

    Returns:
        Its georeference, or None where no file beside it has one.
    """
    beside = place_files(path)
    if not beside:
        return None
    reason = "rasterio is needed to read it (pip install rasterio)"
    if has_rasterio():
        place = None
        try:
            with open_raster(path) as dataset:
                place = georeference_of(dataset)
        except ValueError:
            reason = "the photograph cannot be opened by GDAL"
        if place is not None and not place.is_empty:
            if not _is_turned(path):
                say_once(_log, f"{path.name}: its place is read from {beside[0].name}.")
                return place if place.crs is not None else replace(place, crs=_system(path.with_suffix(".prj")))
            reason = "it is of the pixels as they are stored, and the photograph is turned by its orientation tag"
        elif place is not None:
            reason = "it holds no place that can be read"
    if beside[0].suffix != ".xml":
        # GDAL's own files may hold statistics alone, which are no loss.
        say_once(_log, f"{path.name}: {beside[0].name} is left out: {reason}.")
    return None


def write_place(path: Path, georeference: Georeference | None) -> None:
    """Write the place of a PNG file as a world file beside it, and its reference system as GDAL's `<name>.aux.xml`.

    Args:
        path: The PNG file, `name.png`; its world file is `name.pgw`.
        georeference: Where it lies; nothing is written where that has no transform.

    Raises:
        OSError: A file cannot be written.
    """
    if georeference is None or georeference.gcps or georeference.transform == georeference.transform.identity():
        return
    import affine

    with atomic_path(path.with_suffix(".pgw")) as temporary:
        temporary.write_text(affine.dumpsw(georeference.transform))
    if georeference.crs is not None:
        root = ElementTree.Element("PAMDataset")
        ElementTree.SubElement(root, "SRS").text = georeference.crs.to_wkt()
        with atomic_path(path.with_name(f"{path.name}.aux.xml")) as temporary:
            temporary.write_bytes(ElementTree.tostring(root))


def _is_turned(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.getexif().get(_ORIENTATION_TAG, 1) != 1
    except Exception:  # whatever damaged tags fail with: the photograph is read without turning it
        return False


def _system(path: Path) -> object | None:
    """Return the coordinate reference system of an Esri `.prj` file, or None where there is none that can be read."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return CRS.from_wkt(path.read_text())
    except (OSError, UnicodeDecodeError, CRSError):
        return None
