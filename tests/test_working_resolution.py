"""Scenes seen at a ground resolution that the network was trained at, and results on the scene's own grid."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio import Affine
from rasterio.control import GroundControlPoint
from torch import Tensor
from torch.nn import functional as F

import segscape
from segscape.checkpoints.store import write_weights
from segscape.cli.main import main
from segscape.export.write import export_network
from segscape.geometry.window import Window
from segscape.normalisation import Normalisation
from segscape.rasters.georeference import ground_resolution
from segscape.rasters.geotiff import read_georeference
from segscape.rasters.resize import read_smoothly, resize_smoothly
from segscape.rasters.source import open_source
from segscape.scenes.cluster.worker import SceneOrder, SceneWorker
from segscape.scenes.files import SceneFiles
from segscape.scenes.pipeline import open_tasks
from segscape.scenes.scene import Scene, SceneSettings
from segscape.segmentation.upsampling.argmax import Upsampling
from segscape.segmentation.working_size import sight_of
from tests.fake.network import Coarse, card, noise

UTM = "EPSG:32616"
SIZE = (300, 420)


def write_scene(path: Path, values: np.ndarray, metres: float = 1.0, **place) -> Path:
    given = {"crs": UTM, "transform": Affine(metres, 0, 733601, 0, -metres, 3725139), **place}
    height, width, count = values.shape
    profile = {"driver": "GTiff", "dtype": "uint8", "tiled": True, "blockxsize": 64, "blockysize": 64}
    with rasterio.open(path, "w", height=height, width=width, count=count, **profile, **given) as dataset:
        dataset.write(np.moveaxis(values, -1, 0))
    return path


def labels_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether label maps agree, but where 8-bit rounding decides."""
    return found.shape == expected.shape and (found != expected).mean() <= 0.002


@torch.inference_mode()
def scores_by_hand(small: np.ndarray, own: tuple[int, int]) -> Tensor:
    """The logits of an image at its working size, straight to a size."""
    images = Normalisation()(torch.from_numpy(small).permute(2, 0, 1)[None])
    return F.interpolate(Coarse()(images), own, mode="bilinear")[0]


def resolution(path: Path, size: tuple[int, int] = (100, 200), **place) -> float | None:
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=1, height=size[0], width=size[1], **place):
        pass
    return ground_resolution(read_georeference(path), size)


