"""Refinement's data: pairs and triples in their layouts, their preparation and check, and training samples."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F
from torchvision import tv_tensors

from segscape.cli.main import main
from segscape.data.prepare import PAIR_PREPARATIONS
from segscape.data.refinement.grades import GRADES, reduce_mask
from segscape.data.refinement.pairs import RefinementPairs
from segscape.data.refinement.samples import PairSample
from segscape.data.refinement.sources import SOURCES
from segscape.data.refinement.transforms import PerturbedPairs, RefinementAugmentation
from segscape.data.refinement.triples import RefinementTriples
from segscape.data.samples import InMemory
from segscape.data.stream import SampleStream, StreamSource
from tests.fake import refinement as fake

DAVIS = Path(__file__).parents[1] / "data" / "davis_foreground"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As in a loader process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    return float(((first > 127) & (second > 127)).sum() / ((first > 127) | (second > 127)).sum())


def _circles(side: int) -> np.ndarray:
    rows, columns = np.ogrid[:side, :side]
    inside = (rows - side // 2) ** 2 + (columns - side // 2) ** 2 < (side // 3) ** 2
    return np.where(inside, 255, 0).astype(np.uint8)


# Pairs


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A root with every published source, prepared."""
    for name, write in fake.DOWNLOADS.items():
        write(tmp_path / name)
        assert _prepare(name, tmp_path / name, tmp_path / "root") == 0
    return tmp_path / "root"


def _prepare(name: str, source: Path, root: Path) -> int:
    return main(["data", "prepare", name, "--source", str(source), "--root", str(root), "--workers", "1"])


def test_sources_are_joined(published: Path) -> None:
    fake.write_folder(published)
    names = [pair.name for pair in RefinementPairs(published).pairs]
    order = ["fss_1000", "duts", "ecssd", "msra_10k", "dut_omron"]
    assert names == [name for source in order for name in fake.NAMES[source]] + ["a-0", "a-1"]
    assert [pair.name for pair in RefinementPairs(published, sources=["ecssd", "duts"]).pairs] == (
        fake.NAMES["duts"] + fake.NAMES["ecssd"]
    )
    assert [pair.image.parent.name for pair in RefinementPairs(published, "val").pairs] == ["val", "val"]


@pytest.mark.parametrize("name", fake.DOWNLOADS)
@pytest.mark.parametrize("zipped", [False, True])
def test_downloads_become_pairs(name: str, zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, root = tmp_path / "download", tmp_path / "root"
    fake.DOWNLOADS[name](source)
    if zipped:
        fake.zip_folders(source, tmp_path / "zipped")
        source = tmp_path / "zipped"
    assert _prepare(name, source, root) == 0
    pairs = RefinementPairs(root)
    assert [pair.name for pair in pairs.pairs] == fake.NAMES[name]
    for number, pair in enumerate(sorted(pairs.pairs)):
        original = next((tmp_path / "download").rglob(pair.image.name))
        if "fss" not in name:
            assert pair.image.read_bytes() == original.read_bytes()
        assert pairs[number]["truth"].shape == (1, *fake.SIZE)
    manifest = json.loads((root / f"manifest.{name}.json").read_text())
    assert len(manifest["files"]) == 2 * len(pairs)
    assert sum(counts["labels"] for counts in manifest["counts"].values()) == len(pairs)
    capsys.readouterr()
    assert _prepare(name, source, root) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_every_preparation_has_a_download() -> None:
    assert set(fake.DOWNLOADS) == set(PAIR_PREPARATIONS) == set(SOURCES) - {"folder"}


def test_a_single_archive_is_a_source(tmp_path: Path) -> None:
    fake.write_msra_10k_download(tmp_path / "download")
    fake.zip_folders(tmp_path / "download", tmp_path / "zipped")
    assert _prepare("msra_10k", tmp_path / "zipped" / "MSRA10K_Imgs_GT.zip", tmp_path / "root") == 0
    assert len(RefinementPairs(tmp_path / "root", sources=["msra_10k"])) == 2


def test_bad_downloads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake.write_ecssd_download(tmp_path / "ecssd")
    assert _prepare("msra_10k", tmp_path / "ecssd", tmp_path / "root") == 1
    assert "is no download of msra_10k" in capsys.readouterr().err
    assert _prepare("ecssd", tmp_path / "missing", tmp_path / "root") == 1
    assert "There is no folder" in capsys.readouterr().err
    (tmp_path / "ecssd" / "ground_truth_mask" / "0002.png").unlink()
    assert _prepare("ecssd", tmp_path / "ecssd", tmp_path / "root") == 1
    assert "0002.jpg has no mask" in capsys.readouterr().out
    assert len(RefinementPairs(tmp_path / "root")) == 2
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "images.zip").write_bytes(b"PK\x03\x04 and no more")
    assert _prepare("ecssd", tmp_path / "cut", tmp_path / "root") == 1
    assert "images.zip is not a zip archive, or cut short" in capsys.readouterr().err


