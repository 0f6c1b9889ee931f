"""COCO-Stuff in its forms, ADE20K and LIP."""

from __future__ import annotations

from pathlib import Path

from scipy.io import savemat

from tests.fake.pixels import every_value, save_photo, save_pixels
from tests.fake.street import CLASS_MAPS

_TABLES = CLASS_MAPS["coco_stuff"]
IDS_10K = [int(raw) for raw in _TABLES["stuff10k"]["raw_to_png"]]
IDS_164K = [int(raw) for raw in _TABLES["stuff164k"]["raw_to_class_index"]]


def write_coco_stuff_10k_download(source: Path, *, ids: list[int] = IDS_10K) -> None:
    """COCO-Stuff 10k's archive, version 1.1: a `.mat` file a photograph, with more in it than the matrix S."""
    lists = {"train": range(3), "test": range(3, 5)}
    (source / "imageLists").mkdir(parents=True)
    (source / "annotations").mkdir()
    for split, numbers in lists.items():
        names = [f"COCO_train2014_{number:012}" for number in numbers]
        (source / "imageLists" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for number, name in zip(numbers, names, strict=True):
            save_photo(source / "images" / f"{name}.jpg", (30, 40), number)
            content = {"S": every_value(ids, (30, 40), number), "captions": ["a street"], "regionLabelsStuff": [1, 2]}
            savemat(source / "annotations" / f"{name}.mat", content, do_compression=True)


def write_coco_stuff_10k_182(root: Path) -> None:
    """The same, as it is downloaded, with every one of its values."""
    write_coco_stuff_10k_download(root, ids=[*range(183), 255])


def write_coco_stuff_164k(source: Path) -> None:
    """COCO's photographs with the maps of COCO-Stuff 164k."""
    for split, count in (("train", 2), ("val", 1)):
        for number in range(count):
            name = f"{number:012}"
            save_photo(source / "images" / f"{split}2017" / f"{name}.jpg", (30, 40), number)
            labels = every_value(IDS_164K, (30, 40), number)
            save_pixels(source / "annotations" / f"{split}2017" / f"{name}.png", labels)


def write_ade20k(root: Path) -> None:
    """The folder `ADEChallengeData2016`: values 0 to 150."""
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        save_photo(root / "images" / split / f"{name}.jpg", (30, 40))
        save_pixels(root / "annotations" / split / f"{name}.png", every_value(list(range(151)), (30, 40)))


def write_lip(root: Path) -> None:
    """LIP's folders: values 0 to 19, and test images without labels."""
    for split, count in (("train", 2), ("val", 1), ("testing", 1)):
        for number in range(count):
            name = f"{number:06}_{split}"
            save_photo(root / f"{split}_images" / f"{name}.jpg", (50, 20), number)
            if split != "testing":
                labels = every_value(list(range(20)), (50, 20), number)
                save_pixels(root / f"{split}_segmentations" / f"{name}.png", labels)
