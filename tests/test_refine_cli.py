"""`segscape refine` and `segscape segment --refine` as a user meets them, and the refinement of class maps."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin

import segscape
from segscape import refine_classes
from segscape.arguments.values import memory
from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.store import write_weights
from segscape.cli.main import main
from segscape.labels import CAMVID, IGNORE_INDEX
from segscape.rasters.georeference import Georeference
from segscape.rasters.scratch import MemoryArray
from segscape.rasters.sink import write_label_map
from segscape.refinement.refiner import Refiner
from segscape.viz.refinement import most_changed
from tests.references import crm


@pytest.fixture
def pairs(tmp_path: Path, camvid_examples: Path) -> Path:
    """Small frames in `images` and masks of their roads in `masks`, one pair in a subfolder."""
    folder = tmp_path / "pairs"
    frames = sorted((camvid_examples / "images" / "val").iterdir())
    for frame, name in zip(frames, ("a", "b", "night/c"), strict=False):
        labels = camvid_examples / "labels" / "val" / f"{frame.stem}.png"
        image, mask = folder / "images" / f"{name}.jpg", folder / "masks" / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.open(frame).resize((48, 36)).save(image)
        road = np.asarray(Image.open(labels).resize((48, 36), Image.Resampling.NEAREST)) == 3
        Image.fromarray(road).save(mask)
    return folder


@pytest.fixture
def run(refiner_weights: Path) -> Callable[..., int]:
    """Runs `segscape refine` on the CPU with the untrained weights."""
    return lambda *words: main(["refine", *map(str, words), "--weights", str(refiner_weights), "--device", "cpu"])


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_one_pair(run, refiner_weights: Path, pairs: Path, tmp_path: Path, capsys) -> None:
    image, mask = pairs / "images" / "a.jpg", pairs / "masks" / "a.png"
    expected = Refiner.from_weights(refiner_weights, "cpu").refine(image, mask)
    assert run(image, mask) == 0
    assert run(image, mask, "--output", tmp_path / "out" / "x.png", "--alpha") == 0
    assert run(image, mask, "--output", tmp_path / "binary", "--binary", "--alpha") == 0
    soft = np.rint(255 * expected.probability)
    assert np.array_equal(np.asarray(Image.open(pairs / "images" / "a_refined.png")), soft)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "x.png")), soft)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "binary" / "a.png")), expected.mask * 255)
    for cut_out in (tmp_path / "out" / "a_alpha.png", tmp_path / "binary" / "a_alpha.png"):
        pixels = np.asarray(Image.open(cut_out))
        assert np.array_equal(pixels[..., :3], np.asarray(Image.open(image)))
        assert np.array_equal(pixels[..., 3], soft)
    printed = capsys.readouterr().out
    for word in ("read", "refine", "write", "48 x 36", "a.jpg", "1 refined mask(s)"):
        assert word in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transform": from_origin(507000, 4600000, 0.5, 0.5)}, "lies on other ground than"),
        ({"transform": from_origin(500000, 4600000, 1, 1)}, "lies on other ground than"),
        ({"crs": "EPSG:32633"}, "have different coordinate reference systems"),
        ({}, None),
    ],
)
def test_a_mask_of_another_place_is_refused(run, tmp_path: Path, capsys, change: dict, message: str | None) -> None:
    place = {"crs": "EPSG:32632", "transform": from_origin(500000, 4600000, 0.5, 0.5)}
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "dtype": "uint8", "height": 40, "width": 48}
    with rasterio.open(tmp_path / "scene.tif", "w", count=3, **profile, **place) as dataset:
        dataset.write(rng.integers(0, 256, (3, 40, 48), np.uint8))
    mask = np.zeros((1, 40, 48), np.uint8)
    mask[:, 10:30, 10:30] = 255
    with rasterio.open(tmp_path / "mask.tif", "w", count=1, **profile, **{**place, **change}) as dataset:
        dataset.write(mask)
    output = tmp_path / "out" / "refined.tif"
    assert run(tmp_path / "scene.tif", tmp_path / "mask.tif", "--output", output) == (message is not None)
    assert output.exists() == (message is None)
    if message is not None:
        assert message in " ".join("".join(capsys.readouterr()).split())


def test_a_refined_class_raster_says_all_that_it_said_before(run, tmp_path: Path) -> None:
    labels = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 3, (40, 50), np.uint8), 20, 0), 20, 1)
    place = Georeference(CRS.from_epsg(32632), from_origin(500000, 4600000, 0.5, 0.5))
    scene = tmp_path / "scene.tif"
    with rasterio.open(
        scene, "w", driver="GTiff", dtype="uint8", count=3, height=800, width=1000, **place.profile
    ) as dataset:
        dataset.write(np.stack([labels * 60] * 3))
    palette, names = ((10, 20, 30), (40, 50, 60), (70, 80, 90)), ("roof", "grün", "road")
    write_label_map(
        tmp_path / "map.tif", MemoryArray(labels), palette=palette, class_names=names, georeference=place, nodata=255
    )
    assert run(scene, tmp_path / "map.tif", "--output", tmp_path / "out.tif", "--steps", 1) == 0
    with rasterio.open(tmp_path / "map.tif") as before, rasterio.open(tmp_path / "out.tif") as after:
        assert before.overviews(1) == after.overviews(1) != []
        assert before.colormap(1) == after.colormap(1)
        assert before.nodata == after.nodata == 255
        named = [
            {key: value for key, value in file.tags(1).items() if key.startswith("class_")} for file in (before, after)
        ]
        assert named[0] == named[1] == {f"class_{number}": name for number, name in enumerate(names)}
        assert after.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A folder in the layout of BIG: the golden's image, and another one without its exact mask."""
    folder = tmp_path / "big"
    folder.mkdir()
    with np.load(crm.FOLDER / "golden_crm_pipeline.npz") as stored:
        image, mask = stored["image"], stored["mask"]
    Image.fromarray(image).save(folder / "2008_01_im.png")
    Image.fromarray(mask).save(folder / "2008_01_seg.png")
    Image.fromarray(255 - mask).save(folder / "2008_01_gt.png")
    Image.fromarray(image[:60, :70]).save(folder / "b_dog_im.jpg")
    Image.fromarray(mask[:60, :70]).save(folder / "b_dog_seg.png")
    return folder


