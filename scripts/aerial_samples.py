r"""Bring single scenes of Inria, SpaceNet, DeepGlobe and DroneDeploy into folders that a joint training reads.

    python scripts/aerial_samples.py data/aerial --inria SCENE.png MASK.png --spacenet SCENE.tif MASK.png \
        --deepglobe SCENE_sat.jpg SCENE_mask.png --dronedeploy SCENE.jpg LABELS.png

Each becomes a folder below OUTPUT: `inria` and `spacenet` with images, masks and a `labels.yaml` (buildings or not),
`deepglobe` and `dronedeploy` in the layouts of these data sets. Of DroneDeploy's sample scene the columns that its
validation chips were cut from are blackened and lose their labels. What a 16-bit scene of one band holds between its
1st and 99th percentile becomes 8-bit grey.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

_VALIDATION = slice(1800, 3000)
"""The columns of DroneDeploy's sample scene that its validation chips were cut from."""

_LABELS = """\
name: {name}
classes:
  - {{name: background, colour: [0, 0, 0], value: 0}}
  - {{name: building, colour: [255, 255, 255], value: 1}}
"""


def write_buildings(folder: Path, name: str, image: Image.Image, mask: Path) -> None:
    """Write one image and its mask of buildings (0 and 255) as a folder of one's own images."""
    for kind in ("images", "masks"):
        (folder / kind / "train").mkdir(parents=True, exist_ok=True)
    image.convert("RGB").save(folder / "images" / "train" / "scene.png")
    buildings = (np.asarray(Image.open(mask).convert("L")) > 127).astype(np.uint8)
    Image.fromarray(buildings).save(folder / "masks" / "train" / "scene.png")
    (folder / "labels.yaml").write_text(_LABELS.format(name=name))


def read_grey(path: Path) -> Image.Image:
    """The first band of a raster, stretched to 8 bits."""
    with rasterio.open(path) as raster:
        band = raster.read(1, masked=True)
    low, high = np.percentile(band.compressed(), (1, 99))
    return Image.fromarray(np.clip((band.filled(0) - low) / (high - low) * 255, 0, 255).astype(np.uint8))


def write_without_validation(folder: Path, scene: Path, labels: Path) -> None:
    """Write DroneDeploy's scene without what it is validated on."""
    for file, kind, empty in ((scene, "images", 0), (labels, "labels", 255)):
        opened = Image.open(file)
        pixels = np.array(opened)
        pixels[:, _VALIDATION] = empty
        target = folder / kind / "train" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        left = Image.fromarray(pixels)
        if opened.mode == "P":
            left.putpalette(opened.getpalette() or [])
        left.save(target, **({"quality": 95} if kind == "images" else {}))


def main() -> None:
    """Write those that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the folder to write to")
    for name in ("inria", "spacenet", "deepglobe", "dronedeploy"):
        parser.add_argument(f"--{name}", nargs=2, type=Path, metavar=("SCENE", "MASK"))
    arguments = parser.parse_args()
    if arguments.inria:
        scene, mask = arguments.inria
        write_buildings(arguments.output / "inria", "Inria", Image.open(scene), mask)
    if arguments.spacenet:
        scene, mask = arguments.spacenet
        write_buildings(arguments.output / "spacenet", "SpaceNet", read_grey(scene), mask)
    if arguments.deepglobe:
        for file, kind in zip(arguments.deepglobe, ("img_dir", "rgb2id"), strict=True):
            folder = arguments.output / "deepglobe" / kind / "train"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder)
    if arguments.dronedeploy:
        write_without_validation(arguments.output / "dronedeploy", *arguments.dronedeploy)


if __name__ == "__main__":
    main()
