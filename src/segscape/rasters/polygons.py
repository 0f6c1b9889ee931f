"""The areas of a label map as polygons for GIS, in GeoPackage or GeoJSON."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segscape.files import atomic_path
from segscape.geometry.window import Readable, Window, windows
from segscape.rasters.gdal import bounded_gdal
from segscape.rasters.georeference import Georeference

_DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}
_STEP = (512, 32768)
_LARGE_AREA = 1e9
"""The square metres from which the area of a polygon is computed along its own outline."""
_SCALE_NODES = 33
"""The number of columns and rows at which the area of a square of the map is computed; between them it is linear."""

_FARTHEST = 100_000
"""Kilometres, or hundredths of degrees, beyond which coordinates are no place on Earth, which is 40,000 around."""


def write_polygons(
    path: Path,
    labels: Readable,
    *,
    class_names: Sequence[str],
    georeference: Georeference | None = None,
    tolerance: float = 0.0,
    min_area: float = 0.0,
    skip: Collection[int] = (),
) -> None:
    """Write a polygon for every connected area of one label; the file appears whole or not at all.

    Pixels of one label are connected by their sides, not by their corners. Each polygon has the fields `class` (name),
    `label`, `pixels` and `area_m2`, the area of its pixels on the ellipsoid in square metres, whatever the coordinate
    reference system: a map's own areas are too large or too small (in Web Mercator at 60 degrees four times). That is
    null where the place on Earth is not known. The coordinates are those of the system; of GeoJSON, as its standard
    demands, degrees of WGS 84; without a system and for scenes with ground control points, (column, row) of the pixels'
    corners. The map is read block by block, the polygons are all held in memory.

    Args:
        path: The file, `.gpkg` or `.geojson`.
        labels: (H, W) uint8, class indices.
        class_names: A name for each class.
        georeference: Where the scene lies.
        tolerance: Corners that span triangles smaller than the square of this length, in units of the coordinate
            reference system, are removed; neighbours keep a common border. At 0 the pixels' own borders are kept.
        min_area: Smaller areas, in square units of the coordinate reference system, are left out.
        skip: Labels that get no polygons, such as that of pixels without data.

    Raises:
        ModuleNotFoundError: A package is missing; the message names the extra.
        ValueError: The suffix is not supported, or there is a label without a name.
        OSError: The file cannot be written.
    """
    if path.suffix.lower() not in _DRIVERS:
        raise ValueError(f"{path} does not end in .gpkg or .geojson, the formats that hold polygons.")
    _check_packages(path)
    crs, transform = _place(georeference)
    pixel_area = 1.0 if transform is None else abs(transform.determinant)
    classes, pixels, polygons = _trace(labels, skip)
    if len(classes) and classes.max() >= len(class_names):
        raise ValueError(
            f"The label {classes.max()} has no name and is not to be skipped; {len(class_names)} have one."
        )
    kept = pixels * pixel_area >= min_area
    classes, pixels, polygons = classes[kept], pixels[kept], polygons[kept]
    outlines = _to_world(polygons, transform, tolerance)
    # Of the pixels' own borders, whatever is simplified.
    exact = outlines if tolerance == 0 else _to_world(polygons, transform, 0)
    fields = {
        "class": np.array([class_names[label] for label in classes], dtype=object),
        "label": classes.astype(np.int32),
        "pixels": pixels,
        "area_m2": _areas(exact, crs),
    }
    _save(path, outlines, fields, crs)


def _areas(polygons: npt.NDArray[Any], crs: Any) -> npt.NDArray[np.float64]:
    """Compute the areas of polygons on the ellipsoid, in square metres; NaN, which is written as null, if unknown.

    Geodesic areas are exact to some 0.1 square metres, whatever their size: too coarse for a pixel of a few
    centimetres. So small polygons have their area on the map, times what a square of the map is on the ellipsoid there.

    Args:
        polygons: In units of the coordinate reference system.
        crs: The system, a `rasterio.crs.CRS`, or None.
    """
    import pyproj
    import shapely

    unknown = np.full(len(polygons), np.nan)
    try:
        system = None if crs is None else pyproj.CRS.from_wkt(crs.to_wkt())
        ellipsoid = None if system is None else system.get_geod()
        if system is None or ellipsoid is None or system.geodetic_crs is None or not len(polygons):
            return unknown
        to_degrees = pyproj.Transformer.from_crs(system, system.geodetic_crs, always_xy=True)
    except pyproj.exceptions.ProjError:
        # A damaged system: one whose latitude of origin is 900 degrees, say.
        return unknown

    def geodesic(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
        return abs(ellipsoid.polygon_area_perimeter(*to_degrees.transform(x, y))[0])

    # A kilometre, in the system's units.
    side = 0.01 if system.is_geographic else 1000 / system.axis_info[0].unit_conversion_factor
    left, bottom, right, top = bounds = shapely.total_bounds(polygons)
    if not np.abs(bounds).max() < _FARTHEST * side:
        # A damaged transform. Written so that NaN is caught too.
        return unknown
    columns, rows = np.linspace(left, right, _SCALE_NODES), np.linspace(bottom, top, _SCALE_NODES)
    corners = side / 2 * np.array([-1, 1, 1, -1]), side / 2 * np.array([-1, -1, 1, 1])
    scales = np.array([[geodesic(x + corners[0], y + corners[1]) / side**2 for x in columns] for y in rows])
    centres = shapely.get_coordinates(shapely.centroid(polygons))
    # As fractions of the nodes' spacing, which is nothing for a map of one column or row.
    spans = np.maximum([right - left, top - bottom], np.finfo(float).tiny)
    places = (centres - (left, bottom)) / spans * (_SCALE_NODES - 1)
    areas = (
        shapely.area(polygons)
        * cv2.remap(scales, places[:, :1].astype(np.float32), places[:, 1:].astype(np.float32), cv2.INTER_LINEAR)[:, 0]
    )
    for number in np.flatnonzero(areas > _LARGE_AREA):
        # In short sides, for a straight line of the map is none on Earth.
        outline, *holes = shapely.get_rings(shapely.segmentize(polygons[number], 10 * side))
        areas[number] = geodesic(*shapely.get_coordinates(outline).T) - sum(
            geodesic(*shapely.get_coordinates(hole).T) for hole in holes
        )
    return np.where(np.isfinite(areas), areas, np.nan)


def _check_packages(path: Path) -> None:
    for name in ("pyogrio", "pyproj", "rasterio", "shapely"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"The polygons {path} need {name}: pip install {name}.", name=name)


def _place(georeference: Georeference | None) -> tuple[Any, Any]:
    """Return the coordinate reference system and the transform, both `None` where coordinates are those of pixels."""
    if georeference is None or georeference.gcps:
        return None, None
    return georeference.crs, georeference.transform


def _trace(
    labels: Readable, skip: Collection[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Find the areas of equal label: the label, the number of pixels and the polygon, in (column, row), of each."""
    import shapely

    whole: list[tuple[int, Any]] = []
    cut: dict[int, list[Any]] = defaultdict(list)
    for window in windows(labels.size, _STEP):
        inner = _inner_borders(window, labels.size)
        for label, polygon in _shapes(labels.read(window), window, skip):
            min_col, min_row, max_col, max_row = polygon.bounds
            if inner & {("col", min_col), ("row", min_row), ("col", max_col), ("row", max_row)}:
                cut[label].append(polygon)
            else:
                whole.append((label, polygon))
    for label, pieces in cut.items():
        # The union keeps corners in the middle of straight sides where blocks meet.
        joined = shapely.simplify(shapely.get_parts(shapely.union_all(pieces)), 0)
        whole += [(label, polygon) for polygon in joined]
    classes = np.array([label for label, _ in whole], np.int64)
    polygons = np.empty(len(whole), object)
    polygons[:] = [polygon for _, polygon in whole]
    return classes, np.rint(shapely.area(polygons)).astype(np.int64), polygons