@pytest.fixture(scope="module")
def official_refiner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden's weights as a weights file."""
    network = crm.pipeline_network()
    path = tmp_path_factory.mktemp("weights") / "crm.safetensors"
    card = WeightsCard(crm.NAME, ("foreground",), ((255, 255, 255),), network.normalisation)
    write_weights(path, card, network.state_dict())
    return path


def test_a_folder_of_big_becomes_the_files_of_the_authors_script(
    big: Path, official_refiner: Path, tmp_path: Path, capsys
) -> None:
    words = ["refine", str(big), "--layout", "big", "--weights", str(official_refiner), "--device", "cpu", "--output"]
    assert main([*words, str(tmp_path / "out"), "--stages"]) == 0
    assert "2 of 2 object(s)" in capsys.readouterr().out
    scales = ("0.125", "0.25", "0.5", "1.0")
    masks = {f"{s}_{name}_{kind}.png" for s in scales for name in ("2008_01", "b_dog") for kind in ("mask", "01mask")}
    inputs = {"2008_01_im.png", "2008_01_seg.png", "2008_01_gt.png", "b_dog_im.png", "b_dog_seg.png"}
    assert _files(tmp_path / "out") == masks | inputs

    def pixels(name: str) -> np.ndarray:
        return np.asarray(Image.open(tmp_path / "out" / name))

    image, mask = (np.asarray(Image.open(big / f"2008_01_{kind}.png")) for kind in ("im", "seg"))
    assert np.array_equal(pixels("2008_01_im.png"), image)
    assert np.array_equal(pixels("2008_01_seg.png"), mask)
    assert np.array_equal(pixels("2008_01_gt.png"), 255 - mask)
    with np.load(crm.FOLDER / "golden_crm_pipeline.npz") as stored:
        final = stored["mask_png_1.0"]
    # Rounding down turns a difference in the last digit into one level.
    apart = np.abs(pixels("1.0_2008_01_mask.png").astype(int) - final)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 1e-3
    for scale, stage in zip(scales, crm.plain_stages(crm.pipeline_network(), image, mask), strict=True):
        probability = crm.inner(stage.probability)
        apart = np.abs(pixels(f"{scale}_2008_01_mask.png").astype(int) - (probability * 255).astype(np.uint8))
        assert apart.max() <= 1
        assert (apart > 0).mean() < 1e-3
        differing = pixels(f"{scale}_2008_01_01mask.png") != 255 * (probability > 0.5)
        assert differing.mean() < 1e-4

    assert main([*words, str(tmp_path / "last")]) == 0
    assert _files(tmp_path / "last") == {name for name in masks if name.startswith("1.0_")} | inputs
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "last" / "1.0_b_dog_mask.png")), pixels("1.0_b_dog_mask.png")
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{big}", "--layout", "big"], "--layout big takes one folder, and another as --output"),
        (["{big}", "{big}", "--layout", "big", "--output", "{out}"], "--layout big takes one folder"),
        (["{big}", "--layout", "big", "--binary", "--output", "{out}"], "--binary does not go with --layout big"),
        (["{big}", "--layout", "big", "--output", "{big}"], "is one of the inputs and would be overwritten"),
        (["{empty}", "--layout", "big", "--output", "{out}"], "There is no <name>_im.*"),
        (["{torn}", "--layout", "big", "--output", "{out}"], "lacks b_dog_seg.*"),
        (["{big}/none", "--layout", "big", "--output", "{out}"], "is no folder"),
        (["{big}", "{big}", "--stages"], "--stages goes with --layout big"),
        (["{big}/2008_01_im.png"], "Name the coarse mask after the image"),
    ],
)
def test_what_a_layout_does_not_go_with(run, big: Path, tmp_path: Path, capsys, words: list, message: str) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(big, tmp_path / "torn")
    (tmp_path / "torn" / "b_dog_seg.png").unlink()
    places = {name: tmp_path / name for name in ("big", "empty", "torn", "out")}
    assert run(*(word.format(**places) for word in words)) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_damaged_object_of_big_is_reported_and_the_others_done(run, big: Path, tmp_path: Path, capsys) -> None:
    (big / "b_dog_seg.png").write_bytes((big / "b_dog_seg.png").read_bytes()[:60])
    Image.new("L", (9, 9)).save(big / "c_seg.png")
    Image.new("RGB", (40, 40)).save(big / "c_im.png")
    assert run(big, "--layout", "big", "--output", tmp_path / "out") == 3
    printed = " ".join("".join(capsys.readouterr()).split())
    assert "1 of 3 object(s)" in printed
    assert "b_dog_seg.png" in printed
    assert "c_seg.png is 9 x 9 and" in printed
    assert {name.split("_")[-2] for name in _files(tmp_path / "out")} >= {"01"}


