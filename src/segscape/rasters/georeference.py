"""Where a raster lies on Earth, and how much ground a pixel covers."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segscape.messages import say_once

_log = logging.getLogger(__name__)

_SEMI_AXIS = 6378137.0
"""The semi-major axis of the WGS 84 ellipsoid, in metres; other ellipsoids differ by less than a thousandth."""
_SQUARED_ECCENTRICITY = 0.00669437999014
"""The squared eccentricity of the WGS 84 ellipsoid."""


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
    def is_empty(self) -> bool:
        """Whether it says nothing of the place."""
        return self.crs is None and not self.gcps and self.rpcs is None and self.transform == self.transform.identity()

    @property
    def profile(self) -> dict[str, Any]:
        """The arguments of `rasterio.open` that give a new file the same location."""
        place: dict[str, Any] = {"crs": self.crs}
        if self.gcps:
            place["gcps"] = list(self.gcps)
            if self.crs is None:
                # Points are written with a system, which may be an empty one.
                from rasterio.crs import CRS

                place["crs"] = CRS()
        elif self.transform != self.transform.identity():
            place["transform"] = self.transform
        if self.rpcs is not None:
            place["rpcs"] = self.rpcs
        return place


def georeference_of(dataset: Any) -> Georeference:
    """Return the georeference of an open rasterio dataset."""
    # A dataset with ground control points alone has no reference system of its own: it is stored with the points.
    gcps, gcps_crs = dataset.gcps
    crs, transform = dataset.crs or gcps_crs, dataset.transform
    if not all(map(math.isfinite, transform[:6])) or not 0 < abs(transform.determinant) < math.inf:
        say_once(_log, f"{Path(dataset.name).name}: its place is damaged, and is left out.")
        crs, transform = None, transform.identity()
    return Georeference(crs, transform, dataset.nodata, dataset.tags(), tuple(gcps), dataset.rpcs)


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
