"""Scenes from file to file, as users segment them: places, gaps, outputs, and what goes wrong."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from PIL import Image
from rasterio import Affine

import segscape
from segscape.cli.main import main
from segscape.evaluation.protocols import EvaluationProtocol, score_maps
from segscape.rasters.channels import Scaling
from segscape.rasters.scratch import ScratchArray
from segscape.runtime.winograd.layers import WinogradConv2d

PLACE = {"crs": "EPSG:32616", "transform": Affine.translation(733601, 3725139) @ Affine.scale(0.5, -0.5)}
WEIGHTS = "scapenet_lite0.aerial"
SIZE = (330, 410)


def pixels(size: tuple[int, int] = SIZE) -> np.ndarray:
    """A street frame in place of a scene: real content, mirrored and repeated."""
    frame = sorted((Path(segscape.__file__).parent / "examples" / "camvid" / "images" / "val").iterdir())[0]
    values = np.asarray(Image.open(frame))
    return np.pad(values, [(0, max(s - n, 0)) for s, n in zip(size, values.shape[:2], strict=True)] + [(0, 0)], "wrap")[
        : size[0], : size[1]
    ]


def write(path: Path, values: np.ndarray, **profile) -> Path:
    height, width, count = values.shape
    profile = {"driver": "GTiff", "dtype": values.dtype, "tiled": True, **PLACE, **profile}
    with rasterio.open(path, "w", height=height, width=width, count=count, **profile) as dataset:
        dataset.write(np.moveaxis(values, -1, 0))
    return path


def segment(*words: object) -> int:
    return main(["segment", *map(str, words), "--weights", WEIGHTS, "--device", "cpu"])


@pytest.fixture(scope="module")
def segmenter() -> segscape.Segmenter:
    return segscape.Segmenter.from_weights(WEIGHTS, device="cpu")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write(tmp_path / "scene.tif", pixels())


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


@pytest.mark.parametrize("turn", [0, 33])
def test_place_and_gaps_come_out_as_they_went_in(turn: int, segmenter, tmp_path: Path) -> None:
    values = pixels().copy()
    values[100:150, 200:260] = 0
    transform = PLACE["transform"] @ Affine.rotation(turn)
    image = write(tmp_path / "scene.tif", values, nodata=0, transform=transform)
    assert segment(image, "--output", tmp_path / "out", "--context", "scene") == 0
    with rasterio.open(image) as given, rasterio.open(tmp_path / "out" / "scene.tif") as made:
        assert (made.crs, made.transform, made.shape) == (given.crs, given.transform, given.shape)
        assert np.array_equal(made.dataset_mask(), given.dataset_mask())
        labels = made.read(1)
        assert made.colormap(1)[1][:3] == segmenter.card.palette[1]
        assert made.tags(1)["class_0"] == segmenter.card.class_names[0]
    data = given_mask(image)
    assert np.array_equal(labels[data], segmenter.segment(values).labels[data])
    assert (labels[~data] == 255).all()
    assert not leftovers(tmp_path / "out")


def given_mask(image: Path) -> np.ndarray:
    with rasterio.open(image) as dataset:
        return dataset.dataset_mask() > 0


@pytest.mark.parametrize("suffix", ["gpkg", "geojson"])
def test_polygons_have_the_area_of_their_pixels(suffix: str, scene: Path, tmp_path: Path) -> None:
    assert segment(scene, "--output", tmp_path / "out", "--polygons", suffix) == 0
    _, fields = (
        pyogrio.read_info(tmp_path / "out" / f"scene.{suffix}"),
        pyogrio.raw.read(tmp_path / "out" / f"scene.{suffix}", columns=["label", "area_m2"], read_geometry=False),
    )
    label, area = fields[3]
    with rasterio.open(tmp_path / "out" / "scene.tif") as made:
        counts = np.bincount(made.read(1).ravel())
    for index in np.flatnonzero(counts):
        # On the ellipsoid; the map's scale at this place is 1.0003.
        assert area[label == index].sum() == pytest.approx(counts[index] * 0.25, rel=1e-3)


def test_confidence_scores_and_overlay(scene: Path, segmenter, tmp_path: Path) -> None:
    assert segment(scene, "--output", tmp_path, "--confidence", "--scores", "--overlay", "--context", "scene") == 1
    out = tmp_path / "out"
    assert segment(scene, "--output", out, "--confidence", "--scores", "--overlay", "--context", "scene") == 0
    probabilities = expected_scores(segmenter, pixels()).softmax(0)
    with rasterio.open(out / "scene_scores.tif") as made:
        assert made.descriptions == segmenter.card.class_names
        assert np.abs(made.read() - 255 * probabilities.numpy()).max() <= 0.51
    with rasterio.open(out / "scene_confidence.tif") as made:
        assert np.abs(made.read(1) - 255 * probabilities.amax(0).numpy()).max() <= 0.51
    assert Image.open(out / "scene_overlay.jpg").size == SIZE[::-1]


@pytest.fixture
def collared(tmp_path: Path) -> Path:
    """A scene with a black collar along two of its sides, which it does not declare."""
    values = np.maximum(pixels(), 1)
    values[:, :40] = values[:30] = 0
    path = tmp_path / "collared.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": SIZE[0], "width": SIZE[1]}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(np.moveaxis(values, -1, 0))
    return path


def test_a_collar_that_is_not_declared_is_noticed(collared: Path, tmp_path: Path, capsys) -> None:
    assert segment(collared, "--output", tmp_path / "out") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "of its border is 0 in every band, like a collar without data" in said
    assert "--nodata 0 leaves such pixels out" in said


def test_where_no_data_is_there_is_nothing_in_any_file(collared: Path, tmp_path: Path, capsys) -> None:
    words = ("--nodata", 0, "--confidence", "--scores", "--polygons", "gpkg")
    assert segment(collared, "--output", tmp_path / "out", *words) == 0
    assert "collar without" not in capsys.readouterr().err
    outside = np.zeros(SIZE, bool)
    outside[:, :40] = outside[:30] = True
    for name in ("collared", "collared_confidence", "collared_scores"):
        with rasterio.open(tmp_path / "out" / f"{name}.tif") as made:
            masks = made.read_masks()
        assert (masks[:, outside] == 0).all()
        assert (masks[:, ~outside] == 255).all()
    fields = pyogrio.raw.read(tmp_path / "out" / "collared.gpkg", columns=["pixels"], read_geometry=False)[3]
    assert fields[0].sum() == (~outside).sum()


@torch.inference_mode()
def expected_scores(segmenter, values: np.ndarray, **protocol) -> torch.Tensor:
    images = torch.from_numpy(values).permute(2, 0, 1)[None]
    return score_maps(
        EvaluationProtocol(**protocol), segmenter.deployed, images, normalise=segmenter.card.normalisation
    )[0]


@pytest.mark.parametrize("memory", ["4GB", "least"])
def test_scales_and_mirror_images(memory: str, scene: Path, segmenter, tmp_path: Path, monkeypatch) -> None:
    """Whole and streamed, test-time augmentation gives what the evaluation protocol gives."""
    if memory == "least":
        monkeypatch.setattr("segscape.scenes.scene.resident", lambda: 4_000_000_000 - 32_000_000)
    given = ["--max-memory", "4GB", "--context", "scene", "--scales", "0.75,1.3", "--flip"]
    assert segment(scene, "--output", tmp_path / "out", *given) == 0
    expected = expected_scores(segmenter, pixels(), scales=(0.75, 1.3), flip=True, softmax="image").argmax(0).numpy()
    with rasterio.open(tmp_path / "out" / "scene.tif") as made:
        assert (made.read(1) != expected).mean() <= 1e-4


@pytest.mark.parametrize("memory", ["4GB", "least"])
def test_winograds_convolutions_give_the_same_map(
    memory: str, scene: Path, segmenter, tmp_path: Path, monkeypatch
) -> None:
    """At once and streamed."""
    if memory == "least":
        monkeypatch.setattr("segscape.scenes.scene.resident", lambda: 4_000_000_000 - 32_000_000)
    streamed = []
    monkeypatch.setattr(WinogradConv2d, "forward", _noted(WinogradConv2d.forward, streamed))
    given = ["--max-memory", "4GB", "--context", "scene", "--runtime", "winograd"]
    assert segment(scene, "--output", tmp_path / "out", *given) == 0
    assert any(streamed) == (memory == "least")
    expected = expected_scores(segmenter, pixels()).argmax(0).numpy()
    with rasterio.open(tmp_path / "out" / "scene.tif") as made:
        assert (made.read(1) != expected).mean() <= 1e-4


def _noted(forward, streamed: list[bool]):
    """A layer's forward that notes whether it was given a padding, as streams do."""

    def noting(layer, x, padding=None):
        streamed.append(padding is not None)
        return forward(layer, x, padding)

    return noting