def test_options_reach_the_refiner(run, refiner_weights: Path, pairs: Path, tmp_path: Path) -> None:
    image, mask = pairs / "images" / "a.jpg", pairs / "masks" / "a.png"
    output = tmp_path / "x.png"
    assert run(image, mask, "--output", output, "--steps", 2, "--band", 5, "--precision", "bf16") == 0
    refiner = Refiner.from_weights(refiner_weights, "cpu", precision="bf16")
    expected = refiner.refine(image, mask, steps=2, band=5).probability
    assert np.array_equal(np.asarray(Image.open(output)), np.rint(255 * expected))


def test_folders_and_globs(run, pairs: Path, tmp_path: Path, capsys) -> None:
    assert run(pairs / "images", pairs / "masks", "--output", tmp_path / "folder", "--alpha") == 0
    assert _files(tmp_path / "folder") == {
        f"{name}{end}.png" for name in ("a", "b", "night/c") for end in ("", "_alpha")
    }
    assert "3 refined mask(s)" in capsys.readouterr().out
    assert run(pairs / "images" / "*.jpg", pairs / "masks" / "*.png", "--output", tmp_path / "glob") == 0
    assert _files(tmp_path / "glob") == {"a.png", "b.png"}
    same = [np.asarray(Image.open(tmp_path / folder / "a.png")) for folder in ("folder", "glob")]
    assert np.array_equal(*same)