def test_incomplete_class_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.write_fss_1000_download(tmp_path / "download")
    (tmp_path / "download/fewshot_data/fewshot_data/abacus/2.png").unlink()
    assert _prepare("fss_1000", tmp_path / "download", tmp_path / "root") == 0
    assert "The class abacus is left out" in capsys.readouterr().out
    assert len(RefinementPairs(tmp_path / "root")) == 2
    (tmp_path / "root/fss/zucchini/1.png").unlink()
    fake.write_folder(tmp_path / "root", splits=("train",))
    with caplog.at_level(logging.WARNING):
        names = [pair.name for pair in RefinementPairs(tmp_path / "root").pairs]
    assert names == ["a-0", "a-1"]
    assert "zucchini is left out" in caplog.text
    assert "1.jpg has no mask" in caplog.text


def test_own_layout_of_dut_omron(tmp_path: Path) -> None:
    fake.write_dut_omron_download(tmp_path)
    assert [pair.name for pair in RefinementPairs(tmp_path).pairs] == fake.NAMES["dut_omron"]


def test_plain_folders(tmp_path: Path) -> None:
    fake.write_folder(tmp_path / "whole", splits=())
    fake.save_pair(tmp_path / "flat/b.jpeg", tmp_path / "flat/b.png")
    assert len(RefinementPairs(tmp_path / "whole")) == 2
    assert RefinementPairs(tmp_path / "flat")[0]["name"] == "b"
    for root in ("whole", "flat", "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"No pairs of image and mask for split val in .*; expected fss/"):
            RefinementPairs(tmp_path / root, "val")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_truth_in_any_mode(mode: str, tmp_path: Path) -> None:
    fake.save_pair(tmp_path / "a.jpg", tmp_path / "a.png")
    grey = fake.disk(fake.SIZE)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(tmp_path / "a.png")
    sample = RefinementPairs(tmp_path)[0]
    assert np.array_equal(sample["truth"][0], grey)
    assert isinstance(sample["truth"], tv_tensors.Mask)
    assert (sample["image"].shape, sample["image"].dtype) == ((3, *fake.SIZE), torch.uint8)


def test_pairs_that_do_not_fit(tmp_path: Path) -> None:
    fake.write_folder(tmp_path)
    Image.new("L", (5, 6)).save(tmp_path / "masks/train/a-1.png")
    with pytest.raises(ValueError, match=r"a-1\.png is 5 x 6 pixels but its image .*a-1\.jpg is 56 x 40"):
        RefinementPairs(tmp_path)[1]
    (tmp_path / "masks/train/a-1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a-1\.jpg has no mask; `segscape data check"):
        RefinementPairs(tmp_path)
    with pytest.raises(ValueError, match="There is no source of pairs 'coco'; there are fss_1000, duts"):
        RefinementPairs(tmp_path, sources=["coco"])


# Training samples


def _pair(size: tuple[int, int], number: int = 0) -> PairSample:
    """A black image in which the object is white."""
    truth = torch.from_numpy(fake.disk(size, number))[None]
    return PairSample(image=tv_tensors.Image(truth.repeat(3, 1, 1)), truth=tv_tensors.Mask(truth), name="x")


@given(st.integers(0, 2**31), st.tuples(st.integers(20, 90), st.integers(20, 90)), st.booleans())
@settings(max_examples=40, deadline=None)
def test_augmentation_keeps_image_and_truth_together(seed: int, size: tuple[int, int], scaled: bool) -> None:
    transform = RefinementAugmentation((48, 64), scales=(0.5, 2.0) if scaled else (1.0, 1.0)).build()
    torch.manual_seed(seed)
    sample = transform(_pair(size))
    assert (sample["image"].shape, sample["mask"].shape, sample["truth"].shape) == ((3, 48, 64), *[(1, 48, 64)] * 2)
    assert {value.dtype for key, value in sample.items() if key != "name"} == {torch.uint8}
    assert set(sample["mask"].unique().tolist()) <= {0, 255}
    # Brightness and contrast change black and white a little, and resizing leaves grey edges.
    certain = (sample["truth"][0] < 64) | (sample["truth"][0] > 192)
    white = sample["image"].float().mean(0) > 110
    assert torch.equal(white[certain], sample["truth"][0][certain] > 127)
    torch.manual_seed(seed)
    again = transform(_pair(size))
    assert all(torch.equal(sample[key], again[key]) for key in ("image", "mask", "truth"))


def test_published_recipe_in_numbers() -> None:
    torch.manual_seed(0)
    colours = torch.tensor([200, 120, 60], dtype=torch.uint8)[:, None, None].expand(3, 300, 300)
    truth = tv_tensors.Mask(torch.from_numpy(_circles(300))[None])
    truth[:, :, 150:] = 0
    transform = RefinementAugmentation().build()
    samples = [transform(PairSample(image=tv_tensors.Image(colours), truth=truth, name="")) for _ in range(300)]
    grey = np.mean([bool((sample["image"][0] == sample["image"][2]).all()) for sample in samples])
    assert grey == pytest.approx(0.1, abs=0.05)
    columns = torch.arange(224.0)
    means = [
        float((sample["truth"][0] > 0).float().sum(0) @ columns / (sample["truth"] > 0).sum()) for sample in samples
    ]
    # The half disk lies left of the middle unless mirrored.
    assert np.mean(np.array(means) > 112) == pytest.approx(0.5, abs=0.1)
    reds = [int(sample["image"][0, 0, 0]) for sample in samples if sample["image"][0, 0, 0] != sample["image"][2, 0, 0]]
    assert 150 <= min(reds) < 170
    assert 230 < max(reds) <= 250
    ious = [_iou(sample["mask"].numpy(), sample["truth"].numpy()) for sample in samples]
    assert 0.8 < np.mean(ious) < 0.92


def test_zoomed_samples_are_shrunk_with_their_coarse_masks() -> None:
    torch.manual_seed(0)
    transform = RefinementAugmentation((48, 64), zooms=(0.25, 0.25)).build()
    whole = _pair((192, 256))
    sample = transform(whole)
    assert (sample["image"].shape, sample["mask"].shape, sample["truth"].shape) == ((3, 48, 64), *[(1, 48, 64)] * 2)
    # The crop is the whole image, a quarter of it along each side: the disk keeps its share.
    shares = [float((truth > 127).float().mean()) for truth in (sample["truth"], whole["truth"])]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)
    # As a stage reads it, without antialiasing; it may be mirrored.
    shrunk = [_shrunk(truth).int() for truth in (whole["truth"], whole["truth"].flip(-1))]
    assert min(int((sample["truth"][0] - truth).abs().max()) for truth in shrunk) <= 1
    # What perturbation changes by a few pixels is a fraction of one here: coarse masks are grey at their edges.
    assert len(sample["mask"].unique()) > 2