def test_dry_run_tells_the_plan_and_writes_nothing(scene: Path, tmp_path: Path, capsys) -> None:
    assert segment(scene, "--output", tmp_path / "out", "--dry-run", "--context", "window") == 0
    assert segment(scene, "--output", tmp_path / "out", "--dry-run") == 0
    printed = capsys.readouterr().out
    for word in ("tiled, approximate", "whole, the result of the whole scene", "410 x 330", "halo", "memory", "time"):
        assert word in printed
    assert not (tmp_path / "out").exists()


def test_large_photographs_are_scenes(segmenter, tmp_path: Path, monkeypatch) -> None:
    Image.fromarray(pixels()).save(tmp_path / "photo.png")
    monkeypatch.setattr("segscape.cli.commands.segment.fits_at_once", lambda *_, **__: False)
    assert segment(tmp_path / "photo.png", "--output", tmp_path / "out", "--overlay") == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "photo.png")), segmenter.segment(pixels()).labels)
    assert (tmp_path / "out" / "photo_overlay.jpg").exists()


def test_sixteen_bits_with_a_scaling_and_chosen_bands(segmenter, tmp_path: Path) -> None:
    values = pixels()
    stored = np.concatenate([values[..., ::-1].astype(np.uint16) * 10 + 100, np.zeros((*SIZE, 1), np.uint16)], -1)
    image = write(tmp_path / "scene.tif", stored)
    words = ["--bands", "3,2,1", "--scaling", "100,2650", "--context", "scene"]
    assert segment(image, "--output", tmp_path / "out", *words) == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as made:
        assert np.array_equal(made.read(1), segmenter.segment(values).labels)


