r"""Make pairs of image and mask of one class from data sets with label maps, to train refinement on more than it has.

    python scripts/class_pairs.py data/pairs camvid=data/camvid:Car,Pedestrian,Bicyclist,Building,Sky,Road \
        dronedeploy=data/dronedeploy:building,car,ground

Each class that covers between 1% and 60% of an image becomes a pair; of a data set at most `--most` pairs are taken,
evenly. They lie in OUTPUT/images/train and OUTPUT/masks/train; what is there already stays, so that other pairs can be
put beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import track

from segscape.data.datasets import SegmentationDataset, find_dataset

SHARES = 0.01, 0.6


def class_masks(dataset: SegmentationDataset, classes: set[str]) -> Iterator[tuple[int, str, npt.NDArray[np.uint8]]]:
    """The number of an image, the name of a class in it, and the mask of that class, (H, W) uint8, 0 and 255."""
    names = dataset.label_spec.class_names
    unknown = classes - set(names)
    if unknown:
        raise ValueError(f"{dataset.label_spec.name} has no class {min(unknown)}; it has {', '.join(names)}.")
    for number in track(range(len(dataset)), description=dataset.label_spec.name):
        labels = dataset[number]["mask"].numpy()
        for index, name in enumerate(names):
            mask = labels == index
            if (name in classes or not classes) and SHARES[0] <= mask.mean() <= SHARES[1]:
                yield number, name, mask.astype(np.uint8) * np.uint8(255)


def main() -> None:
    """Write the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the folder to write to")
    parser.add_argument("sources", nargs="+", metavar="DATASET=ROOT[:CLASS,...]", help="whose training splits to read")
    parser.add_argument("--most", type=int, default=200, help="pairs of each data set (default: %(default)s)")
    arguments = parser.parse_args()
    images, masks = (arguments.output / kind / "train" for kind in ("images", "masks"))
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for source in arguments.sources:
        name, _, rest = source.partition("=")
        root, _, classes = rest.partition(":")
        dataset = find_dataset(name)(root, "train")
        found = list(class_masks(dataset, set(filter(None, classes.split(",")))))
        for place in np.linspace(0, len(found) - 1, min(arguments.most, len(found))).round().astype(int):
            number, class_name, mask = found[place]
            stem = f"{name}_{number:05d}_{class_name.replace(' ', '-').replace('/', '-')}"
            Image.fromarray(dataset[number]["image"].numpy().transpose(1, 2, 0)).save(images / f"{stem}.png")
            Image.fromarray(mask).save(masks / f"{stem}.png")


if __name__ == "__main__":
    main()
