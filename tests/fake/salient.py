"""Photographs with the mask of their main object, as ECSSD (1 bit) and DAVIS (0 and 255) have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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


def disk_before_wall(size: tuple[int, int] = (60, 80), colour: tuple[int, int, int] = (220, 40, 30)) -> np.ndarray:
    """A photograph of a disk before a bluish wall with some grain."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside = np.hypot(rows - size[0] / 2, columns - size[1] / 2) < min(size) / 3
    pixels = np.where(inside[..., None], colour, (60, 110, 160))
    return (pixels + np.random.default_rng(0).integers(-9, 10, (*size, 3))).clip(0, 255).astype(np.uint8)