def test_crops_are_drawn_until_one_shows_an_edge() -> None:
    torch.manual_seed(0)
    pair = _pair((200, 300))
    shows = [
        [bool(transform(pair)["truth"].any()) for _ in range(40)]
        for transform in (RefinementAugmentation((24, 24)).build(), RefinementAugmentation((24, 24), tries=20).build())
    ]
    assert sum(shows[0]) < 30
    assert sum(shows[1]) > 36


def _shrunk(truth: torch.Tensor) -> torch.Tensor:
    grey = truth.as_subclass(torch.Tensor)[None].float()
    return F.interpolate(grey, size=(48, 64), mode="bilinear")[0, 0].round().byte()


def test_short_images_lie_anywhere_in_the_crop() -> None:
    torch.manual_seed(0)
    transform = RefinementAugmentation((64, 64)).build()
    tops = set()
    for _ in range(60):
        rows = (transform(_pair((30, 64)))["truth"][0] > 0).any(1).nonzero()
        tops.add(int(rows[0]) if len(rows) else None)
    # 34 zeros at both ends and a crop of 64 of the 98 rows: the disk, 5 rows below the top, begins at 0 to 39.
    assert None not in tops
    assert len(tops) > 15
    assert min(tops) < 10
    assert 29 < max(tops) <= 39 + 1