def test_bad_files_and_missing_partners_are_named(run, pairs: Path, tmp_path: Path, capsys) -> None:
    (pairs / "masks" / "b.png").write_bytes((pairs / "masks" / "b.png").read_bytes()[:60])
    shutil.copy(pairs / "images" / "a.jpg", pairs / "images" / "alone.jpg")
    shutil.copy(pairs / "masks" / "a.png", pairs / "masks" / "single.png")
    shutil.copy(pairs / "images" / "a.jpg", pairs / "masks" / "photo.jpg")
    shutil.copy(pairs / "images" / "a.jpg", pairs / "images" / "photo.jpg")
    Image.new("L", (36, 48)).save(pairs / "masks" / "turned.png")
    shutil.copy(pairs / "images" / "a.jpg", pairs / "images" / "turned.jpg")
    assert run(pairs / "images", pairs / "masks", "--output", tmp_path / "out") == 3
    captured = capsys.readouterr()
    for message in (
        "b.png cannot be decoded",
        "alone.jpg has no mask of the same name",
        "single.png has no image of the same name",
        "photo.jpg has 3 channels that differ, like a photograph",
        "turned.png is 36 x 48 and",
        "upright if its orientation tag says so",
    ):
        assert message in captured.err
    assert "5 input(s) could not be refined" in captured.out
    assert _files(tmp_path / "out") == {"a.png", "night/c.png"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{a.jpg}", "{a.jpg}"], "is given both as image and as mask"),
        (["{a.jpg}", "{a.png}", "--output", "{a.png}"], "is one of the inputs and would be overwritten"),
        (["{images}", "{masks}", "--output", "{masks}"], "There are no images in"),
        (["{images}/*.jpg", "{masks}/*.png", "--output", "{masks}"], "is one of the inputs and would be overwritten"),
        (["{images}", "{masks}"], "Several masks need a folder"),
        (["{images}", "{a.png}", "--output", "x"], "are no pair"),
        (["{images}/a.*", "{masks}/b.*", "--output", "x"], "has a mask of the same name"),
        (["{a.jpg}", "{a.png}", "--output", "x.jpg"], "written as PNG or GeoTIFF"),
        (["{a.jpg}", "{a.png}", "--output", "{a.jpg}/x.png"], "is a file, not a folder"),
        (["{a.jpg}", "{a.png}", "--classes", "--alpha"], "--alpha cuts out one object"),
    ],
)
def test_bad_plans_stop_before_any_work(run, pairs: Path, monkeypatch, tmp_path, capsys, words, message) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"images": pairs / "images", "masks": pairs / "masks"}
    places |= {"a.jpg": pairs / "images" / "a.jpg", "a.png": pairs / "masks" / "a.png"}
    for name, path in places.items():
        words = [word.replace(f"{{{name}}}", str(path)) for word in words]
    before = _files(tmp_path)
    assert run(*words) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("error:") == 1
    assert _files(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "5"], "invalid choice: 5"),
        (["--band", "-3"], "-3 is no number of pixels"),
        (["--max-memory", "much"], "much is no amount of memory; write it as 2GB"),
        (["--precision", "int8"], "invalid choice: 'int8'"),
        (["--binary", "--classes"], "not allowed with"),
    ],
)
def test_bad_arguments(run, pairs: Path, capsys, words, message) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(pairs / "images" / "a.jpg", pairs / "masks" / "a.png", *words)
    assert message in capsys.readouterr().err


def test_a_folder_without_permission(run, pairs: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert run(pairs / "images" / "a.jpg", pairs / "masks" / "a.png") == 1
    assert "there is no permission to write into" in capsys.readouterr().err


def test_a_mask_that_looks_like_classes(run, pairs: Path, tmp_path: Path, capsys) -> None:
    Image.fromarray(np.full((36, 48), 11, np.uint8)).save(tmp_path / "labels.png")
    assert run(pairs / "images" / "a.jpg", tmp_path / "labels.png", "--steps", 1) == 0
    assert "add --classes" in " ".join(capsys.readouterr().err.split())


def test_amounts_of_memory() -> None:
    amounts = {"2GB": 2 * 10**9, "1500MB": 1500 * 10**6, "4GiB": 4 * 2**30, "1.5 g": 15 * 10**8, "300000": 300000}
    assert {text: memory(text) for text in amounts} == amounts


def test_weights_of_the_wrong_kind(refiner_weights: Path, random_weights: Path, pairs: Path, tmp_path, capsys) -> None:
    image, mask = str(pairs / "images" / "a.jpg"), str(pairs / "masks" / "a.png")
    output = str(tmp_path / "out.png")
    assert main(["refine", image, mask, "--weights", str(random_weights), "--output", output]) == 1
    assert "stdc1_seg, which does not refine masks" in capsys.readouterr().err
    assert main(["refine", image, mask, "--weights", "crm9", "--output", output]) == 1
    error = capsys.readouterr().err
    assert "There are no weights crm9" in error
    assert "stdc1_seg" not in error
    assert main(["segment", image, "--weights", str(refiner_weights), "--output", output]) == 1
    assert "crm_resnet18, which does not segment images" in capsys.readouterr().err
    assert main(["segment", image, "--output", output, "--band", "3"]) == 1
    assert "are for --refine, which is missing" in capsys.readouterr().err
    assert not Path(output).exists()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 2)])
