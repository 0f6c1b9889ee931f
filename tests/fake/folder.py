"""A user's own images with a `labels.yaml`."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.fake.pixels import every_colour, every_value, save_photo, save_pixels

LABELS = {
    "name": "Fields",
    "classes": [
        {"name": "water", "colour": [0, 0, 255], "value": 10},
        {"name": "wheat", "colour": [255, 200, 0], "value": 255},
        {"name": "road", "colour": [90, 90, 90], "value": 3},
    ],
    "ignore_value": 0,
    "ignore_colour": [0, 0, 0],
}
COLOURS = [(0, 0, 255), (255, 200, 0), (90, 90, 90), (0, 0, 0)]


def write_folder(root: Path, *, splits: tuple[str, ...] = ("train", "val"), coloured: bool = False) -> None:
    """Four images a split, or without splits all together; masks with values or colours."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "labels.yaml").write_text(yaml.safe_dump(LABELS))
    for split in splits or (".",):
        for number in range(4):
            save_photo(root / "images" / split / f"field-{number}.jpg", (24, 32), number)
            values, colours = every_value([10, 255, 3, 0], (24, 32), number), every_colour(COLOURS, (24, 32), number)
            save_pixels(root / "masks" / split / f"field-{number}.png", colours if coloured else values)