def test_fringes_count_in_the_coarse_mask_only() -> None:
    truth = torch.from_numpy(_circles(64))[None] // 255
    pair = PairSample(
        image=tv_tensors.Image(torch.zeros(3, 64, 64, dtype=torch.uint8)), truth=tv_tensors.Mask(truth), name=""
    )
    torch.manual_seed(0)
    sample = RefinementAugmentation((64, 64)).build()(pair)
    assert int(sample["truth"].max()) == 1
    assert _iou(sample["mask"].numpy(), sample["truth"].numpy() * 255) > 0.6


# Grades


def _graded(grade: str, seed: int, side: int = 160) -> float:
    """The IoU of a coarse mask of the grade with the circle it is made of."""
    truth = _circles(side)
    kept = truth.copy()
    masks = [GRADES[grade](truth, np.random.default_rng(seed)) for _ in range(2)]
    np.testing.assert_array_equal(*masks)
    np.testing.assert_array_equal(truth, kept)
    assert (masks[0].dtype, masks[0].shape) == (np.uint8, truth.shape)
    return _iou(masks[0], truth)


# A circle of 53 pixels' radius, moved by d pixels, keeps 1 - 2 d / (pi r) of its area in either; a ring of 3 pixels
# around it or inside is 12%; of blocks of 16 pixels at worst a rim of 8 pixels is wrong, here and there. Perturbation
# goes on until the IoU falls below what was drawn, 0.8 at the least, and its last step may take away much more.
@pytest.mark.parametrize(
    ("grade", "low", "high"),
    [("perturbed", 0.6, 1), ("reduced", 0.85, 1), ("moved", 0.87, 1), ("smoothed", 0.97, 1), ("exact", 1, 1)],
)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_masks_of_a_grade(grade: str, low: float, high: float, seed: int) -> None:
    assert low <= _graded(grade, seed) <= high


def test_grades_keep_soft_edges_where_they_should() -> None:
    levels = {
        grade: {len(np.unique(make(_circles(160), np.random.default_rng(seed)))) > 2 for seed in range(20)}
        for grade, make in GRADES.items()
    }
    assert levels == {
        **{grade: {False} for grade in ("perturbed", "moved", "exact")},
        **{grade: {False, True} for grade in ("reduced", "smoothed")},
    }


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_reduced_masks_are_those_of_pytorch(factor: int) -> None:
    truth = torch.from_numpy(_circles(128)).float()[None, None]
    small = F.avg_pool2d(truth, factor)
    for mode in ("nearest", "bilinear"):
        expected = F.interpolate(small, scale_factor=factor, mode=mode)[0, 0].numpy()
        found = reduce_mask(_circles(128), factor, hard=False, blocks=mode == "nearest", soft=True)
        assert np.abs(found - expected).max() < 2  # rounded twice
    assert _iou(reduce_mask(_circles(128), factor, hard=False), _circles(128)) > 0.95


def test_grades_are_drawn_by_their_shares() -> None:
    torch.manual_seed(0)
    transform = RefinementAugmentation((64, 64), grades={"exact": 0.75, "perturbed": 0.25}).build()
    pair = _pair((64, 64))
    samples = [transform(pair) for _ in range(200)]
    same = [bool((sample["mask"] == sample["truth"]).all()) for sample in samples]
    assert np.mean(same) == pytest.approx(0.75, abs=0.1)


