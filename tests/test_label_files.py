"""Label files as tools write them: other palettes, depths and orientations; black and white; annotation files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segscape.cli.main import main
from segscape.data.datasets import DATASETS, Folder
from segscape.data.masks import read_indices
from segscape.rasters.image import read_labels, write_labels
from tests.fake.data_sets import WRITERS
from tests.fake.pixels import every_value, save_photo, save_pixels

COLOURS = {"ground": (90, 90, 90), "building": (200, 0, 0), "sky": (0, 90, 200)}
SIZE = (48, 64)


def _write(root: Path, values: list[int], classes: dict[str, tuple[int, int, int]] = COLOURS) -> None:
    root.mkdir(exist_ok=True)
    rows = [{"name": name, "colour": list(colour)} for name, colour in classes.items()]
    (root / "labels.yaml").write_text(yaml.safe_dump({"classes": rows}))
    for split in ("train", "val"):
        for number in range(2):
            save_photo(root / "images" / split / f"{number}.png", SIZE, number)
            save_pixels(root / "masks" / split / f"{number}.png", every_value(values, SIZE, number))


@pytest.fixture
def spec(tmp_path: Path):
    _write(tmp_path / "a", [0, 1, 2])
    return Folder.spec(tmp_path / "a")


LABELS = every_value([0, 1, 2, 2, 1], SIZE)


def _with_palette(path: Path, labels: np.ndarray, order: list[int], colours: list[tuple[int, int, int]]) -> Path:
    """Save labels with the classes in another order in the palette."""
    place = np.zeros(256, np.uint8)
    place[order] = np.arange(len(order))
    image = Image.fromarray(place[labels])
    image.putpalette([channel for label in order for channel in colours[label]])
    image.save(path)
    return path


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [2, 1, 0], [1, 2]])
def test_a_palette_in_another_order_is_followed(order: list[int], spec, tmp_path: Path) -> None:
    labels = np.where(np.isin(LABELS, order), LABELS, np.uint8(order[0]))
    path = _with_palette(tmp_path / "a.png", labels, order, list(COLOURS.values()))
    assert np.array_equal(read_indices(path, spec), labels)


def test_a_palette_of_other_colours_says_nothing(spec, tmp_path: Path) -> None:
    path = _with_palette(tmp_path / "a.png", LABELS, [0, 1, 2], [(0, 0, 0), (128, 0, 0), (0, 128, 0)])
    assert np.array_equal(read_indices(path, spec), LABELS)
    grey = _with_palette(tmp_path / "grey.png", LABELS, [0, 1, 2], [(0, 0, 0), (1, 1, 1), (2, 2, 2)])
    assert np.array_equal(read_indices(grey, spec), LABELS)


def test_a_palette_that_contradicts_the_classes_is_refused(spec, tmp_path: Path) -> None:
    path = _with_palette(tmp_path / "a.png", LABELS, [0, 1, 2], [(200, 0, 0), (90, 90, 90), (7, 7, 0)])
    with pytest.raises(ValueError, match=r"a\.png has a palette that contradicts the classes of a: its value 0 has"):
        read_indices(path, spec)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_our_own_label_maps_are_read_as_they_were_written(name: str, tmp_path: Path) -> None:
    """Values of no class are black in their palettes, and black may be a class's colour as well."""
    WRITERS[name](tmp_path)
    spec = DATASETS[name].spec(tmp_path)
    indices = np.resize(np.array(sorted(set(spec.raw_to_index.values())), np.uint8), (64, 64))
    write_labels(tmp_path / "map.png", spec.to_raw(indices), spec.raw_palette)
    assert np.array_equal(read_indices(tmp_path / "map.png", spec), indices)


def _modes() -> dict[str, Image.Image]:
    grey = Image.fromarray(LABELS)
    return {
        "L": grey,
        "I;16": Image.fromarray(LABELS.astype(np.uint16)),
        "I": Image.fromarray(LABELS.astype(np.int32)),
        "F": Image.fromarray(LABELS.astype(np.float32)),
        "LA": Image.merge("LA", [grey, Image.new("L", grey.size, 255)]),
    }


