"""Label maps, confidences and scores in files, read back by rasterio, GDAL and Pillow; arrays by windows."""

import math
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from segscape.geometry.window import Window, windows
from segscape.rasters import sink as sinks
from segscape.rasters.georeference import Georeference
from segscape.rasters.geotiff import read_georeference, write_geotiff
from segscape.rasters.image import read_labels
from segscape.rasters.scratch import MemoryArray, ScratchArray
from segscape.rasters.sink import write_bands, write_label_map

ROTATED = Affine.translation(733601, 3725139) @ Affine.rotation(33) @ Affine.scale(0.5, -0.4)
PLACE = Georeference(CRS.from_epsg(32616), ROTATED, nodata=0, tags={"AREA_OR_POINT": "Point", "PILOT": "Ada"})
CLASSES = {
    "palette": [(230, 25, 75), (60, 180, 75), (0, 130, 200)],
    "class_names": ["building", "water & <ice>", "grün"],
}
INRIA_LABELS = Path(__file__).parent / "data" / "inria" / "kitsap11_gt.png"


def labels(height: int = 700, width: int = 1100) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 3, (math.ceil(height / 9), math.ceil(width / 9)), np.uint8)
    values = coarse.repeat(9, axis=0).repeat(9, axis=1)[:height, :width].copy()
    values[:40, :90] = 255
    return values


def stored_blocks(dataset, level: int | None = None) -> list[int]:
    options = {} if level is None else {"ovr": level}
    return [
        int(dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1, **options) or 0)
        for row, col in ((0, 0), (0, 1))
    ]


def test_a_label_map_for_gis(tmp_path: Path) -> None:
    values, path = labels(), tmp_path / "new" / "map.tif"
    progress: list[tuple[int, int]] = []
    write_label_map(
        path,
        MemoryArray(values),
        georeference=PLACE,
        nodata=255,
        **CLASSES,
        on_progress=lambda *at: progress.append(at),
    )
    assert progress[-1] == (values.size, values.size)
    with rasterio.open(path) as dataset:
        assert np.array_equal(dataset.read(1), values)
        assert (dataset.crs, dataset.transform, dataset.nodata) == (PLACE.crs, PLACE.transform, 255)
        assert dataset.tags()["PILOT"] == "Ada"
        assert dataset.tags()["AREA_OR_POINT"] == "Point"
        assert dataset.profile["compress"] == "deflate"
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.colorinterp[0].name == "palette"
        assert [dataset.colormap(1)[label][:3] for label in range(3)] == CLASSES["palette"]
        assert dataset.tags(1) == {f"class_{label}": name for label, name in enumerate(CLASSES["class_names"])}
        assert dataset.descriptions == ("class",)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2, 4]
        # The defining order of a COG: overviews from coarse to fine, then the pixels.
        starts = [stored_blocks(dataset, 1)[0], stored_blocks(dataset, 0)[0], stored_blocks(dataset)[0]]
        assert starts == sorted(starts)
    rasterio.shutil.copy(path, tmp_path / "seen_by_gdal.vrt", driver="VRT")
    seen = (tmp_path / "seen_by_gdal.vrt").read_text(encoding="utf-8")
    assert "<Category>building</Category>" in seen
    assert "<Category>water &amp; &lt;ice&gt;</Category>" in seen
    assert "<Category>grün</Category>" in seen
    assert sorted(file.name for file in path.parent.iterdir()) == ["map.tif", "map.tif.aux.xml"]


def test_overviews_hold_the_most_frequent_label(tmp_path: Path) -> None:
    values = np.full((600, 600), 2, np.uint8)
    values[::2, ::2] = 1
    write_label_map(tmp_path / "a.tif", MemoryArray(values), **CLASSES)
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as dataset:
        assert (dataset.read(1) == 2).all()
    write_label_map(tmp_path / "a.tif", MemoryArray(values), overviews=False, **CLASSES)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.overviews(1) == []


