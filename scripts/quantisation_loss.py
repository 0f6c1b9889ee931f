r"""Measure what int8 costs in mean IoU, and write it into `benchmarks/results/int8.json` and `docs/runtimes.md`.

    python scripts/quantisation_loss.py data

The weights of the joint recipes are measured on the validation split of each of their data sets, below the folder
`data`, in the set's own classes: with PyTorch in float32 and with OpenVINO in int8, calibrated on images of the set's
training split. The frames that ship with the package are measured as well; they are few, and calibrate themselves, as
photographs do that are segmented without --calibration.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from importlib.resources import files
from pathlib import Path
from typing import Any

import nncf
import openvino
import torch

import segscape
from segscape.config_file import find_config, load_config
from segscape.data.datasets import SegmentationDataset, find_dataset
from segscape.data.transforms import CameraAugmentation
from segscape.labels import CAMVID, IGNORE_INDEX, ClassMapping
from segscape.metrics.confusion import ConfusionMatrix, scores
from segscape.runtime.machine import processor
from segscape.segmentation.calibration import MOST_IMAGES
from segscape.training.datamodule import JointDataModule, JointSet

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "int8.json"
PAGE = ROOT / "docs" / "runtimes.md"
MARKS = "<!-- int8 -->", "<!-- /int8 -->"
RECIPES = "scapenet_lite0/street", "scapenet_lite0/aerial"


def images(dataset: SegmentationDataset, most: int) -> list[Any]:
    """Up to so many images of a data set, spread evenly, as arrays (H, W, 3)."""
    step = max(len(dataset) // most, 1)
    return [dataset[number]["image"].permute(1, 2, 0).numpy() for number in range(0, len(dataset), step)][:most]


def measured_sets(recipe: str, root: Path) -> JointDataModule:
    """The data sets of a joint recipe, below a folder."""
    data = load_config(find_config(recipe))["data"]
    sets = [JointSet(**each) for each in data["sets"]]
    crops = CameraAugmentation(tuple(data["augmentation"]["init_args"]["crop"]))
    return JointDataModule(sets=sets, root=str(root), labels=data["labels"], augmentation=crops, batch_size=1)


def measured(
    segmenter: segscape.Segmenter, dataset: SegmentationDataset, classes: ClassMapping
) -> tuple[torch.Tensor, dict[str, float]]:
    """All labels in one row, and the scores in the set's own classes with the median milliseconds of the network."""
    confusion, home = ConfusionMatrix(classes.own.num_classes), torch.tensor(classes.home)
    left_out = torch.tensor([index for index, members in enumerate(classes.members) if not members])
    labels, seconds = [], []
    for number in range(len(dataset)):
        sample = dataset[number]
        result = segmenter.segment(sample["image"].permute(1, 2, 0).numpy())
        labels.append(torch.from_numpy(result.labels).flatten())
        seconds.append(result.seconds["network"])
        truth = sample["mask"][None].as_subclass(torch.Tensor).long()
        truth = truth.masked_fill(torch.isin(truth, left_out), IGNORE_INDEX)
        confusion.update(home[torch.from_numpy(result.labels)[None].long()], truth)
    found = scores(confusion.compute())
    return torch.cat(labels), {
        "miou": found.miou,
        "pixel_accuracy": found.pixel_accuracy,
        "milliseconds": 1000 * statistics.median(seconds),
    }


def compare(
    weights: str, dataset: SegmentationDataset, classes: ClassMapping, calibration: list[Any]
) -> dict[str, Any]:
    """The scores in float32 and in int8, and the share of equal labels."""
    exact, fp32 = measured(segscape.Segmenter.from_weights(weights, "cpu"), dataset, classes)
    segmenter = segscape.Segmenter.from_weights(
        weights, "cpu", runtime="openvino", precision="int8", calibration=calibration
    )
    rough, int8 = measured(segmenter, dataset, classes)
    return {
        "weights": weights,
        "images": len(dataset),
        "calibration_images": min(len(calibration), MOST_IMAGES),
        "fp32": fp32,
        "int8": int8,
        "lost_points": 100 * (fp32["miou"] - int8["miou"]),
        "equal_labels": float((exact == rough).float().mean()),
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results in Markdown."""
    lines = [
        "| weights | images | calibrated on | mIoU fp32 | mIoU int8 | points lost | labels equal | fp32 -> int8 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        fp32, int8 = found["fp32"], found["int8"]
        lines.append(
            f"| `{found['weights']}` | {found['images']}, {name} | {found['calibration_images']} | {fp32['miou']:.2%} "
            f"| {int8['miou']:.2%} | {found['lost_points']:+.2f} | {found['equal_labels']:.2%} "
            f"| {fp32['milliseconds']:.0f} -> {int8['milliseconds']:.0f} ms |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder of the recipes' data sets")
    root = parser.parse_args().root
    shipped = find_dataset("camvid")(str(files("segscape") / "examples" / "camvid"), "val")
    frames = images(shipped, len(shipped))
    results = {"shipped frames": compare("scapenet_lite0.street", shipped, ClassMapping.same(CAMVID), frames)}
    for recipe in RECIPES:
        data = measured_sets(recipe, root)
        for each, classes in zip([one for one in data.sets if one.val_split], data.maps, strict=True):
            kind, folder = find_dataset(each.dataset), str(root / each.root)
            calibration = images(kind(folder, each.train_split), MOST_IMAGES)
            results[f"{classes.own.name} val"] = compare(
                recipe.replace("/", "."), kind(folder, each.val_split), classes, calibration
            )
    machine = {
        "processor": processor(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "openvino": openvino.__version__,
        "nncf": nncf.__version__,
    }
    RESULT.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    first, last = MARKS
    page = re.sub(f"{first}.*{last}", f"{first}\n{table(results)}\n{last}", PAGE.read_text(), flags=re.DOTALL)
    PAGE.write_text(page)
    print(table(results))


if __name__ == "__main__":
    main()