@pytest.mark.parametrize("mode", sorted(_modes()))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_depth_that_holds_labels_is_read(mode: str, suffix: str, spec, tmp_path: Path) -> None:
    if mode in ("F", "I") and suffix == ".png":
        pytest.skip("PNG holds no numbers of 32 bits")
    path = tmp_path / f"a{suffix}"
    _modes()[mode].save(path)
    assert np.array_equal(read_indices(path, spec), LABELS)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_of_few_bits(bits: int, tmp_path: Path) -> None:
    labels = every_value(list(range(2**bits)), SIZE)
    grey = Image.fromarray(labels * np.uint8(255 // (2**bits - 1)))
    grey.convert("1" if bits == 1 else "L", dither=Image.Dither.NONE).save(tmp_path / "a.png", bits=bits)
    assert (tmp_path / "a.png").read_bytes()[24] == bits
    assert np.array_equal(read_labels(tmp_path / "a.png"), labels)


def test_values_that_are_no_labels(spec, tmp_path: Path) -> None:
    Image.fromarray(LABELS.astype(np.uint16) * 300).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png has values from 0 to 600; labels are whole numbers from 0 to 255"):
        read_indices(tmp_path / "deep.png", spec)
    Image.fromarray(LABELS.astype(np.float32) + np.float32(0.5)).save(tmp_path / "half.tif")
    with pytest.raises(ValueError, match=r"values from 0\.5 to 2\.5"):
        read_indices(tmp_path / "half.tif", spec)
    see_through = Image.merge("LA", [Image.fromarray(LABELS), Image.new("L", SIZE[::-1], 9)])
    see_through.save(tmp_path / "alpha.png")
    with pytest.raises(ValueError, match=r"alpha\.png has transparent pixels; save it without opacity"):
        read_indices(tmp_path / "alpha.png", spec)


def test_masks_of_black_and_white_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    root = tmp_path / "own"
    _write(root, [0, 255, 255], {"ground": (90, 90, 90), "building": (200, 0, 0)})
    assert main(["data", "check", str(root)]) == 0
    told = (
        "no pixel of building; there is one class, and all else is ignored: if the label files are black and "
        "white, 0 and 255, give the class that 255 stands for `value: 255` in labels.yaml."
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert f"train: {told}" in printed
    assert f"val: {told}" in printed
    words = [
        *("fit", "--config", "configs/finetune.yaml", "--data.root", str(root), "--model.name", "scapenet_lite0"),
        *("--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu", "--data.num_workers=0"),
        *("--trainer.max_steps", "1", "--data.batch_size", "2", "--data.augmentation.init_args.crop", "[64, 64]"),
        *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    ]
    assert main(words) == 0
    assert f"train: {told}" in " ".join(capsys.readouterr().err.split())


def test_labels_that_are_all_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "own", [255])
    assert main(["data", "check", str(tmp_path / "own")]) == 1
    assert "train: no pixel has a class, all of them are ignored." in capsys.readouterr().out


def test_image_and_labels_are_turned_alike(tmp_path: Path) -> None:
    root = tmp_path / "own"
    _write(root, [0, 1, 2])
    upright = Folder(root, "train")[0]
    for path in (root / "images/train/0.png", root / "masks/train/0.png"):
        image = Image.open(path)
        tag = Image.Exif()
        tag[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=tag)
    turned = Folder(root, "train")[0]
    assert np.array_equal(turned["image"], upright["image"])
    assert np.array_equal(turned["mask"], upright["mask"])
    Image.open(root / "masks/train/0.png").save(root / "masks/train/0.png", exif=Image.Exif())
    with pytest.raises(ValueError, match="only one of them may have been turned by its orientation tag"):
        _ = Folder(root, "train")[0]


ANNOTATIONS = {
    "COCO": ("coco.json", json.dumps({"info": {}, "images": [], "annotations": [], "categories": []})),
    "labelme": ("0.json", json.dumps({"version": "5.0", "flags": {}, "shapes": [], "imagePath": "0.png"})),
    "Label Studio": ("export.json", json.dumps([{"id": 1, "annotations": [], "data": {"image": "0.png"}}])),
    "CVAT": ("annotations.xml", "<?xml version='1.0'?>\n<annotations><version>1.1</version></annotations>"),
    "Pascal VOC": ("0.xml", "<annotation><filename>0.png</filename></annotation>"),
}


@pytest.mark.parametrize("name", sorted(ANNOTATIONS))
def test_annotation_files_are_recognised(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "own"
    _write(root, [0, 1, 2])
    file, text = ANNOTATIONS[name]
    for split in ("train", "val"):
        for path in (root / "masks" / split).iterdir():
            path.unlink()
        (root / "masks" / split / file).write_text(text)
    with pytest.raises(FileNotFoundError, match=f"holds annotations in the format of {name}, not a label for each"):
        Folder(root, "train")
    assert main(["data", "check", str(root)]) == 1
    assert f"in the format of {name}" in " ".join(capsys.readouterr().out.split())
    (root / "labels.yaml").unlink()
    assert main(["data", "check", str(root)]) == 1
    assert f"in the format of {name}" in " ".join(capsys.readouterr().err.split())
