"""`segscape data prepare` on tiny downloads: what it writes, and what it does when interrupted or given bad files."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from segscape.cli.main import main
from segscape.data.prepare import PREPARATIONS, prepare
from tests.fake import aerial, scenes, street

TABLES = street.CLASS_MAPS
DOWNLOADS = {
    "camvid": street.write_camvid_download,
    "camvid_original": lambda source: street.write_camvid_original_download(source, by_split=False),
    "coco_stuff_10k": scenes.write_coco_stuff_10k_download,
    "coco_stuff_164k": scenes.write_coco_stuff_164k,
    "deepglobe": aerial.write_deepglobe_download,
    "inria_aerial": aerial.write_inria_aerial_download,
}
COUNTS = {
    "camvid": {"train": 2, "val": 1, "test": 2},
    "camvid_original": {"train": 2, "val": 1, "test": 2},
    "coco_stuff_10k": {"train": 3, "test": 2},
    "coco_stuff_164k": {"train": 2, "val": 1},
    "deepglobe": {"train": 2, "val": 1, "test": 1},
    "inria_aerial": {"train": 2, "val": 1, "test": 1},
}


def _run(name: str, source: Path, root: Path, workers: int = 1) -> int:
    words = ["data", "prepare", name, "--source", str(source), "--root", str(root), "--workers", str(workers)]
    return main(words)


def _manifest(root: Path) -> dict:
    return json.loads((root / "manifest.json").read_text())


def _outputs(root: Path) -> list[Path]:
    return [root / name for name in _manifest(root)["files"]]


@pytest.fixture
def deepglobe(tmp_path: Path) -> tuple[Path, Path]:
    """A download of DeepGlobe and the root of its prepared copy."""
    aerial.write_deepglobe_download(tmp_path / "download")
    assert _run("deepglobe", tmp_path / "download", tmp_path / "root") == 0
    return tmp_path / "download", tmp_path / "root"


def test_every_preparation_has_a_download() -> None:
    assert set(DOWNLOADS) == set(PREPARATIONS) == set(COUNTS)


@pytest.mark.parametrize("name", DOWNLOADS)
def test_manifest_records_every_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DOWNLOADS[name](tmp_path / "download")
    assert _run(name, tmp_path / "download", tmp_path / "root") == 0
    first = (tmp_path / "root" / "manifest.json").read_bytes()
    manifest = json.loads(first)
    assert manifest["counts"] == {split: {"images": n, "labels": n} for split, n in COUNTS[name].items()}
    written = {path for path in (tmp_path / "root").rglob("*") if path.is_file()} - {tmp_path / "root/manifest.json"}
    assert {tmp_path / "root" / target for target in manifest["files"]} == written
    for target, digest in manifest["files"].items():
        assert hashlib.sha256((tmp_path / "root" / target).read_bytes()).hexdigest() == digest
    printed = capsys.readouterr().out
    assert f"{2 * sum(COUNTS[name].values())} files written" in printed
    if name == "deepglobe":
        assert "The source lacks 452 of the 454 samples in split train." in printed
    times = {path: path.stat().st_mtime_ns for path in written}
    assert _run(name, tmp_path / "download", tmp_path / "root") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "root" / "manifest.json").read_bytes() == first
    assert {path: path.stat().st_mtime_ns for path in written} == times


def test_processes_write_the_same(deepglobe: tuple[Path, Path], tmp_path: Path) -> None:
    source, root = deepglobe
    assert _run("deepglobe", source, tmp_path / "parallel", workers=2) == 0
    assert _manifest(tmp_path / "parallel") == _manifest(root)
    assert _run("deepglobe", source, tmp_path / "none", workers=0) == 1


def test_images_are_links_or_copies(
    deepglobe: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, root = deepglobe
    linked = root / "img_dir" / "train" / "6399_sat.jpg"
    assert linked.samefile(source / "land-train" / "6399_sat.jpg")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert _run("deepglobe", source, tmp_path / "copied") == 0
    copy = tmp_path / "copied" / "img_dir" / "train" / "6399_sat.jpg"
    assert not copy.samefile(linked)
    assert copy.read_bytes() == linked.read_bytes()


def test_camvid_values(tmp_path: Path) -> None:
    street.write_camvid_download(tmp_path / "download")
    assert _run("camvid", tmp_path / "download", tmp_path / "root") == 0
    raw = np.asarray(Image.open(tmp_path / "download" / "valannot" / "0016E5_07959.png"))
    prepared = np.asarray(Image.open(tmp_path / "root" / "labels" / "val" / "0016E5_07959.png"))
    assert np.array_equal(prepared, np.where(raw == 11, 255, raw))


@pytest.mark.parametrize("by_split", [False, True])
def test_camvid_original_colours(by_split: bool, tmp_path: Path) -> None:
    source = tmp_path / "download"
    root = source if by_split else tmp_path / "root"
    street.write_camvid_original_download(source, by_split=by_split)
    assert _run("camvid_original", source, root) == 0
    table = {tuple(row["color"]): row["trainId"] for row in TABLES["camvid"]["all_32_original_classes"]}
    for raw in sorted(source.rglob("*_L.png")):
        (prepared,) = (root / "TrainID").rglob(f"{raw.stem}_TrainID.png")
        colours = np.asarray(Image.open(raw)).reshape(-1, 3).tolist()
        assert np.asarray(Image.open(prepared)).ravel().tolist() == [table[tuple(colour)] for colour in colours]
    assert {path.stem for path in (root / "images" / "test").iterdir()} == set(street.FRAMES["test"])


def test_coco_stuff_10k_values(tmp_path: Path) -> None:
    # The photographs move into folders of their own beside those of the download.
    scenes.write_coco_stuff_10k_download(tmp_path)
    assert _run("coco_stuff_10k", tmp_path, tmp_path) == 0
    table = {int(raw): value for raw, value in TABLES["coco_stuff"]["stuff10k"]["raw_to_png"].items()}
    for split, names in (("train", range(3)), ("test", range(3, 5))):
        for number in names:
            name = f"COCO_train2014_{number:012}"
            raw = loadmat(tmp_path / "annotations" / f"{name}.mat")["S"]
            prepared = Image.open(tmp_path / "annotations" / f"{split}2014" / f"{name}_labelTrainIds.png")
            assert np.array_equal(np.asarray(prepared), np.vectorize(table.get)(raw))
            assert (tmp_path / "images" / f"{split}2014" / f"{name}.jpg").is_file()


def test_coco_stuff_164k_values(tmp_path: Path) -> None:
    scenes.write_coco_stuff_164k(tmp_path)
    assert _run("coco_stuff_164k", tmp_path, tmp_path) == 0
    table = {int(raw): value for raw, value in TABLES["coco_stuff"]["stuff164k"]["raw_to_class_index"].items()}
    folder = tmp_path / "annotations" / "train2017"
    raw = np.asarray(Image.open(folder / "000000000001.png"))
    prepared = np.asarray(Image.open(folder / "000000000001_labelTrainIds.png"))
    assert np.array_equal(prepared, np.vectorize(table.get)(raw))
    # What was written beside the download is no part of it.
    assert _run("coco_stuff_164k", tmp_path, tmp_path) == 0
    assert len(_outputs(tmp_path)) == 6


def test_deepglobe_values(deepglobe: tuple[Path, Path]) -> None:
    source, root = deepglobe
    colours = np.asarray(Image.open(source / "land-train" / "102122_mask.png")).reshape(-1, 3).tolist()
    prepared = np.asarray(Image.open(root / "rgb2id" / "val" / "102122_mask.png")).ravel().tolist()
    assert prepared == [aerial.DEEPGLOBE_COLOURS[tuple(colour)] for colour in colours]


def test_inria_values(tmp_path: Path) -> None:
    aerial.write_inria_aerial_download(tmp_path / "download")
    assert _run("inria_aerial", tmp_path / "download", tmp_path / "root") == 0
    prepared = np.asarray(Image.open(tmp_path / "root" / "labels" / "train" / "kitsap10_mask.png"))
    assert np.bincount(prepared.ravel()).tolist() == [65536 - 12272, 12272]
    image = Image.open(tmp_path / "root" / "imgs" / "train" / "kitsap10_sat.tif")
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(aerial.KITSAP / "kitsap11.png")))


def test_split_lists_are_the_published_ones(tmp_path: Path) -> None:
    from segscape.data.prepare.plan import read_split

    for name, counts in (("deepglobe", (454, 207, 142)), ("inria_aerial", (126, 27, 27)), ("camvid", (367, 101))):
        lists = [read_split(name, split) for split in ("train", "val", "test")[: len(counts)]]
        assert tuple(map(len, lists)) == counts
        assert len(set().union(*lists)) == sum(counts)
    cities = [name.rstrip("0123456789") for name in read_split("inria_aerial", "train")]
    assert [cities.count(city) for city in ("austin", "chicago", "kitsap", "tyrol-w", "vienna")] == [23, 27, 25, 26, 25]


def test_lost_and_cut_files_are_written_again(deepglobe: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    source, root = deepglobe
    before = _manifest(root)
    labels = sorted((root / "rgb2id").rglob("*.png"))
    contents = [path.read_bytes() for path in labels]
    labels[0].unlink()
    labels[1].write_bytes(contents[1][:50])
    (root / "img_dir" / "val" / "102122_sat.jpg").unlink()
    capsys.readouterr()
    assert _run("deepglobe", source, root) == 0
    assert "3 files written" in capsys.readouterr().out
    assert [path.read_bytes() for path in labels] == contents
    assert _manifest(root) == before


def test_interrupted_runs_go_on(tmp_path: Path) -> None:
    source, root = tmp_path / "download", tmp_path / "root"
    aerial.write_deepglobe_download(source)

    def interrupt(outcomes: Iterable, total: int) -> Iterable:
        for count, outcome in enumerate(outcomes):
            if count == 5:
                raise KeyboardInterrupt
            yield outcome

    with pytest.raises(KeyboardInterrupt):
        prepare("deepglobe", source, root, workers=1, track=interrupt)
    assert not (root / "manifest.json").exists()
    # Killed in the middle of a line, too.
    journal = root / "manifest.partial.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    report = prepare("deepglobe", source, root, workers=1, track=lambda outcomes, total: outcomes)
    assert report.written == 8 - 4
    assert not journal.exists()
    assert _run("deepglobe", source, tmp_path / "whole") == 0
    assert _manifest(root) == _manifest(tmp_path / "whole")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def _recolour(path: Path) -> None:
    Image.new("RGB", (48, 36), (1, 2, 3)).save(path)


def _fill(path: Path) -> None:
    Image.new("L", (256, 256), 11).save(path)


@pytest.mark.parametrize(
    ("name", "victim", "damage", "message"),
    [
        ("camvid", "trainannot/0001TP_006690.png", Path.unlink, "0001TP_006690.png has no label file"),
        ("camvid_original", "701_StillsRaw_full/0016E5_07959.png", Path.unlink, "0016E5_07959_L.png has no image"),
        ("camvid_original", "LabeledApproved_full/0016E5_07959_L.png", _recolour, "(1, 2, 3) (1728 pixels)"),
        ("coco_stuff_10k", "annotations/COCO_train2014_000000000001.mat", _cut, "cannot be decoded"),
        ("coco_stuff_164k", "annotations/val2017/000000000000.png", _fill, "11 (65536 pixels)"),
        ("deepglobe", "land-train/119_mask.png", _cut, "cannot be decoded"),
        ("inria_aerial", "AerialImageDataset/train/gt/vienna3.tif", _fill, "11 (65536 pixels); its values are 0, 255"),
    ],
)
def test_bad_files_are_named_and_the_rest_is_done(
    name: str, victim: str, damage, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, root = tmp_path / "download", tmp_path / "root"
    DOWNLOADS[name](source)
    kept = (source / victim).read_bytes()
    damage(source / victim)
    assert _run(name, source, root) == 1
    printed = capsys.readouterr().out
    assert message in printed
    assert (source / victim).stem in printed
    assert "1 problem(s)" in printed
    assert not (root / "manifest.json").exists()
    assert not list(root.rglob("*.partial.png"))
    (source / victim).write_bytes(kept)
    assert _run(name, source, root) == 0
    assert len(_outputs(root)) == 2 * sum(COUNTS[name].values())
    # What was well the first time was not done again.
    written = int(capsys.readouterr().out.split(": ")[-1].split(" files written")[0])
    assert written <= 2


def test_a_linked_image_that_was_damaged(deepglobe: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    source, root = deepglobe
    _cut(root / "img_dir" / "train" / "6399_sat.jpg")
    assert _run("deepglobe", source, root) == 1
    assert "6399_sat.jpg is not the file any more that" in capsys.readouterr().out


@pytest.mark.parametrize("name", DOWNLOADS)
def test_wrong_sources(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "download" / "holiday").mkdir(parents=True)
    assert _run(name, tmp_path / "download", tmp_path / "root") == 1
    assert f"is no download of {name}; expected in it:" in capsys.readouterr().err
    assert _run(name, tmp_path / "nowhere", tmp_path / "root") == 1
    assert "There is no folder" in capsys.readouterr().err
    assert not (tmp_path / "root").exists()


def test_wrong_roots(deepglobe: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, root = deepglobe
    street.write_camvid_download(tmp_path / "camvid")
    assert _run("camvid", tmp_path / "camvid", root) == 1
    assert "deepglobe was prepared here; choose another --root" in capsys.readouterr().err
    (root / "manifest.json").write_text("{")
    assert _run("deepglobe", deepglobe[0], root) == 1
    assert "manifest.json is damaged; delete it" in capsys.readouterr().err


def test_data_sets_that_need_no_preparation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("cityscapes", tmp_path, tmp_path / "root") == 0
    assert "cityscapes is read as it is, nothing has to be prepared: leftImg8bit" in capsys.readouterr().out
    assert not (tmp_path / "root").exists()
