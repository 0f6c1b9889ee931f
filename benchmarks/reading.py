"""Times the reading of images, masks and labels, here and, side by side, in another version of the package.

    python benchmarks/reading.py [--against CHECKOUT] [--rounds 9]

Each round reads every file in this version and in the other one, in turns, so that a noisy machine slows both. Medians
in milliseconds go to `benchmarks/results/reading.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "reading.json"
SIZE = (1080, 1920)
READS = 5
"""Of each file in a round; the fastest counts."""


def write_files(folder: Path) -> None:
    """Write a file of each kind: a photograph enlarged, its masks and labels."""
    frame = sorted((ROOT / "src/segscape/examples/camvid/images/val").iterdir())[0]
    image = Image.open(frame).convert("RGB").resize(SIZE[::-1], Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    image.save(folder / "image.png", compress_level=1)
    image.save(folder / "image.jpg", quality=92)
    image.save(folder / "image.webp", quality=90)
    rasters: dict[str, tuple[Any, dict[str, Any]]] = {
        "image_tiled.tif": (pixels, {"tiled": True, "compress": "deflate"}),
        "image_strips.tif": (pixels, {}),
        "image_16_bits.tif": (pixels.astype(np.uint16) * 12 + 200, {"tiled": True}),
    }
    for name, (values, options) in rasters.items():
        place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 6e6)}
        profile = {"driver": "GTiff", "dtype": values.dtype, "count": 3, "height": SIZE[0], "width": SIZE[1]}
        with rasterio.open(folder / name, "w", **profile, **place, **options) as dataset:
            dataset.write(np.moveaxis(values, -1, 0))
    grey = np.asarray(image.convert("L"))
    Image.fromarray(np.where(grey > 120, np.uint8(255), np.uint8(0))).save(folder / "mask.png")
    Image.fromarray(grey // 24).save(folder / "labels.png")


def time_reading(folder: Path) -> dict[str, float]:
    """Return the milliseconds that reading each file takes, the least of several."""
    from segscape.geometry.window import Window
    from segscape.rasters.channels import Scaling
    from segscape.rasters.image import read_labels
    from segscape.rasters.masks import read_mask_file
    from segscape.rasters.source import open_source

    def read_image(path: Path) -> object:
        # The earlier versions decoded 16 bits in this way alone, by a scaling that is stated.
        with open_source(path, scaling=Scaling(200, 3260) if "16" in path.name else None) as source:
            return source.read(Window(0, 0, *source.size))

    found = {}
    for path in sorted(folder.iterdir()):
        read: Any = {"mask": read_mask_file, "labels": read_labels}.get(path.stem, read_image)
        seconds = []
        for _ in range(READS + 1):
            begun = time.perf_counter()
            read(path)
            seconds.append(time.perf_counter() - begun)
        found[path.name] = 1000 * min(seconds[1:])
    return found


def run(package: Path, folder: Path) -> dict[str, float]:
    """Time the reading in a process of its own that imports the package of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(package / "src")}
    command = [sys.executable, str(Path(__file__).resolve()), "--here", str(folder)]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the medians, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="a checkout of another version")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(time_reading(arguments.here)))
        return
    packages = {"this": ROOT, **({"other": arguments.against} if arguments.against else {})}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        rounds = [{which: run(package, folder) for which, package in packages.items()} for _ in range(arguments.rounds)]
    result = {}
    for file in rounds[0]["this"]:
        median = {which: statistics.median(each[which][file] for each in rounds) for which in packages}
        ratios = [each["this"][file] / each["other"][file] for each in rounds] if arguments.against else []
        result[file] = {**median, **({"ratio": statistics.median(ratios)} if ratios else {})}
        print(f"{file:20} " + "  ".join(f"{which} {value:7.2f}" for which, value in result[file].items()))
    RESULT.write_text(json.dumps({"milliseconds": result, "size": SIZE, "rounds": arguments.rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
