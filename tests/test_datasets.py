"""Every data set in its real layout: label tables, reading, checking, and what is written for submissions."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import segscape.labels
from segscape.cli.main import main
from segscape.data.check import detect_dataset
from segscape.data.datasets import DATASETS, Folder
from segscape.data.masks import read_matlab_labels
from segscape.labels import (
    ADE20K,
    CITYSCAPES,
    COCO_STUFF_10K,
    COCO_STUFF_10K_182,
    COCO_STUFF_164K,
    DEEPGLOBE,
    LIP,
    LabelSpec,
)
from segscape.training.datamodule import SegmentationDataModule
from tests.fake import aerial, folder, salient, scenes, street
from tests.fake.data_sets import WRITERS

CLASS_MAPS = street.CLASS_MAPS
SPECS = [value for value in vars(segscape.labels).values() if isinstance(value, LabelSpec)]

WITHOUT_IGNORED = {"deepglobe", "inria_aerial", "lip", "salient"}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each data set; tests leave them as they are."""
    base = tmp_path_factory.mktemp("datasets")
    for name, write in WRITERS.items():
        write(base / name)
    return {name: base / name for name in WRITERS}


def test_coco_stuff_tables_are_the_official_ones() -> None:
    tables = CLASS_MAPS["coco_stuff"]
    for spec in (COCO_STUFF_10K, COCO_STUFF_164K):
        assert list(spec.class_names) == tables["classes"]
        assert [list(colour) for colour in spec.palette] == tables["palette_rgb"]
    raw = {int(key): value for key, value in tables["stuff164k"]["raw_to_class_index"].items()}
    assert dict(COCO_STUFF_164K.raw_to_index) == raw
    ids = np.array([[int(key) for key in tables["stuff10k"]["raw_to_png"]]], np.uint8)
    assert COCO_STUFF_10K_182.to_indices(ids)[0, 1:].tolist() == (ids[0, 1:] - 1).tolist()
    # The 171 classes keep their names among the 182, each at its own category id.
    named = dict(enumerate(COCO_STUFF_10K_182.class_names))
    assert [named[key] for key in sorted(raw) if key != 255] == tables["classes"]
    assert named[11] == "street sign"


def test_other_tables() -> None:
    assert [list(colour) for colour in CITYSCAPES.raw_palette] == (
        CLASS_MAPS["cityscapes"]["submission_png"]["palette_rgb"]
    )
    assert dict(zip(ADE20K.class_names, ADE20K.palette, strict=True))["tree"] == (4, 200, 3)
    assert (ADE20K.num_classes, ADE20K.class_names[0], ADE20K.class_names[149]) == (150, "wall", "flag")
    swapped = [(LIP.class_names[left], LIP.class_names[right]) for left, right in LIP.flip_pairs]
    assert swapped == [("left arm", "right arm"), ("left leg", "right leg"), ("left shoe", "right shoe")]
    assert [DEEPGLOBE.class_names[index] for index in DEEPGLOBE.excluded] == ["unknown"]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_raw_values_go_there_and_back(spec: LabelSpec) -> None:
    indices = np.arange(spec.num_classes, dtype=np.uint8)[None]
    if spec.ignore_index in spec.raw_to_index.values():
        indices = np.append(indices, [[spec.ignore_index]], axis=1).astype(np.uint8)
    else:
        with pytest.raises(ValueError, match=r"255 \(1 pixels\)"):
            spec.to_raw(np.array([[255]], np.uint8))
    assert np.array_equal(spec.to_indices(spec.to_raw(indices)), indices)
    raw = spec.to_raw(indices[:, : spec.num_classes])
    assert [spec.raw_palette[value] for value in raw[0]] == list(spec.palette)


