"""DeepGlobe, Inria Aerial and DroneDeploy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from segscape.labels import DRONEDEPLOY
from tests.fake.pixels import every_colour, every_value, save_photo, save_pixels

KITSAP = Path(__file__).parents[1] / "data" / "inria"
# Scenes and tiles of the published lists.
DEEPGLOBE = {"train": ["119", "6399"], "val": ["102122"], "test": ["10452"]}
INRIA = {"train": ["kitsap10", "kitsap16"], "val": ["kitsap22"], "test": ["vienna3"]}
# Colours a little off, as lossy tools leave them, and pure red, which is no class; with the class each is.
DEEPGLOBE_COLOURS = {
    (0, 0, 0): 0,
    (127, 127, 127): 0,
    (255, 0, 0): 0,
    (0, 255, 255): 1,
    (12, 250, 128): 1,
    (255, 255, 0): 2,
    (255, 0, 255): 3,
    (0, 255, 0): 4,
    (0, 0, 255): 5,
    (255, 255, 255): 6,
}


def write_deepglobe_download(source: Path, *, folder: str = "land-train") -> None:
    """The labelled part of DeepGlobe land cover."""
    for number, name in enumerate(name for names in DEEPGLOBE.values() for name in names):
        save_photo(source / folder / f"{name}_sat.jpg", (40, 40), number)
        colours = every_colour(list(DEEPGLOBE_COLOURS), (40, 40), number)
        save_pixels(source / folder / f"{name}_mask.png", colours)


def write_inria_aerial_download(source: Path) -> None:
    """`AerialImageDataset` with the labelled tiles of a small real cut, turned a little further each."""
    image, labels = (np.asarray(Image.open(KITSAP / name)) for name in ("kitsap11.png", "kitsap11_gt.png"))
    for turns, name in enumerate(name for names in INRIA.values() for name in names):
        for folder, pixels in (("images", image), ("gt", labels)):
            save_pixels(source / "AerialImageDataset" / "train" / folder / f"{name}.tif", np.rot90(pixels, turns))
    # The challenge's own test tiles, which have no labels.
    for name in ("bellingham1", "sfo1"):
        save_pixels(source / "AerialImageDataset" / "test" / "images" / f"{name}.tif", image)


def write_dronedeploy(root: Path) -> None:
    """Chips with palette labels 0 to 5, and 255."""
    for split, count in (("train", 2), ("val", 1)):
        for number in range(count):
            name = f"ec09336a6f_06BA0AF311OPENPIPELINE-{number:06}"
            save_photo(root / "images" / split / f"{name}.jpg", (30, 30), number)
            labels = Image.fromarray(every_value([0, 1, 2, 3, 4, 5, 255], (30, 30), number))
            labels.putpalette([channel for colour in DRONEDEPLOY.raw_palette for channel in colour])
            (root / "labels" / split).mkdir(parents=True, exist_ok=True)
            labels.save(root / "labels" / split / f"{name}.png")


def write_dubai(root: Path) -> None:
    """Parts of tiles with palette labels 0 to 4, and 255."""
    for split, tile in (("train", 2), ("val", 1)):
        for part in (1, 2):
            save_photo(root / "images" / split / f"tile{tile}_{part:03}.jpg", (30, 40), part)
            labels = every_value([*range(5), 255], (30, 40), part)
            save_pixels(root / "labels" / split / f"tile{tile}_{part:03}.png", labels)
