"""Photographs with the mask of their main object, as ECSSD (1 bit) and DAVIS (0 and 255) have them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.fake.pixels import save_photo
from tests.fake.refinement import disk

SIZE = 40, 56


def write_salient(root: Path, *, splits: tuple[str, ...] = ("train", "val")) -> None:
    """Four photographs a split; every second mask has 1 bit."""
    for split in splits:
        for number in range(4):
            save_photo(root / "images" / split / f"{number:04}.jpg", SIZE, number)
            mask = Image.fromarray(disk(SIZE, number))
            path = root / "masks" / split / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            (mask.convert("1") if number % 2 else mask).save(path)
