"""Real photographs cut small, and label maps with every value a file may hold."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

FRAMES = Path(str(files("segscape"))) / "examples" / "camvid" / "images" / "val"


def save_photo(path: Path, size: tuple[int, int], number: int = 0) -> None:
    """A piece of a real street frame, (height, width) `size`, another one for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = sorted(FRAMES.iterdir())
    left, top = 7 * number % 300, 5 * number % 200
    with Image.open(frames[number % len(frames)]) as frame:
        frame.crop((left, top, left + size[1], top + size[0])).save(path)


def every_value(values: list[int], size: tuple[int, int], number: int = 0) -> np.ndarray:
    """(H, W) uint8 in which each value stands about equally often, at other places for each number."""
    return np.roll(np.resize(np.array(values, np.uint8), size), number)


def every_colour(colours: list[tuple[int, int, int]], size: tuple[int, int], number: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 in which each colour stands about equally often."""
    return np.array(colours, np.uint8)[every_value(list(range(len(colours))), size, number)]


def save_pixels(path: Path, pixels: np.ndarray) -> None:
    """Write an image; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
