"""Polygons of label maps, read back by pyogrio: areas, borders between blocks, common borders, coordinates."""

import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pyogrio
import pyogrio.raw
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform
from scipy import ndimage

from segscape.rasters import polygons as module
from segscape.rasters.georeference import Georeference
from segscape.rasters.image import read_labels
from segscape.rasters.polygons import write_polygons
from segscape.rasters.scratch import MemoryArray

ROTATED = Affine.translation(733601, 3725139) @ Affine.rotation(33) @ Affine.scale(0.5, -0.4)
UTM = Georeference(CRS.from_epsg(32616), ROTATED)
NAMES = ("building", "tree", "grün")
INRIA_LABELS = Path(__file__).parent / "data" / "inria" / "kitsap11_gt.png"


def labels(height: int = 60, width: int = 70, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = np.zeros((height, width), np.uint8)
    for label in (1, 2, 1, 2, 0, 2, 1):
        row, col = generator.integers(0, height), generator.integers(0, width)
        values[row : row + 25, col : col + 30] = label
    speckle = generator.random(values.shape) < 0.03
    return np.where(speckle, generator.integers(0, 3, values.shape), values).astype(np.uint8)


def read(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray], str | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta, _, geometry, columns = pyogrio.raw.read(path)
    return shapely.from_wkb(geometry), dict(zip(meta["fields"], columns, strict=True)), meta["crs"]


@pytest.mark.parametrize("step", [(512, 512), (16, 32), (7, 9)])
@pytest.mark.parametrize("seed", range(3))
def test_the_map_can_be_drawn_again(tmp_path: Path, monkeypatch, step: tuple[int, int], seed: int) -> None:
    monkeypatch.setattr(module, "_STEP", step)
    values = labels(seed=seed)
    write_polygons(tmp_path / "a.gpkg", MemoryArray(values), class_names=NAMES)
    polygons, fields, crs = read(tmp_path / "a.gpkg")
    assert crs is None
    assert shapely.is_valid(polygons).all()
    drawn = rasterize(zip(polygons, fields["label"], strict=True), values.shape, fill=99, dtype="uint8")
    assert np.array_equal(drawn, values)
    assert len(polygons) == sum(ndimage.label(values == label)[1] for label in range(3))
    assert np.array_equal(shapely.area(polygons), fields["pixels"])
    assert all(fields["class"][i] == NAMES[label] for i, label in enumerate(fields["label"]))
    assert np.isnan(fields["area_m2"]).all()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(1, 4), rows=st.integers(2, 12), cols=st.integers(2, 12))
