"""CamVid in both editions, Cityscapes and IDD-Lite."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.fake.pixels import every_colour, every_value, save_photo, save_pixels

CLASS_MAPS = json.loads((Path(__file__).parents[1] / "golden" / "dabnet" / "class_maps.json").read_text())
CAMVID_COLOURS = [tuple(row["color"]) for row in CLASS_MAPS["camvid"]["all_32_original_classes"]]
# Names of the published splits.
FRAMES = {
    "train": ["0001TP_006690", "0006R0_f00930"],
    "val": ["0016E5_07959"],
    "test": ["Seq05VD_f00000", "0001TP_008550"],
}


def write_camvid_download(source: Path) -> None:
    """The folder `CamVid` of SegNet's tutorial: values 0 to 10, and 11 for void."""
    for split, names in FRAMES.items():
        for number, name in enumerate(names):
            save_photo(source / split / f"{name}.png", (36, 48), number)
            save_pixels(source / f"{split}annot" / f"{name}.png", every_value(list(range(12)), (36, 48), number))


def write_camvid_original_download(source: Path, *, by_split: bool = False) -> None:
    """CamVid's two archives, all frames together, or frames and colour-coded labels in folders by split."""
    for split, names in FRAMES.items():
        images = source / "images" / split if by_split else source / "701_StillsRaw_full"
        labels = source / "annotations" / split if by_split else source / "LabeledApproved_full"
        for number, name in enumerate(names):
            save_photo(images / f"{name}.png", (36, 48), number)
            save_pixels(labels / f"{name}_L.png", every_colour(CAMVID_COLOURS, (36, 48), number))


def write_cityscapes(root: Path, *, ending: str = "labelIds") -> None:
    """Cityscapes' two archives: ids 0 to 33, and 255 as -1 stands in 8-bit files; a test split of ids 0 to 3."""
    cities = {"train": ("aachen", 3), "val": ("ulm", 2), "test": ("berlin", 1)}
    values = [*range(34), 255] if ending == "labelIds" else [*range(19), 255]
    for split, (city, frames) in cities.items():
        for number in range(frames):
            name = f"{city}_{number:06}_000019"
            save_photo(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", (32, 64), number)
            labels = every_value(values if split != "test" else [0, 1, 2, 3], (32, 64), number)
            if ending == "labelTrainIds" and split == "test":
                labels = np.full_like(labels, 255)
            save_pixels(root / "gtFine" / split / city / f"{name}_gtFine_{ending}.png", labels)


def write_idd_lite(root: Path) -> None:
    """IDD-Lite: values 0 to 6, and 255."""
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            name = f"{number}_{number:06}"
            save_photo(root / "images" / split / f"{name}.jpg", (40, 60), number)
            save_pixels(root / "labels" / split / f"{name}.png", every_value([*range(7), 255], (40, 60), number))