def test_one_scaling_for_all_scenes_of_a_run(segmenter, tmp_path: Path, capsys) -> None:
    """Two halves of a picture, of which one is dark: each by itself would come out as bright as the other."""
    values = pixels().astype(np.uint16) * 10 + 100
    dark, bright = values[:, :200] // 3, values[:, 200:]
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "dark.tif", dark)
    write(tmp_path / "in" / "bright.tif", bright)
    (tmp_path / "in" / "broken.tif").write_bytes(b"no image")
    assert segment(tmp_path / "in", "--output", tmp_path / "out", "--scaling", "common", "--context", "scene") == 3
    said = " ".join(capsys.readouterr().err.split())
    low, high = np.percentile(np.concatenate([dark[::2, ::2].ravel(), bright[::2, ::2].ravel()]), [0.1, 99.9])
    found = re.search(r"2 images: of its uint16 values ([\d.]+) and ([\d.]+), which 0.1 and 99.9 % lie below", said)
    assert float(found[1]) == pytest.approx(low, abs=20)
    assert float(found[2]) == pytest.approx(high, rel=0.02)
    shared = Scaling(float(found[1]), float(found[2]))
    for name, half in (("dark", dark), ("bright", bright)):
        expected = segmenter.segment(shared.to_eight_bits(half)).labels
        with rasterio.open(tmp_path / "out" / f"{name}.tif") as made:
            assert (made.read(1) == expected).mean() > 0.999
    # Images of 8 bits would be changed.
    write(tmp_path / "in" / "eight.tif", pixels())
    assert segment(tmp_path / "in", "--output", tmp_path / "other", "--scaling", "common") == 1
    assert "eight.tif is of 8 bits and other images are not" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "other").exists()
    # Alone they need none.
    assert segment(tmp_path / "in" / "eight.tif", "--output", tmp_path / "alone", "--scaling", "common") == 0