def test_strange_colours_are_counted() -> None:
    pixels = np.array([[[128, 0, 0], [1, 2, 3], [1, 2, 3], [0, 0, 192]]], np.uint8)
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) \(2 pixels\)"):
        segscape.labels.CAMVID_ORIGINAL.colours_to_indices(pixels)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_layout_is_recognised_and_checked(name: str, roots, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect_dataset(roots[name]) == name
    # Without a name, what has the mask of one object each is checked as pairs of image and mask.
    named = ["--dataset", name] if name == "salient" else []
    assert main(["data", "check", str(roots[name]), *named]) == 0
    printed = capsys.readouterr().out
    assert "0 problem(s)" in printed
    assert DATASETS[name].spec(roots[name]).name in printed


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_samples_hold_every_class(name: str, roots) -> None:
    split = DATASETS[name].find_splits(roots[name])[0]
    dataset = DATASETS[name](roots[name], split)
    spec = dataset.label_spec
    values: set[int] = set()
    for sample in dataset:
        assert sample["image"].dtype == torch.uint8
        assert sample["image"].shape == (3, *sample["mask"].shape)
        values |= set(np.unique(sample["mask"].numpy()).tolist())
    assert values == {*range(spec.num_classes), *(() if name in WITHOUT_IGNORED else (spec.ignore_index,))}


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_predictions_read_back_as_labels(name: str, roots, tmp_path: Path) -> None:
    spec = DATASETS[name].spec(roots[name])
    indices = np.resize(np.arange(spec.num_classes, dtype=np.uint8), (30, 30))
    DATASETS[name].write_prediction(tmp_path, "sample", indices, spec)
    path = tmp_path / DATASETS[name].prediction_name("sample")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    image = Image.open(path)
    assert np.array_equal(spec.to_indices(np.asarray(image)), indices)
    assert np.array_equal(np.asarray(image.convert("RGB")), np.array(spec.palette, np.uint8)[indices])


def test_cityscapes_submission_holds_label_ids(roots, tmp_path: Path) -> None:
    dataset = DATASETS["cityscapes"]
    ((name, image),) = dataset.images(roots["cityscapes"], "test")
    indices = np.resize(np.arange(19, dtype=np.uint8), (32, 64))
    dataset.write_prediction(tmp_path, name, indices, CITYSCAPES)
    assert [path.name for path in tmp_path.iterdir()] == [image.name]
    written = Image.open(tmp_path / image.name)
    table = CLASS_MAPS["cityscapes"]["trainId_to_submission_labelId"]
    expected = np.array([table[str(index)] for index in range(19)], np.uint8)[indices]
    assert written.mode == "P"
    assert np.array_equal(np.asarray(written), expected)
    assert written.getpalette()[: 3 * 35] == [c for row in CITYSCAPES.raw_palette for c in row]


def test_cityscapes_train_ids_as_an_output(roots, tmp_path: Path) -> None:
    """As label files of the data set itself: what was predicted may train the next network."""
    dataset = DATASETS["cityscapes"]
    ((name, image),) = dataset.images(roots["cityscapes"], "test")
    indices = np.resize(np.arange(19, dtype=np.uint8), (32, 64))
    dataset.write_prediction(tmp_path, name, indices, CITYSCAPES, train_ids=True)
    (written,) = tmp_path.iterdir()
    assert written.name == image.name.replace("leftImg8bit", "gtFine_labelTrainIds")
    assert np.array_equal(np.asarray(Image.open(written)), indices)
    assert np.array_equal(dataset.read_indices(written, CITYSCAPES), indices)


def test_cityscapes_reads_train_ids(tmp_path: Path) -> None:
    street.write_cityscapes(tmp_path / "a", ending="labelTrainIds")
    dataset = DATASETS["cityscapes"](tmp_path / "a", "trainval")
    assert len(dataset) == 5
    mask = np.asarray(Image.open(dataset.pairs[0].mask))
    assert np.array_equal(dataset[0]["mask"].numpy(), mask)
    Image.fromarray(np.where(mask == 0, np.uint8(33), mask)).save(dataset.pairs[0].mask)
    with pytest.raises(ValueError, match=r"labelTrainIds.png has class indices that Cityscapes does not have: 33 \("):
        _ = dataset[0]


def test_matlab_labels_are_the_182_classes(roots) -> None:
    dataset = DATASETS["coco_stuff_10k_182"](roots["coco_stuff_10k_182"], "train")
    raw = read_matlab_labels(dataset.pairs[1].mask)
    expected = np.where((raw == 0) | (raw == 255), 255, raw - 1)
    assert np.array_equal(dataset[1]["mask"].numpy(), expected)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:150]), "cannot be decoded"),
        (lambda path: path.write_bytes(b"no labels"), "cannot be decoded"),
        (lambda path: scenes.savemat(path, {"T": np.zeros((3, 3))}), "no label matrix S"),
        (lambda path: scenes.savemat(path, {"S": np.full((30, 40), 300.0)}), "values outside 0 to 255"),
        (lambda path: scenes.savemat(path, {"S": np.full((30, 40), 183)}), r"183 \(1200 pixels\)"),
    ],
)
def test_damaged_matlab_files(damage, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.write_coco_stuff_10k_download(tmp_path / "a")
    dataset = DATASETS["coco_stuff_10k_182"](tmp_path / "a", "test")
    damage(dataset.pairs[0].mask)
    with pytest.raises(ValueError, match=message) as caught:
        _ = dataset[0]
    assert str(dataset.pairs[0].mask) in str(caught.value)
    assert main(["data", "check", str(tmp_path / "a")]) == 1
    assert "1 problem(s)" in capsys.readouterr().out


def test_matlab_files_need_scipy(roots, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs SciPy: pip install 'segscape\[train\]'"):
        _ = DATASETS["coco_stuff_10k_182"](roots["coco_stuff_10k_182"], "train")[0]
    assert main(["data", "check", str(roots["coco_stuff_10k_182"])]) == 1
    assert "pip install 'segscape[train]'" in capsys.readouterr().err


def test_a_list_names_what_is_lost(tmp_path: Path) -> None:
    scenes.write_coco_stuff_10k_download(tmp_path / "a")
    with (tmp_path / "a" / "imageLists" / "test.txt").open("a") as file:
        file.write("COCO_train2014_000000000099\n")
    with pytest.raises(FileNotFoundError, match="lists COCO_train2014_000000000099, of which there is neither"):
        DATASETS["coco_stuff_10k_182"](tmp_path / "a", "test")


def test_joined_splits(roots) -> None:
    dataset = DATASETS["camvid_original"]
    sizes = {split: len(dataset(roots["camvid_original"], split)) for split in ("train", "val", "trainval", "test")}
    assert sizes == {"train": 2, "val": 1, "trainval": 3, "test": 2}
    assert [name for name, _ in dataset.images(roots["camvid_original"], "trainval")] == sorted(
        street.FRAMES["train"] + street.FRAMES["val"]
    )


def test_splits_without_labels(roots, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError, match="can be predicted, neither trained on nor measured"):
        DATASETS["lip"](roots["lip"], "test")
    assert [name for name, _ in DATASETS["lip"].images(roots["lip"], "test")] == ["000000_testing"]
    assert main(["data", "check", str(roots["lip"])]) == 0
    assert "test: 1 images without labels (1 of 20 x 50)" in capsys.readouterr().out


def test_deepglobe_reads_colours_too(tmp_path: Path) -> None:
    aerial.write_deepglobe_download(tmp_path / "source")
    for split, names in aerial.DEEPGLOBE.items():
        for name in names:
            for kind, ending in (("img_dir", "_sat.jpg"), ("rgb2id", "_mask.png")):
                target = tmp_path / "root" / kind / split / f"{name}{ending}"
                target.parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "source" / "land-train" / f"{name}{ending}").rename(target)
    dataset = DATASETS["deepglobe"](tmp_path / "root", "train")
    colours = np.asarray(Image.open(dataset.pairs[0].mask))
    expected = [aerial.DEEPGLOBE_COLOURS[tuple(pixel)] for pixel in colours.reshape(-1, 3).tolist()]
    assert dataset[0]["mask"].flatten().tolist() == expected


def test_hidden_files_are_no_samples(tmp_path: Path) -> None:
    street.write_cityscapes(tmp_path / "a")
    for path in sorted((tmp_path / "a").rglob("*.png")):
        path.with_name(f"._{path.name}").write_bytes(b"x")
    assert len(DATASETS["cityscapes"](tmp_path / "a", "train")) == 3


def test_salient_masks(tmp_path: Path) -> None:
    """Of 1 bit and of 8, white is the object, and so is every grey level from 128 on."""
    salient.write_salient(tmp_path, splits=("train",))
    dataset = DATASETS["salient"](tmp_path, "train")
    for number, sample in enumerate(dataset):
        assert np.array_equal(sample["mask"].numpy(), salient.disk(salient.SIZE, number) == 255)
    grey = np.arange(256, dtype=np.uint8).repeat(40 * 56 // 256 + 1)[: 40 * 56].reshape(40, 56)
    Image.fromarray(grey).save(dataset.pairs[0].mask)
    assert np.array_equal(dataset[0]["mask"].numpy(), grey >= 128)
    Image.fromarray((grey > 128).astype(np.uint8)).save(dataset.pairs[0].mask)
    with pytest.raises(ValueError, match=r"0000\.png reaches grey level 1, and the object begins at 128"):
        _ = dataset[0]


@pytest.mark.parametrize("coloured", [False, True])
def test_folder_masks(coloured: bool, tmp_path: Path) -> None:
    folder.write_folder(tmp_path / "a", splits=(), coloured=coloured)
    dataset = Folder(tmp_path / "a", "all")
    assert dataset.label_spec.class_names == ("water", "wheat", "road")
    for number, sample in enumerate(dataset):
        assert np.array_equal(sample["mask"].numpy(), folder.every_value([0, 1, 2, 255], (24, 32), number))


def test_folder_with_listed_splits(tmp_path: Path) -> None:
    root = tmp_path / "a"
    folder.write_folder(root, splits=())
    (root / "val.txt").write_text("field-3\n")
    splits = {"train": ["field-0", "field-2"], "val": "val.txt"}
    (root / "labels.yaml").write_text(yaml.safe_dump({**folder.LABELS, "splits": splits}))
    assert Folder.find_splits(root) == ("train", "val")
    assert [pair.name for pair in Folder(root, "train").pairs] == ["field-0", "field-2"]
    assert [pair.name for pair in Folder(root, "val").pairs] == ["field-3"]
    (root / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"There is no .*val\.txt, the list of split val"):
        Folder(root, "val")


def test_two_files_for_one_sample(tmp_path: Path) -> None:
    folder.write_folder(tmp_path / "a")
    twin = tmp_path / "a" / "images" / "train" / "field-0.png"
    Image.new("RGB", (32, 24)).save(twin)
    with pytest.raises(ValueError, match=r"field-0\.jpg and .*field-0\.png are two files for one sample"):
        Folder(tmp_path / "a", "train")


CLASSES = folder.LABELS["classes"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("classes: [", "is no YAML"),
        ("- a", "holds no settings"),
        ({"classes": []}, "needs a list `classes`"),
        ({"classes": CLASSES, "palette": 1}, "has no key 'palette'"),
        ({"classes": [{"name": "a", "color": [0, 0, 0]}]}, "class 0 has no key 'color'; there are colour"),
        ({"classes": [{"name": "a"}]}, "class 0 needs a `name` and a `colour`"),
        ({"classes": [{"name": "a", "colour": [0, 0, 256]}]}, "256 is no value of an 8-bit label file"),
        ({"classes": [{"name": "a", "colour": "red"}]}, "'red' is no colour"),
        ({"classes": [*CLASSES, CLASSES[0]]}, "class names: 'water' is there twice"),
        ({"classes": [*CLASSES, {**CLASSES[0], "name": "sea"}]}, "values of classes: 10 is there twice"),
        ({"classes": CLASSES, "ignore_value": 3}, "3 both as a class's value"),
        ({"classes": CLASSES, "ignore_colour": [90, 90, 90]}, "both as a class's colour"),
    ],
)
def test_label_files_that_do_not_do(content, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write_folder(tmp_path)
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (tmp_path / "labels.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        Folder(tmp_path, "train")
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "labels.yaml" in capsys.readouterr().err


def _datamodule(**settings) -> SegmentationDataModule:
    return SegmentationDataModule(augmentation=None, batch_size=2, num_workers=0, **settings)


def test_datamodule_predicts_images_without_labels(roots) -> None:
    data = _datamodule(dataset="lip", root=str(roots["lip"]))
    assert data.label_spec is LIP
    data.trainer = type("Trainer", (), {"global_rank": 0, "world_size": 1})()
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert set(batch) == {"image", "name"}
    assert batch["image"].shape == (1, 3, 50, 20)
    assert batch["name"] == ["000000_testing"]


def test_datamodule_takes_the_classes_from_the_folder(roots) -> None:
    assert _datamodule(dataset="folder", root=str(roots["folder"])).label_spec.class_names[1] == "wheat"
    with pytest.raises(ValueError, match="no data set 'foldr'; there are folder, ade20k"):
        _datamodule(dataset="foldr", root=str(roots["folder"]))
