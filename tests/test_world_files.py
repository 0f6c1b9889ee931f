"""Photographs whose place stands in a file beside them."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from pyogrio import read_info
from pyogrio.raw import read
from rasterio.crs import CRS

from segscape.cli.main import main
from segscape.rasters import decoded
from segscape.rasters.source import open_source
from segscape.rasters.world_file import read_place

PLACE = Affine(0.5, 0, 500_000, 0, -0.5, 6_650_000)
WORLD = "0.5\n0.0\n0.0\n-0.5\n500000.25\n6649999.75\n"
"""The same: a world file tells of the centre of the first pixel."""


@pytest.fixture
def photo(tmp_path: Path, camvid_examples: Path) -> Path:
    frame = Image.open(sorted((camvid_examples / "images" / "val").iterdir())[0]).convert("RGB").resize((96, 72))
    frame.save(tmp_path / "photo.jpg", quality=95)
    return tmp_path / "photo.jpg"


def segment(weights: Path, output: Path, *words: object) -> int:
    return main(["segment", *map(str, words), "--weights", str(weights), "--output", str(output), "--device", "cpu"])


@pytest.mark.parametrize("name", ["photo.jgw", "photo.JGW", "photo.jpgw", "photo.wld"])
def test_the_place_is_read_and_said(name: str, photo: Path, caplog) -> None:
    photo.with_name(name).write_text(WORLD)
    with caplog.at_level("INFO", "segscape"), open_source(photo) as source:
        assert source.georeference.transform == PLACE
        assert source.georeference.crs is None
    assert f"photo.jpg: its place is read from {name}." in caplog.messages


def test_labels_and_polygons_have_the_place(random_weights: Path, photo: Path, tmp_path: Path) -> None:
    photo.with_suffix(".jgw").write_text(WORLD)
    photo.with_suffix(".prj").write_text(CRS.from_epsg(32632).to_wkt(version="WKT1_ESRI"))
    output = tmp_path / "out"
    assert segment(random_weights, output, photo, "--polygons", "gpkg", "--confidence") == 0
    for name in ("photo.png", "photo_confidence.png"):
        with rasterio.open(output / name) as dataset:
            assert dataset.transform == PLACE
            assert dataset.crs == CRS.from_epsg(32632)
            assert dataset.shape == (72, 96)
    info, _, _, fields = read(output / "photo.gpkg")
    assert CRS.from_user_input(info["crs"]) == CRS.from_epsg(32632)
    assert read_info(output / "photo.gpkg")["total_bounds"] == (500_000, 6_650_000 - 36, 500_048, 6_650_000)
    areas = fields[list(info["fields"]).index("area_m2")]
    assert areas.sum() == pytest.approx(36 * 48, rel=2e-3)


def test_a_place_without_a_system_stays_one(random_weights: Path, photo: Path, tmp_path: Path) -> None:
    photo.with_suffix(".jgw").write_text(WORLD)
    output = tmp_path / "out"
    assert segment(random_weights, output, photo, "--polygons", "gpkg") == 0
    assert (output / "photo.pgw").read_text().split() == [str(float(word)) for word in WORLD.split()]
    assert not (output / "photo.png.aux.xml").exists()
    assert read_info(output / "photo.gpkg")["total_bounds"] == (500_000, 6_650_000 - 36, 500_048, 6_650_000)


def test_labels_are_those_of_the_photograph_alone(random_weights: Path, photo: Path, tmp_path: Path) -> None:
    assert segment(random_weights, tmp_path / "alone", photo) == 0
    assert [path.name for path in (tmp_path / "alone").iterdir()] == ["photo.png"]
    photo.with_suffix(".jgw").write_text(WORLD)
    assert segment(random_weights, tmp_path / "placed", photo) == 0
    one, other = (np.asarray(Image.open(tmp_path / name / "photo.png")) for name in ("alone", "placed"))
    assert (one == other).mean() > 0.999


def test_photographs_that_are_read_by_window(photo: Path, monkeypatch) -> None:
    photo.with_suffix(".jgw").write_text(WORLD)
    photo.with_suffix(".prj").write_text(CRS.from_epsg(32632).to_wkt())
    monkeypatch.setattr(decoded, "_DECODED_PIXELS", 100)
    with open_source(photo) as source:
        assert source.georeference.transform == PLACE
        assert source.georeference.crs == CRS.from_epsg(32632)


def test_what_cannot_be_used_is_said(photo: Path, caplog, monkeypatch) -> None:
    caplog.set_level("INFO", "segscape")
    world = photo.with_suffix(".jgw")
    world.write_text("no numbers")
    assert read_place(photo) is None
    assert "photo.jpg: photo.jgw is left out: it holds no place that can be read." in caplog.messages
    world.write_text(WORLD)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photo).save(photo, exif=exif)
    assert read_place(photo) is None
    assert "turned by its orientation tag" in caplog.messages[-1]
    monkeypatch.setattr("segscape.rasters.world_file.has_rasterio", lambda: False)
    assert read_place(photo) is None
    assert "pip install rasterio" in caplog.messages[-1]


@pytest.mark.parametrize("kind", ["mask", "classes"])
def test_masks_keep_their_place(kind: str, refiner_weights: Path, photo: Path, tmp_path: Path, capsys) -> None:
    mask = Image.fromarray(np.pad(np.full((30, 40), 255 if kind == "mask" else 1, np.uint8), ((20, 22), (30, 26))))
    if kind == "classes":
        mask.putpalette([0, 0, 0, 255, 0, 0])
    mask.save(tmp_path / "mask.png")
    photo.with_suffix(".jgw").write_text(WORLD)
    words = ["refine", photo, tmp_path / "mask.png", "--output", tmp_path / "out.png", "--weights", refiner_weights]
    assert main([*map(str, words), "--device", "cpu"]) == 0
    assert (tmp_path / "out.pgw").read_text().split()[0] == "0.5"
    # A mask with a place of its own keeps it, and is refused if that is another one.
    (tmp_path / "mask.pgw").write_text(WORLD)
    assert main([*map(str, words), "--device", "cpu"]) == 0
    (tmp_path / "mask.pgw").write_text(WORLD.replace("500000", "507000"))
    capsys.readouterr()
    assert main([*map(str, words), "--device", "cpu"]) == 1
    assert "mask.png lies on other ground than" in " ".join(capsys.readouterr().err.split())