@pytest.mark.parametrize("crs", [CRS.from_epsg(4326), None], ids=["system", "no system"])
def test_control_points_are_copied(tmp_path: Path, crs: CRS | None) -> None:
    points = tuple(
        GroundControlPoint(row, col, 10 + col, 20 - row) for row, col in ((0, 0), (0, 50), (40, 0), (40, 50))
    )
    place = Georeference(crs, Affine.identity(), gcps=points)
    write_label_map(tmp_path / "map.tif", MemoryArray(labels(40, 50)), georeference=place, **CLASSES)
    write_geotiff(tmp_path / "small.tif", labels(40, 50), georeference=place)
    for name in ("map.tif", "small.tif"):
        copied = read_georeference(tmp_path / name)
        assert copied.crs == place.crs
        assert [(at.row, at.col, at.x, at.y) for at in copied.gcps] == [(at.row, at.col, at.x, at.y) for at in points]


@pytest.mark.parametrize("limit", [0, 10**9], ids=["by rows", "at once"])
def test_png(tmp_path: Path, monkeypatch, limit: int) -> None:
    monkeypatch.setattr(sinks, "_PNG_PIXELS", limit)
    values = labels()
    done: list[tuple[int, int]] = []
    options = {"georeference": PLACE, "nodata": 255, "on_progress": lambda *at: done.append(at)}
    write_label_map(tmp_path / "map.png", MemoryArray(values), **CLASSES, **options)
    assert done[-1] == (values.size, values.size)
    image = Image.open(tmp_path / "map.png")
    assert image.mode == "P"
    assert "transparency" not in image.info
    assert image.getpalette()[:9] == [channel for colour in CLASSES["palette"] for channel in colour]
    assert np.array_equal(read_labels(tmp_path / "map.png"), values)
    write_bands(tmp_path / "GREY.PNG", MemoryArray(values), names=["confidence"])
    assert Image.open(tmp_path / "GREY.PNG").mode == "L"
    assert np.array_equal(read_labels(tmp_path / "GREY.PNG"), values)
    with rasterio.open(tmp_path / "map.png") as dataset:
        assert dataset.crs == PLACE.crs
        assert dataset.transform.almost_equals(PLACE.transform, 1e-6)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["GREY.PNG", "map.pgw", "map.png", "map.png.aux.xml"]


def test_scores_and_confidence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sinks, "_VALUES", 1)
    scores = np.random.default_rng(0).integers(0, 256, (600, 700, 3), np.uint8)
    write_bands(tmp_path / "scores.tif", MemoryArray(scores), names=CLASSES["class_names"], georeference=PLACE)
    mask = np.where(scores[..., 0] > 20, 255, 0).astype(np.uint8)
    write_bands(
        tmp_path / "confidence.tif", MemoryArray(scores.max(axis=2)), names=["confidence"], mask=MemoryArray(mask)
    )
    with rasterio.open(tmp_path / "scores.tif") as dataset:
        assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), scores)
        assert dataset.descriptions == tuple(CLASSES["class_names"])
        assert (dataset.crs, dataset.transform, dataset.nodata) == (PLACE.crs, ROTATED, None)
        assert dataset.overviews(3) == [2]
    with rasterio.open(tmp_path / "confidence.tif") as dataset:
        assert np.array_equal(dataset.read(1), scores.max(axis=2))
        assert dataset.nodata is None
        assert np.array_equal(dataset.read_masks(1), mask)
        assert [flag.name for flag in dataset.mask_flag_enums[0]] == ["per_dataset"]
        assert dataset.colorinterp[0].name == "gray"
    with pytest.raises(ValueError, match=r"scores.png would need 3 bands, which PNG has not"):
        write_bands(tmp_path / "scores.png", MemoryArray(scores), names=CLASSES["class_names"])
    with pytest.raises(ValueError, match=r"a.jpg does not end in .tif, .tiff or .png"):
        write_label_map(tmp_path / "a.jpg", MemoryArray(scores[..., 0]), **CLASSES)


def test_a_real_label_map_from_a_scratch_file(tmp_path: Path) -> None:
    truth = (read_labels(INRIA_LABELS) > 0).astype(np.uint8)
    scratch = ScratchArray(tmp_path / "scratch", truth.shape, np.uint8)
    for window in windows(truth.shape, (111, 222)):
        scratch.write(window, truth[window.slices])
    write_label_map(tmp_path / "map.tif", scratch, **CLASSES)
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert np.array_equal(dataset.read(1), truth)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from segscape.rasters.scratch import MemoryArray
from segscape.rasters import sink
sink._PNG_PIXELS = 0
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
values = np.random.default_rng(0).integers(0, 3, (520, 600), np.uint8)
classes = {"palette": [(0, 0, 0)] * 3, "class_names": ["a", "b", "c"]}
path = Path(sys.argv[1])
sink.write_label_map(path, MemoryArray(values), **classes)
size = path.stat().st_size
for file in path.parent.iterdir():
    file.unlink()