def test_metres_of_projected_systems(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    assert resolution(path, crs=UTM, transform=Affine(0.25, 0, 5e5, 0, -0.25, 4e6)) == pytest.approx(0.25)
    c, s = np.cos(0.5), np.sin(0.5)
    turned = Affine(0.4 * c, 0.1 * s, 5e5, 0.4 * s, -0.1 * c, 4e6)
    assert resolution(path, crs=UTM, transform=turned) == pytest.approx(0.2)
    # Feet as surveyors in the United States count them.
    feet = Affine(1, 0, 1e6, 0, -1, 2e5)
    assert resolution(path, crs="EPSG:2263", transform=feet) == pytest.approx(1200 / 3937)


@pytest.mark.parametrize("latitude", [0, 48.2, -70])
def test_metres_of_degrees_and_of_mercators_metres(latitude: float, tmp_path: Path) -> None:
    degree = 1e-5
    place = Affine(degree, 0, 16.3, 0, -degree, latitude + 50 * degree)
    found = resolution(tmp_path / "a.tif", crs="EPSG:4326", transform=place)
    # Of a sphere, which no place on the ellipsoid differs from by more than half a percent.
    expected = np.radians(degree) * 6_371_007 * np.sqrt(np.cos(np.radians(latitude)))
    assert found == pytest.approx(expected, rel=0.006)
    y = np.arcsinh(np.tan(np.radians(latitude))) * 6_378_137
    found = resolution(tmp_path / "a.tif", crs="EPSG:3857", transform=Affine(1, 0, 1e6, 0, -1, y + 50))
    assert found == pytest.approx(np.cos(np.radians(latitude)), rel=1e-3)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_places_that_tell_no_metres(tmp_path: Path) -> None:
    path, points = tmp_path / "a.tif", [(0, 0), (0, 9), (9, 0)]
    assert resolution(path) is None
    assert resolution(path, transform=Affine(0.5, 0, 0, 0, -0.5, 0)) is None
    assert resolution(path, crs=UTM) is None
    gcps = [GroundControlPoint(row, col, 16 + col / 1e5, 48 - row / 1e5) for row, col in points]
    assert resolution(path, crs="EPSG:4326", gcps=gcps) is None


@pytest.mark.parametrize(
    ("metres", "seen"),
    [(0.1, (40, 60)), (0.25, (100, 150)), (0.5, (200, 300)), (0.7, (200, 300)), (1.005, (200, 300)), (2, (400, 600))],
)
def test_the_nearest_end_of_the_range(metres: float, seen: tuple[int, int], tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", np.zeros((200, 300, 3), np.uint8), metres)
    with open_source(scene) as source:
        sight = sight_of(card(working_size=64, working_resolution=(0.5, 1.0)), source)
        assert sight.size == seen
        assert ("its own size" in sight.reason) == (seen == (200, 300))
        assert sight_of(card(working_size=64), source).size == (200, 300)


@pytest.mark.parametrize(("metres", "factor"), [(0.25, 0.5), (0.1, 0.2), (0.13, 0.26), (1.0, 2)])
@pytest.mark.parametrize("mode", ["whole", "streaming"])
def test_scenes_are_those_resampled_by_hand(metres: float, factor: float, mode: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("segscape.scenes.scene.resident", lambda: 0)
    monkeypatch.setattr("segscape.rasters.resize._MOST_STRIP_PIXELS", 10_000)
    monkeypatch.setattr("segscape.scenes.streaming.plan._STEP_ROWS", (32, 8))
    values = noise(*SIZE)
    scene = write_scene(tmp_path / "scene.tif", values, metres)
    small = resize_smoothly(values, (round(SIZE[0] * factor), round(SIZE[1] * factor)))
    segmenter = segscape.Segmenter(Coarse(), card(working_resolution=(0.5, 0.5)), device="cpu")
    memory = 4 << 30 if mode == "whole" else round(6.5 * small.size)
    with Scene(segmenter, scene, SceneFiles(tmp_path / "out.tif"), SceneSettings(memory, context="scene")) as opened:
        assert opened.plan.mode == mode
        opened.run(on_progress=lambda share: None)
    assert same(labels_of(tmp_path / "out.tif"), scores_by_hand(small, SIZE).argmax(0).numpy())
    with rasterio.open(scene) as given, rasterio.open(tmp_path / "out.tif") as made:
        assert (made.crs, made.transform, made.shape) == (given.crs, given.transform, given.shape)


def test_tiles_are_of_the_training_size_where_the_network_sees(tmp_path: Path) -> None:
    """Each tile is reduced by itself to the size of the training crops, and they are blended on the scene's grid."""
    values = noise(700, 900)
    scene = write_scene(tmp_path / "scene.tif", values, 0.1)
    stated = card(working_resolution=(0.4, 0.5), training_size=(96, 128))
    segmenter = segscape.Segmenter(Coarse(), stated, device="cpu")
    with Scene(segmenter, scene, SceneFiles(tmp_path / "out.tif"), SceneSettings(4 << 30, "window")) as opened:
        tiling = opened.plan.tiling
        assert (opened.plan.mode, tiling.tile) == ("tiled", (384, 512))
        assert {geometry.size for geometry in opened.plan.geometries} == {(96, 128)}
        opened.run(on_progress=lambda share: None)
    total = torch.zeros(4, 700, 900)
    parts = [scores_by_hand(resize_smoothly(values[tile.slices].copy(), (96, 128)), tile.size) for tile in tiling.tiles]
    for cell in tiling.blends(Window(0, 0, 700, 900)):
        for number, weight in zip(cell.tiles, cell.weights, strict=True):
            tile = tiling.tiles[number]
            at = cell.window.relative_to(tile)
            total[:, *cell.window.slices] += parts[number][:, *at.slices] * torch.from_numpy(weight)
    assert same(labels_of(tmp_path / "out.tif"), total.argmax(0).numpy())


def test_reducing_does_not_alias(tmp_path: Path) -> None:
    """Stripes finer than the network can see are grey to it."""
    stripes = np.zeros((400, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    with open_source(write_scene(tmp_path / "scene.tif", stripes, 0.1)) as source:
        seen = read_smoothly(source.read, Window(0, 0, 400, 600), (100, 150), Window(3, 5, 90, 140))
    assert set(np.unique(seen)) <= {127, 128}


@pytest.fixture
def weights_with(tmp_path: Path, monkeypatch) -> Callable[..., Path]:
    """Writes weights of the least network, with a card that states something."""
    monkeypatch.setattr("segscape.segmentation.segmenter.create_model", lambda *_, **__: Coarse())

    def write(**stated) -> Path:
        write_weights(tmp_path / "weights.safetensors", card(**stated), Coarse().state_dict())
        return tmp_path / "weights.safetensors"

    return write


def segment(weights: Path, *words: object) -> int:
    return main(["segment", *map(str, words), "--weights", str(weights), "--device", "cpu"])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_run_says_at_what_resolution_it_sees(weights_with, tmp_path: Path, capsys) -> None:
    """A line for all scenes that are alike, and one for those that cannot be told."""
    values = noise(64, 80)
    scenes = [write_scene(tmp_path / f"{name}.tif", values, 0.25) for name in "ab"]
    scenes.append(write_scene(tmp_path / "plain.tif", values, crs=None, transform=None))
    out, weights = tmp_path / "out", weights_with(working_size=32, working_resolution=(0.5, 0.7))
    assert segment(weights, *scenes, "--output", out, "--context", "scene") == 0
    printed = capsys.readouterr().out
    assert printed.count("seen at") == 2
    assert "a.tif and 1 more: seen at 0.5 m a pixel instead of its own 0.25, the nearest of the 0.5 to 0.7" in printed
    assert "plain.tif: seen at its own size, for its ground resolution is not known" in printed
    assert same(labels_of(out / "plain.tif"), scores_by_hand(values, (64, 80)).argmax(0).numpy())
    assert segment(weights, scenes[0], "--output", tmp_path / "full", "--context", "scene", "--full-size") == 0
    assert np.array_equal(labels_of(tmp_path / "full" / "a.tif"), labels_of(out / "plain.tif"))
    assert not np.array_equal(labels_of(out / "a.tif"), labels_of(out / "plain.tif"))


def test_a_dry_run_says_what_is_seen_and_why(weights_with, tmp_path: Path, capsys) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(360, 480), 0.1)
    Image.fromarray(noise(90, 120)).save(tmp_path / "photo.png")
    weights, out = weights_with(working_size=45, working_resolution=(0.4, 0.5)), tmp_path / "out"
    assert segment(weights, tmp_path / "photo.png", scene, "--output", out, "--dry-run") == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "size 480 x 360 pixels" in printed
    assert "0.4 m a pixel instead of its own 0.1" in printed
    assert "120 x 90 pixels" in printed
    assert "the working size, a shorter side of 45 pixels: 60 x 45 pixels" in printed
    assert segment(weights, scene, "--output", out, "--dry-run", "--full-size") == 0
    assert "its own size" in capsys.readouterr().out
    assert not out.exists()


def test_an_interrupted_run_goes_on_with_the_same_size_alone(tmp_path: Path) -> None:
    scene, network = write_scene(tmp_path / "scene.tif", noise(200, 300), 0.1), Coarse()
    stated, files, how = card(working_resolution=(0.4, 0.5)), SceneFiles(tmp_path / "a.tif"), SceneSettings(4 << 30)
    segmenter = segscape.Segmenter(network, stated, device="cpu")
    with Scene(segmenter, scene, files, how) as begun:
        tasks, sums = open_tasks(begun.worker, begun.journal)
        begun.journal.add(tasks[0], begun.worker.run(tasks[0], sums, lambda share: None))
        plan = begun.plan.settings()
    with pytest.raises(ValueError, match="another state of: working_size"):
        Scene(segscape.Segmenter(network, stated, device="cpu", working_size=None), scene, files, how)
    with Scene(segmenter, scene, files, how) as again:
        assert again.resumed
        assert json.dumps(again.plan.settings()) == json.dumps(plan)
        again.run(on_progress=lambda share: None)
    with Scene(segmenter, scene, SceneFiles(tmp_path / "afresh.tif"), how) as afresh:
        afresh.run(on_progress=lambda share: None)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "afresh.tif").read_bytes()


def test_workers_of_a_cluster_see_the_same(tmp_path: Path) -> None:
    """What a worker is given, network and card, is enough to go on with what was begun."""
    scene, stated = write_scene(tmp_path / "scene.tif", noise(200, 300), 0.1), card(working_resolution=(0.4, 0.5))
    files, how = SceneFiles(tmp_path / "labels.tif"), SceneSettings(4 << 30)
    here = segscape.Segmenter(Coarse(), stated, device="cpu", working_size=None)
    with Scene(here, scene, files, how) as begun:
        tasks, sums = open_tasks(begun.worker, begun.journal)
        order, record = SceneOrder(scene, files, how, sums), {"scene": 0, **tasks[0]._asdict()}
        there = SceneWorker(segscape.Segmenter(here.network, here.card, device="cpu"), [order])
        assert there(record)["error"] == ""
        other = SceneWorker(segscape.Segmenter(here.network, stated, device="cpu"), [order])
        assert "working_size" in other(record)["message"]


@pytest.mark.parametrize("labels", [True, False])
def test_exported_for_one_size(labels: bool, tmp_path: Path) -> None:
    network, path, image = Coarse(align_corners=True), tmp_path / "small.onnx", noise(120, 160)
    export_network(network, card(working_size=60), path, size=(64, 96), labels=labels)
    segmenter = segscape.Segmenter.from_weights(path, "cpu")
    assert segmenter.card.working_size == 60
    if labels:
        with pytest.raises(ValueError, match=r"gives labels, .* 60 x 80 pixels .* own 120 x 160; .* --full-size"):
            segmenter.segment(image)
        at_size = segmenter.segment(resize_smoothly(image, (60, 80))).labels
        assert at_size.shape == (60, 80)
        return
    # Padded by the mean colour to the size of the file, which stays outside.
    images = Normalisation()(torch.from_numpy(resize_smoothly(image, (60, 80))).permute(2, 0, 1)[None])
    with torch.inference_mode():
        logits = network(F.pad(images, (0, 16, 0, 4)))[0]
    straight = Upsampling.of_padded((8, 12), padded=(64, 96), image=(60, 80), size=(120, 160), align_corners=True)
    assert same(segmenter.segment(image).labels, straight.argmax(logits).numpy())
    with pytest.raises(ValueError, match=r"up to 64 x 96 pixels .* not of 60 x 120; .* a smaller --working-size"):
        segmenter.segment(noise(120, 240))
    with pytest.raises(ValueError, match=r"up to 64 x 96 pixels .* not of 120 x 160; .* --size dynamic\."):
        segscape.Segmenter.from_weights(path, "cpu", working_size=None).segment(image)


def test_exported_for_one_size_in_tiles(tmp_path: Path) -> None:
    """A scene's tiles are of the file's size where the network sees, whatever they are on the scene's grid."""
    path, files, how = tmp_path / "small.onnx", SceneFiles(tmp_path / "out.tif"), SceneSettings(4 << 30)
    export_network(Coarse(align_corners=True), card(working_resolution=(0.5, 0.5)), path, size=(64, 96))
    segmenter = segscape.Segmenter.from_weights(path, "cpu")
    for metres, tile in ((0.15, (213, 320)), (1.7, (19, 28))):
        scene = write_scene(tmp_path / f"{metres}.tif", noise(360, 480), metres)
        with Scene(segmenter, scene, files, how) as opened:
            assert opened.plan.tiling.tile == tile
            assert opened.plan.geometries[0].padded == (64, 96)
    scene = write_scene(tmp_path / "fine.tif", noise(360, 480), 0.05)
    with pytest.raises(ValueError, match="as it is to be seen, is smaller than the 64 x 96 pixels"):
        Scene(segmenter, scene, files, how)


def test_exported_for_every_size(tmp_path: Path) -> None:
    network, path, image = Coarse(align_corners=True), tmp_path / "any.onnx", noise(120, 170)
    export_network(network, card(working_size=64), path, size=None)
    expected = segscape.Segmenter(network, card(working_size=64), device="cpu").segment(image).labels
    assert same(segscape.Segmenter.from_weights(path, "cpu").segment(image).labels, expected)
