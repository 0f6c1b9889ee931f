r"""Measure what int8 costs in mean IoU, and write it into `benchmarks/results/int8.json` and `docs/runtimes.md`.

    python scripts/quantisation_loss.py camvid=data/camvid dronedeploy=data/dronedeploy

Of each data set the weights `stdc1_seg.<data set>` are measured on the validation split, with PyTorch in float32 and
with OpenVINO in int8, calibrated on images of the training split. The frames that ship with the package are measured as
well; they are few, and calibrate themselves, as photographs do that are segmented without --calibration.
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
from segscape.data.datasets import SegmentationDataset, find_dataset
from segscape.inference.calibration import MOST_IMAGES
from segscape.metrics.confusion import ConfusionMatrix, scores
from segscape.runtime.machine import processor

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "int8.json"
PAGE = ROOT / "docs" / "runtimes.md"
MARKS = "<!-- int8 -->", "<!-- /int8 -->"


def images(dataset: SegmentationDataset, most: int) -> list[Any]:
    """Up to so many images of a data set, spread evenly, as arrays (H, W, 3)."""
    step = max(len(dataset) // most, 1)
    return [dataset[number]["image"].permute(1, 2, 0).numpy() for number in range(0, len(dataset), step)][:most]


def measured(segmenter: segscape.Segmenter, dataset: SegmentationDataset) -> tuple[torch.Tensor, dict[str, float]]:
    """All labels in one row, and the scores with the median milliseconds of the network."""
    confusion = ConfusionMatrix(segmenter.card.num_classes)
    labels, seconds = [], []
    for number in range(len(dataset)):
        sample = dataset[number]
        result = segmenter.segment(sample["image"].permute(1, 2, 0).numpy())
        labels.append(torch.from_numpy(result.labels).flatten())
        seconds.append(result.seconds["network"])
        confusion.update(torch.from_numpy(result.labels)[None].long(), sample["mask"][None].long())
    found = scores(confusion.compute())
    return torch.cat(labels), {
        "miou": found.miou,
        "pixel_accuracy": found.pixel_accuracy,
        "milliseconds": 1000 * statistics.median(seconds),
    }


def compare(weights: str, dataset: SegmentationDataset, calibration: list[Any]) -> dict[str, Any]:
    """The scores in float32 and in int8, and the share of equal labels."""
    exact, fp32 = measured(segscape.Segmenter.from_weights(weights, "cpu"), dataset)
    segmenter = segscape.Segmenter.from_weights(
        weights, "cpu", runtime="openvino", precision="int8", calibration=calibration
    )
    rough, int8 = measured(segmenter, dataset)
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
    parser.add_argument("sources", nargs="*", metavar="DATASET=ROOT", help="data sets with a training split")
    shipped = find_dataset("camvid")(str(files("segscape") / "examples" / "camvid"), "val")
    results = {"shipped frames": compare("scapenet_lite0.street", shipped, images(shipped, len(shipped)))}
    for source in parser.parse_args().sources:
        name, _, root = source.partition("=")
        kind = find_dataset(name)
        calibration = images(kind(root, "train"), MOST_IMAGES)
        results[f"{name} val"] = compare(f"stdc1_seg.{name}", kind(root, "val"), calibration)
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