def test_refined_scenes_keep_their_place(scene: Path, refiner_weights: Path, tmp_path: Path) -> None:
    assert segment(scene, "--output", tmp_path / "out", "--refine", "--refine-weights", refiner_weights) == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as made:
        assert made.crs == PLACE["crs"]


def test_a_scene_too_large_to_be_refined(scene: Path, refiner_weights: Path, tmp_path: Path, capsys) -> None:
    words = ["--refine", "--refine-weights", refiner_weights, "--max-memory", "2MB"]
    assert segment(scene, "--output", tmp_path / "out", *words) == 1
    assert "leave out --refine" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_scene_without_data(tmp_path: Path) -> None:
    image = write(tmp_path / "scene.tif", np.zeros((*SIZE, 3), np.uint8), nodata=0)
    assert segment(image, "--output", tmp_path / "out", "--polygons", "gpkg") == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as made:
        assert (made.read(1) == 255).all()
        assert not made.dataset_mask().any()
    assert pyogrio.read_info(tmp_path / "out" / "scene.gpkg", force_feature_count=True)["features"] == 0


def truncated(path: Path) -> str:
    content = write(path, pixels(), compress="deflate").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return "cut short or damaged"


def two_bands(path: Path) -> str:
    write(path, pixels()[..., :2])
    return "2 bands"


def no_pixels(path: Path) -> str:
    # The tag of the width, 256, as a short of value 0.
    content = bytearray(write(path, pixels((16, 16)), tiled=False).read_bytes())
    offset = int.from_bytes(content[4:8], "little")
    entry = content.index((256).to_bytes(2, "little"), offset)
    content[entry + 8 : entry + 10] = b"\0\0"
    path.write_bytes(content)
    return "scene.tif"


def million_by_million(path: Path) -> str:
    profile = {"driver": "GTiff", "dtype": "uint8", "tiled": True, "blockxsize": 8192, "blockysize": 8192}
    with rasterio.open(path, "w", width=10**6, height=10**6, count=3, sparse_ok=True, bigtiff="YES", **profile):
        pass
    return "GB free"