@pytest.mark.parametrize("value", [0, 255])
def test_tiny_images_with_empty_and_full_masks(run, tmp_path: Path, size: tuple[int, int], value: int) -> None:
    Image.new("RGB", size, "green").save(tmp_path / "image.png")
    Image.new("L", size, value).save(tmp_path / "mask.png")
    assert run(tmp_path / "image.png", tmp_path / "mask.png", "--output", tmp_path / "refined.png") == 0
    refined = Image.open(tmp_path / "refined.png")
    assert refined.size == size
    if value == 0:
        assert refined.getextrema() == (0, 0)


def test_a_band_along_no_edge(run, pairs: Path, tmp_path: Path) -> None:
    """Nothing is refined, and nothing fails."""
    Image.new("L", (48, 36), 255).save(tmp_path / "full.png")
    assert run(pairs / "images" / "a.jpg", tmp_path / "full.png", "--band", 3, "--output", tmp_path / "out.png") == 0
    assert Image.open(tmp_path / "out.png").getextrema() == (255, 255)


def test_sixteen_bits_and_opacity(run, pairs: Path, tmp_path: Path) -> None:
    image, mask = pairs / "images" / "a.jpg", pairs / "masks" / "a.png"
    road = np.asarray(Image.open(mask))
    Image.fromarray(road.astype(np.uint16) * 65535).save(tmp_path / "deep.png")
    picture = Image.open(image).convert("RGBA")
    picture.putalpha(Image.fromarray(road.astype(np.uint8) * 255))
    picture.save(tmp_path / "opacity.png")
    results = []
    for coarse in (mask, tmp_path / "deep.png", tmp_path / "opacity.png"):
        assert run(image, coarse, "--output", tmp_path / "refined.png") == 0
        results.append(np.asarray(Image.open(tmp_path / "refined.png")))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_geotiff(run, pairs: Path, tmp_path: Path) -> None:
    """The place comes from the mask, and where that has none from the image."""
    transform = from_origin(733601, 3725139, 0.5, 0.5)
    pixels = np.asarray(Image.open(pairs / "images" / "a.jpg"))
    road = np.asarray(Image.open(pairs / "masks" / "a.png")).astype(np.uint8)
    for name, bands in (("image.tif", np.moveaxis(pixels, -1, 0)), ("mask.tif", road[None])):
        size = {"count": len(bands), "height": 36, "width": 48, "dtype": "uint8"}
        with rasterio.open(tmp_path / name, "w", crs="EPSG:32616", transform=transform, **size) as dataset:
            dataset.write(bands)
    assert run(tmp_path / "image.tif", tmp_path / "mask.tif") == 0
    assert run(tmp_path / "image.tif", pairs / "masks" / "a.png", "--output", tmp_path / "b.tif") == 0
    with rasterio.open(tmp_path / "image_refined.tif") as first, rasterio.open(tmp_path / "b.tif") as second:
        for dataset in (first, second):
            assert (dataset.crs.to_epsg(), dataset.transform) == (32616, transform)
        assert np.array_equal(first.read(), second.read())


@dataclass
class _Result:
    probability: np.ndarray


class _Blurring:
    """Gives the mask's mean over a window in place of a network's probability."""

    def refine(self, image, mask, *, steps, band, on_progress) -> _Result:
        if on_progress:
            on_progress(1, 2)
            on_progress(2, 2)
        values = torch.from_numpy(np.asarray(mask, np.float32))[None, None]
        return _Result(torch.nn.functional.avg_pool2d(values, 3, 1, 1, count_include_pad=False)[0, 0].numpy())


def test_classes_are_merged_by_the_highest_probability() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(np.uint8)
    labels[labels == 2] = 9
    labels[:2] = IGNORE_INDEX
    image = np.zeros((20, 30, 3), np.uint8)
    probabilities = [_Blurring().refine(image, labels == k, steps=4, band=None, on_progress=None) for k in range(10)]
    stacked = np.stack([result.probability for result in probabilities])
    progress = []
    refined = refine_classes(_Blurring(), image, labels, on_progress=lambda *step: progress.append(step))
    seen = labels != IGNORE_INDEX
    assert np.array_equal(refined[~seen], labels[~seen])
    rows, cols = np.nonzero(seen)
    chosen, best, own = stacked[refined[seen], rows, cols], stacked.max(0)[seen], stacked[labels[seen], rows, cols]
    assert np.array_equal(chosen, best)
    assert np.array_equal((refined == labels)[seen], own == best)
    assert progress == [(done, 8) for done in range(1, 9)]