for part in (0, 0.7, 0.99, 1 - 1 / size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * part), resource.RLIM_INFINITY))
    try:
        sink.write_label_map(path, MemoryArray(values), **classes)
    except OSError as error:
        print(error)
    assert not list(path.parent.iterdir()), list(path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "out" / f"map{suffix}"
    answer = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert len(lines) == 4
    assert all(f"map{suffix} cannot be written: " in line for line in lines), lines
    assert all(line.endswith(f" MB are free in {path.parent}.") for line in lines), lines


def test_an_interrupted_map_leaves_nothing(tmp_path: Path) -> None:
    def read(window: Window) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_label_map(tmp_path / "map.tif", SimpleNamespace(size=(9, 9), read=read), **CLASSES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(31, 45), (31, 45, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_scratch_windows_are_slices(tmp_path_factory, shape: tuple, dtype: str, data) -> None:
    folder = tmp_path_factory.mktemp("scratch")
    scratch, expected = ScratchArray(folder / "a", shape, dtype), np.zeros(shape, dtype)
    for fill in range(1, 5):
        rows = sorted(data.draw(st.lists(st.integers(0, 31), min_size=2, max_size=2, unique=True)))
        cols = sorted(data.draw(st.lists(st.integers(0, 45), min_size=2, max_size=2, unique=True)))
        window = Window(rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0])
        expected[window.slices] = np.random.default_rng(fill).integers(0, 99, (*window.size, *shape[2:])).astype(dtype)
        scratch.write(window, expected[window.slices])
        assert np.array_equal(scratch.read(window), expected[window.slices])
    scratch.close()
    again = ScratchArray(folder / "a", shape, dtype)
    assert np.array_equal(again.read(Window(0, 0, 31, 45)), expected)
    assert np.array_equal(np.fromfile(folder / "a", dtype).reshape(shape), expected)


def test_scratch_is_sparse_shared_and_checked(tmp_path: Path) -> None:
    scratch = ScratchArray(tmp_path / "new" / "a", (10_000, 20_000), np.uint8)
    assert scratch.path.stat().st_size == scratch.nbytes == 200_000_000
    assert scratch.path.stat().st_blocks * 512 < 1e6
    other = pickle.loads(pickle.dumps(scratch))
    places = [Window(row, 5, 3, 7) for row in range(0, 300, 3)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda at: other.write(at, np.full((3, 7), at.row % 251, np.uint8)), places))
    scratch.flush()
    assert all((scratch.read(at) == at.row % 251).all() for at in places)
    assert not scratch.read(Window(9000, 0, 9, 20_000)).any()
    with pytest.raises(ValueError, match=r"a has 200000000 bytes where an array of shape \(9, 9\) and uint8 has 81"):
        ScratchArray(scratch.path, (9, 9), np.uint8)
    for values in (np.zeros((3, 8), np.uint8), np.zeros((3, 7), np.int32)):
        with pytest.raises(ValueError, match="do not fit"):
            scratch.write(places[0], values)
    os.truncate(scratch.path, 1000)
    with pytest.raises(OSError, match="ends at byte 1000; something else has cut it short"):
        scratch.read(Window(0, 0, 2, 20_000))


def test_scratch_on_a_full_disk(tmp_path: Path, monkeypatch) -> None:
    scratch = ScratchArray(tmp_path / "a", (100, 100), np.uint8)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=rf"a needs 10000 bytes and cannot grow any more, with \d+ free in {tmp_path};"):
        scratch.write(Window(0, 0, 100, 100), np.zeros((100, 100), np.uint8))
    usage = SimpleNamespace(free=999)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="b needs 1000 bytes and cannot grow any more, with 999 free"):
        ScratchArray(tmp_path / "b", (10, 100), np.uint8)
    assert not (tmp_path / "b").exists()