def _inner_borders(window: Window, size: tuple[int, int]) -> set[tuple[str, float]]:
    """Return the borders of a block beyond which the raster continues."""
    borders: set[tuple[str, float]] = {
        ("row", window.row),
        ("row", window.stop_row),
        ("col", window.col),
        ("col", window.stop_col),
    }
    return borders - {("row", 0), ("row", size[0]), ("col", 0), ("col", size[1])}


def _shapes(labels: npt.NDArray[np.uint8], window: Window, skip: Collection[int]) -> Iterator[tuple[int, Any]]:
    from rasterio import Affine
    from rasterio.features import shapes
    from shapely.geometry import shape

    wanted = np.isin(labels, list(skip), invert=True)
    with bounded_gdal():
        for geometry, label in shapes(labels, wanted, transform=Affine.translation(window.col, window.row)):
            yield int(label), shape(geometry)


def _to_world(polygons: npt.NDArray[Any], transform: Any, tolerance: float) -> npt.NDArray[Any]:
    """Transform the polygons to the reference system and simplify them."""
    import shapely

    if tolerance > 0:
        # Neighbours must share the corners of their common border to be simplified alike: one at each pixel's corner.
        polygons = shapely.transform(shapely.segmentize(polygons, 1), np.rint)
    if transform is not None:
        matrix = np.array([[transform.a, transform.d], [transform.b, transform.e]])
        polygons = shapely.transform(polygons, lambda corners: corners @ matrix + (transform.c, transform.f))
    return shapely.coverage_simplify(polygons, tolerance) if tolerance > 0 else polygons


def _save(path: Path, polygons: npt.NDArray[Any], fields: dict[str, npt.NDArray[Any]], crs: Any) -> None:
    import pyogrio.raw
    import shapely
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

    place: dict[str, Any] = {} if crs is None else {"crs": crs.to_wkt()}
    driver = _DRIVERS[path.suffix.lower()]
    if driver == "GeoJSON" and crs is not None:
        # Degrees of WGS 84, and rings of the standard's orientation.
        place["layer_options"] = {"RFC7946": "YES"}
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # Maps without a coordinate reference system are welcome.
        warnings.filterwarnings("ignore", "'crs' was not provided")
        temporary.unlink(missing_ok=True)
        try:
            pyogrio.raw.write(
                temporary,
                shapely.to_wkb(polygons),
                list(fields.values()),
                list(fields),
                layer=path.stem,
                driver=driver,
                geometry_type="Polygon",
                **place,
            )
            # A write that fails while the file is closed raises no error.
            if pyogrio.read_info(temporary, force_feature_count=True)["features"] != len(polygons):
                raise DataSourceError("Polygons are missing.")
        except (DataSourceError, DataLayerError, FeatureError) as error:
            folder = path.parent.absolute()
            free = shutil.disk_usage(folder).free / 1e6
            raise OSError(f"{path} cannot be written, with {free:.0f} MB free in {folder}.") from error