def test_classes_may_come_from_scores() -> None:
    labels = np.array([[0, 0, 1, 1, 1, 1]], np.uint8)
    scores = np.array([[[1, 1, 1, 1, 0, 0]], [[0, 0, 0, 0, 1, 1]]], np.float32)
    image = np.zeros((1, 6, 3), np.uint8)
    for given in (scores, lambda index: scores[index]):
        assert refine_classes(_Blurring(), image, labels, scores=given).tolist() == [[0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize("labels", [np.full((4, 5), 7), np.full((4, 5), IGNORE_INDEX), np.eye(4, 5) * IGNORE_INDEX])
def test_a_single_class_stays(labels: np.ndarray) -> None:
    labels = labels.astype(np.uint8)
    assert np.array_equal(refine_classes(None, np.zeros((4, 5, 3), np.uint8), labels), labels)


def test_class_maps_on_the_command_line(run, refiner_weights: Path, camvid_examples: Path, tmp_path, capsys) -> None:
    frame = sorted((camvid_examples / "images" / "val").iterdir())[0]
    Image.open(frame).resize((48, 36)).save(tmp_path / "frame.png")
    labels = Image.open(camvid_examples / "labels" / "val" / f"{frame.stem}.png").resize((48, 36), 0)
    labels.save(tmp_path / "labels.png")
    indices = np.asarray(labels)
    short = ("--steps", 2)
    Image.fromarray(indices).save(tmp_path / "grey.png")
    assert run(tmp_path / "frame.png", tmp_path / "labels.png", "--output", tmp_path / "a.png", *short) == 0
    assert run(tmp_path / "frame.png", tmp_path / "grey.png", "--output", tmp_path / "b.png", "--classes", *short) == 0
    refined = Image.open(tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "frame.png"))
    expected = refine_classes(Refiner.from_weights(refiner_weights, "cpu"), pixels, indices, steps=2)
    assert np.array_equal(np.asarray(refined), expected)
    assert refined.getpalette()[:33] == labels.getpalette()[:33]
    assert np.array_equal(np.asarray(refined) == IGNORE_INDEX, indices == IGNORE_INDEX)
    grey = Image.open(tmp_path / "b.png")
    assert grey.mode == "L"
    assert np.array_equal(np.asarray(grey), expected)
    for option in ("--alpha", "--binary"):
        assert run(tmp_path / "frame.png", tmp_path / "labels.png", "--output", tmp_path / "c.png", option) == 1
        assert "labels.png is a class map" in capsys.readouterr().err
    assert not (tmp_path / "c.png").exists()


def test_segment_and_refine(random_weights: Path, refiner_weights: Path, pairs: Path, tmp_path: Path, capsys) -> None:
    image = pairs / "images" / "a.jpg"
    words = ["--weights", str(random_weights), "--output", str(tmp_path / "out"), "--device", "cpu", "--overlay"]
    refining = ["--refine", "--refine-weights", str(refiner_weights), "--band", "8"]
    assert main(["segment", str(image), *words, *refining]) == 0
    result = segscape.Segmenter.from_weights(random_weights, device="cpu").segment(image)
    refiner = Refiner.from_weights(refiner_weights, "cpu")
    written = Image.open(tmp_path / "out" / "a.png")
    assert np.array_equal(np.asarray(written), refine_classes(refiner, result.image, result.labels, band=8))
    assert written.getpalette()[:3] == list(CAMVID.palette[0])
    assert "refine" in capsys.readouterr().out


def test_the_places_that_changed_most() -> None:
    before = np.zeros((50, 60), bool)
    after = before.copy()
    after[3:9, 40:50] = True
    after[30:34, 5:9] = True
    places = most_changed(before, after, (10, 20), count=5)
    assert len(places) == 2
    assert [int((before != after)[place].sum()) for place in places] == [60, 16]
    assert most_changed(after, after, (10, 20), count=5) == []
    assert len(most_changed(after, ~after, (50, 60), count=5)) == 1