@pytest.mark.parametrize(
    ("grades", "message"),
    [({"blurred": 1.0}, "no grade 'blurred'.*perturbed, reduced"), ({}, "at least one"), ({"exact": 0.0}, "positive")],
)
def test_impossible_grades(grades: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RefinementAugmentation(grades=grades)


@pytest.mark.parametrize("scales", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_impossible_scales(scales: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="positive range"):
        RefinementAugmentation(scales=scales)


@pytest.mark.parametrize("zooms", [(0.0, 1.0), (0.5, 0.2), (0.5, 1.5)])
def test_impossible_zooms(zooms: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"within \(0, 1\]"):
        RefinementAugmentation(zooms=zooms)


def test_stream_depends_on_seed_and_position_only(tmp_path: Path) -> None:
    fake.write_folder(tmp_path)
    pairs = RefinementPairs(tmp_path)
    streams = [
        SampleStream([StreamSource(dataset, RefinementAugmentation((32, 32), scales=(0.8, 1.5)).build())], seed=5)
        for dataset in (pairs, InMemory(pairs))
    ]
    streams[1][0]
    for position in (3, 0, 7):
        first, second = (stream[position] for stream in streams)
        assert first["name"] == second["name"]
        assert all(torch.equal(first[key], second[key]) for key in ("image", "mask", "truth"))


def test_validation_masks_stay_the_same(tmp_path: Path) -> None:
    fake.write_folder(tmp_path)
    pairs = RefinementPairs(tmp_path, "val")
    first, again, other = PerturbedPairs(pairs), PerturbedPairs(pairs), PerturbedPairs(pairs, seed=1)
    assert len(first) == 2
    torch.manual_seed(1)
    assert torch.equal(first[1]["mask"], again[1]["mask"])
    assert not torch.equal(first[1]["mask"], other[1]["mask"])
    assert torch.equal(first[1]["truth"], pairs[1]["truth"])
    assert torch.equal(first[1]["image"], pairs[1]["image"])
    assert first[1]["mask"].shape == (1, *fake.SIZE)


# Triples


def test_triples(tmp_path: Path) -> None:
    fake.write_triples(tmp_path)
    triples = RefinementTriples(tmp_path)
    assert [files.name for files in triples.triples] == ["2007_000033_01", "2009_cat"]
    for number in range(2):
        sample = triples[number]
        assert np.array_equal(sample["truth"][0], fake.disk(fake.SIZE, number))
        coarse = np.asarray(Image.open(tmp_path / f"{sample['name']}_seg.png"))
        assert np.array_equal(sample["mask"][0], coarse)
    assert len(triples[1]["mask"].unique()) > 2


def test_triples_that_are_incomplete(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No images in .*; expected <name>_im\.jpg"):
        RefinementTriples(tmp_path)
    fake.write_triples(tmp_path)
    Image.new("L", (5, 6)).save(tmp_path / "2009_cat_seg.png")
    with pytest.raises(ValueError, match=r"2009_cat_seg\.png is 5 x 6 pixels but its image .* is 56 x 40"):
        RefinementTriples(tmp_path)[1]
    for ending in ("seg.png", "gt.png", "im.png"):
        path = tmp_path / f"2009_cat_{ending}"
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(FileNotFoundError, match="lacks 2009_cat_"):
            RefinementTriples(tmp_path)
        path.write_bytes(content)


# Check


def test_check_of_good_pairs(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["data", "check", str(published)]) == 0
    printed = capsys.readouterr().out
    assert "duts train: 3 pairs (3 of 56 x 40), foreground " in printed
    assert "fss_1000 train: 4 pairs" in printed
    assert "0 problem(s)" in printed


def test_check_names_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake.write_folder(tmp_path)
    grey = fake.disk(fake.SIZE)
    grey[0, :7] = 90
    Image.fromarray(grey).save(tmp_path / "masks/train/a-0.png")
    Image.new("L", fake.SIZE[::-1], 1).save(tmp_path / "masks/train/a-1.png")
    (tmp_path / "images/val/a-0.jpg").write_bytes(b"no image")
    (tmp_path / "images/val/a-1.jpg").unlink()
    fake.save_pair(tmp_path / "fss/abacus/1.jpg", tmp_path / "fss/abacus/2.png")
    assert main(["data", "check", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    share = (grey == 255).sum() / (2 * grey.size)
    assert f"folder train: 2 pairs (2 of 56 x 40), foreground {share:.2%}; 2 masks with grey levels" in printed
    assert "a-1.png is empty: no pixel is above 127" in printed
    assert "a-0.jpg is not an image" in printed
    assert "a-1.png has no image" in printed
    assert "abacus is left out" in printed
    assert "4 problem(s)" in printed


def test_check_of_a_named_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path), "--dataset", "pairs"]) == 1
    assert "No pairs of image and mask" in capsys.readouterr().err


@pytest.mark.skipif(not DAVIS.is_dir(), reason="there is no data/davis_foreground")
def test_real_pairs() -> None:
    assert (len(RefinementPairs(DAVIS)), len(RefinementPairs(DAVIS, "val"))) == (114, 25)
    triples = PerturbedPairs(RefinementPairs(DAVIS, "val"))
    ious = [_iou(triples[index]["mask"].numpy(), triples[index]["truth"].numpy()) for index in range(25)]
    assert 0.7 < min(ious) < np.mean(ious) < 0.9