@pytest.mark.parametrize("context", ["scene", "window"])
@pytest.mark.parametrize("damage", [truncated, two_bands, no_pixels, million_by_million])
def test_bad_scenes_are_named_and_skipped(damage, context: str, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    expected = damage(folder / "scene.tif")
    write(folder / "tiny.tif", pixels((64, 80)))
    assert segment(folder, "--output", tmp_path / "out", "--context", context, "--max-memory", "4GB") == 3
    printed = capsys.readouterr()
    message = next(line for line in (printed.out + printed.err).splitlines() if line.startswith("error: "))
    assert expected in message
    assert "Traceback" not in printed.err
    assert [path.name for path in (tmp_path / "out").glob("*.tif")] == ["tiny.tif"]
    assert not leftovers(tmp_path / "out")


def test_a_full_disk_leaves_a_run_that_can_go_on(scene: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    assert segment(scene, "--output", tmp_path / "whole") == 0
    write_window, count = ScratchArray.write, iter(range(100))

    def fail(array: ScratchArray, window, values) -> None:
        if array.path.name == "labels" and next(count) == 0:
            raise OSError(f"{array.path} cannot grow any more.")
        write_window(array, window, values)

    monkeypatch.setattr(ScratchArray, "write", fail)
    assert segment(scene, "--output", tmp_path / "out") == 1
    assert "cannot grow" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".scene.tif.unfinished"]
    assert segment(scene, "--output", tmp_path / "out") == 0
    assert "going on" in capsys.readouterr().err
    assert (tmp_path / "out" / "scene.tif").read_bytes() == (tmp_path / "whole" / "scene.tif").read_bytes()


def test_another_run_s_remains_are_kept(scene: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("segscape.scenes.outputs.LabelWriter.run", lambda *_: (_ for _ in ()).throw(OSError("Full.")))
    assert segment(scene, "--output", tmp_path / "out") == 1
    monkeypatch.undo()
    assert segment(scene, "--output", tmp_path / "out", "--context", "scene") == 1
    assert "settings" in capsys.readouterr().err
    assert segment(scene, "--output", tmp_path / "out") == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(scene: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    assert segment(scene, "--output", tmp_path / "out") == 1
    assert "permission" in capsys.readouterr().err


def test_too_little_memory(scene: Path, tmp_path: Path, capsys) -> None:
    assert segment(scene, "--output", tmp_path / "out", "--max-memory", "1MB") == 1
    assert "raise --max-memory" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--tolerance", "2"],
        ["--scales", "0,1"],
        ["--polygons", "gpkg", "--tolerance", "-1"],
    ],
)
def test_bad_arguments(words: list[str], scene: Path, tmp_path: Path, capsys) -> None:
    assert segment(scene, "--output", tmp_path / "out", *words) == 1
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--bands", "0"], ["--scaling", "5"], ["--scaling", "9,1"], ["--max-memory", "lots"]]
)
def test_bad_values(words: list[str], scene: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        segment(scene, "--output", tmp_path / "out", *words)


def test_video(segmenter, tmp_path: Path, capsys) -> None:
    from segscape.rasters.video import VideoSink, VideoSource

    frame = pixels((96, 128))
    with VideoSink(tmp_path / "drive.mp4", (96, 128), 10) as sink:
        for _ in range(3):
            sink.write(frame)
    assert segment(tmp_path / "drive.mp4", "--output", tmp_path / "out", "--overlay") == 0
    made = [frame.pixels for frame in VideoSource(tmp_path / "out" / "drive.mp4")]
    seen = next(iter(VideoSource(tmp_path / "drive.mp4"))).pixels
    palette = np.array(segmenter.card.palette)
    assert len(made) == 3
    assert np.abs(made[0].astype(int) - palette[segmenter.segment(seen).labels]).mean() < 12
    assert (tmp_path / "out" / "drive_overlay.mp4").exists()
    shutil.copy(tmp_path / "drive.mp4", tmp_path / "copy.mp4")
    for words in (["--confidence"], ["--scales", "0.5,1"], ["--engine", "ray"]):
        assert segment(tmp_path / "copy.mp4", "--output", tmp_path / "out", *words) == 1
        assert f"{words[0]} " in capsys.readouterr().err


def test_a_cluster_is_given_all_images(scene: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    """Photographs too, whole ones as by this machine alone; what a cluster does is tested beside it."""
    Image.fromarray(pixels()).save(tmp_path / "photo.png")
    calls = []

    def on_ray(segmenter, scenes, how, **options):
        calls.append((dict(scenes), how.context, options["address"]))
        for image in scenes:
            yield image, {"ground": 1.0} if image == scene else ValueError(f"{image} is damaged.")

    monkeypatch.setattr("segscape.scenes.cluster.driver.segment_on_ray", on_ray)
    given = [scene, tmp_path / "photo.png", "--output", tmp_path / "out", "--engine", "ray", "--address", "auto"]
    assert segment(*given) == 3
    assert [(list(scenes), context, address) for scenes, context, address in calls] == [
        ([tmp_path / "photo.png"], "scene", "auto"),
        ([scene], "window", "auto"),
    ]
    printed = capsys.readouterr().err
    assert "photo.png is damaged" in printed
    assert "scene.tif: ground 100%" in printed


def test_geojson_of_a_local_system_is_refused_before_work(collared: Path, tmp_path: Path, capsys) -> None:
    with rasterio.open(collared, "r+") as dataset:
        dataset.crs = rasterio.crs.CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
        dataset.transform = rasterio.transform.from_origin(100, 200, 0.5, 0.5)
    output = tmp_path / "out"
    assert segment(collared, "--output", output, "--polygons", "geojson") == 1
    assert "lies in a local coordinate reference system, and GeoJSON holds longitude and latitude" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not output.exists()
    assert segment(collared, "--output", output, "--polygons", "gpkg") == 0
    assert (output / "collared.gpkg").is_file()