def test_blocks_leave_no_trace(seed: int, classes: int, rows: int, cols: int) -> None:
    values = np.random.default_rng(seed).integers(0, classes, (12, 12), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        traced = []
        for step in ((12, 12), (rows, cols)):
            patch.setattr(module, "_STEP", step)
            found, pixels, polygons = module._trace(MemoryArray(values), skip={3})
            texts = shapely.to_wkt(shapely.normalize(polygons))
            traced.append(sorted(zip(found.tolist(), pixels.tolist(), texts.tolist(), strict=True)))
    assert traced[0] == traced[1]


def _areal_scale(code: int) -> float:
    """How much larger than on the ellipsoid an area is on the map, where `ROTATED` lies."""
    system = pyproj.CRS.from_epsg(code)
    degrees = pyproj.Transformer.from_crs(system, system.geodetic_crs, always_xy=True).transform(ROTATED.c, ROTATED.f)
    return pyproj.Proj(system).get_factors(*degrees).areal_scale


@pytest.mark.parametrize("latitude", [0, 48.2, -60])
@pytest.mark.parametrize("side", [1e-6, 1e-4])
def test_areas_in_degrees_and_in_mercators_metres_are_those_on_the_ellipsoid(
    tmp_path: Path, latitude: float, side: float
) -> None:
    """By the ellipsoid's radii along the meridian and across it."""
    values = np.zeros((40, 50), np.uint8)
    values[10:20] = 1
    sine = math.sin(math.radians(latitude)) ** 2
    squared = 0.0066943799901413165
    across = 6378137 / math.sqrt(1 - squared * sine)
    along = across * (1 - squared) / (1 - squared * sine)
    cosine = math.cos(math.radians(latitude))
    pixel = (math.radians(side) ** 2) * along * across * cosine
    degrees = Affine.translation(9 - 25 * side, latitude + 20 * side) @ Affine.scale(side, -side)
    write_polygons(
        tmp_path / "degrees.gpkg",
        MemoryArray(values),
        class_names=NAMES,
        georeference=Georeference(CRS.from_epsg(4326), degrees),
    )
    # The map's metres stretch both directions by what makes a circle of latitude as long as the equator.
    metres = math.radians(side) * 6378137
    x, y = pyproj.Transformer.from_crs(4326, 3857, always_xy=True).transform(9, latitude)
    mercator = Affine.translation(x - 25 * metres, y + 20 * metres) @ Affine.scale(metres, -metres)
    write_polygons(
        tmp_path / "mercator.gpkg",
        MemoryArray(values),
        class_names=NAMES,
        georeference=Georeference(CRS.from_epsg(3857), mercator),
    )
    for name, expected in (("degrees", pixel), ("mercator", pixel * cosine)):
        _, fields, _ = read(tmp_path / f"{name}.gpkg")
        assert fields["area_m2"].sum() == pytest.approx(2000 * expected, rel=2e-5)
        assert fields["area_m2"][fields["label"] == 1].sum() == pytest.approx(500 * expected, rel=1e-4)


def test_large_areas_follow_the_curve_of_the_earth(tmp_path: Path) -> None:
    """Twenty degrees square, with a hole, by the area of a zone of the ellipsoid."""
    values = np.zeros((200, 200), np.uint8)
    values[50:150, 50:150] = 255
    place = Georeference(CRS.from_epsg(4326), Affine.translation(0, 60) @ Affine.scale(0.1, -0.1))
    write_polygons(tmp_path / "a.gpkg", MemoryArray(values), class_names=NAMES, georeference=place, skip=(255,))
    _, fields, _ = read(tmp_path / "a.gpkg")

    def zone(south: float, north: float, width: float) -> float:
        e = math.sqrt(0.0066943799901413165)

        def below(latitude: float) -> float:
            sine = math.sin(math.radians(latitude))
            return (1 - e**2) * (sine / (1 - e**2 * sine**2) + math.atanh(e * sine) / e)

        return 6378137**2 * math.radians(width) / 2 * (below(north) - below(south))

    expected = zone(40, 60, 20) - zone(45, 55, 10)
    assert fields["area_m2"].tolist() == pytest.approx([expected], rel=1e-6)


def test_areas_of_no_place_on_earth_are_unknown(tmp_path: Path) -> None:
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    place = Georeference(local, ROTATED)
    write_polygons(tmp_path / "a.gpkg", MemoryArray(labels()), class_names=NAMES, georeference=place)
    _, fields, _ = read(tmp_path / "a.gpkg")
    assert np.isnan(fields["area_m2"]).all()
    # A damaged system, with a latitude beyond the pole.
    text = CRS.from_epsg(32632).to_wkt().replace('"latitude_of_origin",0', '"latitude_of_origin",900')
    write_polygons(
        tmp_path / "b.gpkg",
        MemoryArray(labels()),
        class_names=NAMES,
        georeference=Georeference(CRS.from_wkt(text), ROTATED),
    )
    _, fields, _ = read(tmp_path / "b.gpkg")
    assert np.isnan(fields["area_m2"]).all()


@pytest.mark.parametrize(("code", "metre"), [(32616, 1.0), (2263, 1200 / 3937)])
def test_areas_are_those_of_the_pixels(tmp_path: Path, code: int, metre: float) -> None:
    values = labels()
    values[:10] = 255
    place = Georeference(CRS.from_epsg(code), ROTATED)
    write_polygons(tmp_path / "a.gpkg", MemoryArray(values), class_names=NAMES, georeference=place, skip=(255,))
    polygons, fields, crs = read(tmp_path / "a.gpkg")
    assert crs == f"EPSG:{code}"
    for label in range(3):
        count = (values == label).sum()
        mine = fields["label"] == label
        assert fields["pixels"][mine].sum() == count
        assert fields["area_m2"][mine].sum() == pytest.approx(count * 0.2 * metre**2 / _areal_scale(code), rel=1e-6)
        assert shapely.area(polygons[mine]).sum() == pytest.approx(count * 0.2, rel=1e-9)
    centre = ROTATED @ (35.5, 30.5)
    hit = shapely.contains_xy(polygons, *centre)
    assert fields["label"][hit].tolist() == [values[30, 35]]


def test_simplified_neighbours_keep_common_borders(tmp_path: Path) -> None:
    values = np.tri(40, 60, 10, dtype=np.uint8) + labels(40, 60)
    options = {"class_names": ["a", "b", "c", "d"], "georeference": UTM}
    write_polygons(tmp_path / "exact.gpkg", MemoryArray(values), **options)
    write_polygons(tmp_path / "simple.gpkg", MemoryArray(values), **options, tolerance=0.6)
    exact, exact_fields, _ = read(tmp_path / "exact.gpkg")
    simple, fields, _ = read(tmp_path / "simple.gpkg")
    assert shapely.get_num_coordinates(simple).sum() < 0.7 * shapely.get_num_coordinates(exact).sum()
    assert shapely.coverage_is_valid(simple)
    assert shapely.area(shapely.union_all(simple)) == pytest.approx(shapely.area(simple).sum(), rel=1e-9)
    # The fields still tell of the pixels.
    assert np.array_equal(fields["area_m2"], exact_fields["area_m2"])


def test_small_areas_are_left_out(tmp_path: Path) -> None:
    values = np.zeros((20, 20), np.uint8)
    values[2:4, 2:5], values[10:12, 10:12] = 1, 2
    write_polygons(tmp_path / "a.gpkg", MemoryArray(values), class_names=NAMES, georeference=UTM, min_area=5 * 0.2)
    _, fields, _ = read(tmp_path / "a.gpkg")
    assert sorted(fields["pixels"]) == [6, 390]


def test_geojson_is_in_degrees(tmp_path: Path) -> None:
    values = labels(20, 20)
    write_polygons(tmp_path / "a.gpkg", MemoryArray(values), class_names=NAMES, georeference=UTM)
    write_polygons(tmp_path / "a.geojson", MemoryArray(values), class_names=NAMES, georeference=UTM)
    metres, expected, _ = read(tmp_path / "a.gpkg")
    degrees, fields, crs = read(tmp_path / "a.geojson")
    assert crs == "EPSG:4326"
    assert np.allclose(fields["area_m2"].astype(float), expected["area_m2"])
    lon, lat = transform("EPSG:32616", "EPSG:4326", *shapely.get_coordinates(shapely.centroid(metres)).T)
    # Seven digits, about a centimetre.
    assert np.allclose(shapely.get_coordinates(shapely.centroid(degrees)), np.transpose([lon, lat]), atol=1.5e-7)
    # Outer rings turn counter-clockwise, as the standard demands.
    assert shapely.is_ccw(shapely.get_exterior_ring(degrees)).all()


def test_scenes_without_a_transform_count_pixels(tmp_path: Path) -> None:
    values = labels(20, 30)
    points = (GroundControlPoint(0, 0, 10, 20), GroundControlPoint(0, 30, 11, 20), GroundControlPoint(20, 0, 10, 19))
    place = Georeference(CRS.from_epsg(4326), Affine.identity(), gcps=points)
    for name, georeference in (("a.gpkg", place), ("b.geojson", None)):
        write_polygons(tmp_path / name, MemoryArray(values), class_names=NAMES, georeference=georeference)
        polygons, fields, _ = read(tmp_path / name)
        assert shapely.total_bounds(polygons).tolist() == [0, 0, 30, 20]
        assert np.array_equal(shapely.area(polygons), fields["pixels"])


def test_a_real_map_of_buildings(tmp_path: Path) -> None:
    truth = (read_labels(INRIA_LABELS) > 0).astype(np.uint8)
    write_polygons(tmp_path / "a.gpkg", MemoryArray(truth), class_names=["ground", "building"], skip=(0,))
    polygons, fields, _ = read(tmp_path / "a.gpkg")
    assert fields["pixels"].sum() == truth.sum()
    assert len(polygons) == ndimage.label(truth)[1]


@pytest.mark.parametrize("tolerance", [0, 1])
@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_no_polygons(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = tmp_path / f"a{suffix}"
    blank = MemoryArray(np.full((9, 9), 255, np.uint8))
    write_polygons(path, blank, class_names=NAMES, georeference=UTM, skip=(255,), tolerance=tolerance)
    assert pyogrio.read_info(path)["features"] == 0


def test_what_cannot_be_written(tmp_path: Path, monkeypatch) -> None:
    values = MemoryArray(np.full((9, 9), 7, np.uint8))
    with pytest.raises(ValueError, match=r"a.shp does not end in .gpkg or .geojson"):
        write_polygons(tmp_path / "a.shp", values, class_names=NAMES)
    with pytest.raises(ValueError, match="label 7 has no name and is not to be skipped; 3 have one"):
        write_polygons(tmp_path / "a.gpkg", values, class_names=NAMES)

    def fail(path: Path, *_: object, **__: object) -> None:
        path.write_text("half")
        raise pyogrio.errors.DataSourceError("disk I/O error")

    monkeypatch.setattr(pyogrio.raw, "write", fail)
    with pytest.raises(OSError, match=rf"a.gpkg cannot be written, with \d+ MB free in {tmp_path}"):
        write_polygons(tmp_path / "a.gpkg", values, class_names=["a"] * 8)
    assert not list(tmp_path.iterdir())
    for name in ("shapely", "pyogrio"):
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
        with pytest.raises(ModuleNotFoundError, match=r"a.gpkg need (\w+): pip install \1"):
            write_polygons(tmp_path / "a.gpkg", values, class_names=NAMES)
