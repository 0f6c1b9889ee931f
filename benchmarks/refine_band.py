"""What refining only a band around a coarse mask's boundary saves, and how far its result is from the full one.

On validation pairs with perturbed masks every band is compared with the full refinement (largest and mean difference
of the probabilities, IoU of the masks) and with the truth (IoU, boundary accuracy); on the photograph that ships with
the package, whose mask has no truth, with the full refinement alone. CPU time adds up the threads' and suffers less
from neighbours.

    python benchmarks/refine_band.py PAIRS [--weights NAME] [--bands 4 8 16 32 64] [--output FILE]

PAIRS is a folder with `val` images and masks, as `segscape data check` describes it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

import segscape
from segscape.data.refinement.pairs import RefinementPairs
from segscape.data.refinement.transforms import PerturbedPairs
from segscape.metrics import boundary_accuracy
from segscape.rasters.image import read_image
from segscape.rasters.masks import read_mask

Mask = npt.NDArray[np.bool_]


class Case(NamedTuple):
    """An image (H, W, 3), its coarse mask (H, W) from 0 to 1, and the truth (H, W) where it is known."""

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.float32]
    truth: Mask | None


def pairs(folder: Path) -> Iterator[Case]:
    """The validation pairs, each with the perturbed mask that validation gives it."""
    perturbed = PerturbedPairs(RefinementPairs(folder, split="val"), seed=0)
    for sample in (perturbed[number] for number in range(len(perturbed))):
        yield Case(
            sample["image"].permute(1, 2, 0).contiguous().numpy(),
            sample["mask"][0].numpy() / np.float32(255),
            sample["truth"][0].numpy() > 127,
        )


def photograph() -> Iterator[Case]:
    """The photograph that ships with the package."""
    folder = Path(str(files("segscape"))) / "examples" / "refine"
    yield Case(read_image(folder / "aeroplane.jpg"), read_mask(folder / "aeroplane.png"), None)


def iou(mask: Mask, other: Mask) -> float:
    return float((mask & other).sum() / max((mask | other).sum(), 1))


def quality(mask: Mask, truth: Mask | None) -> dict[str, float]:
    """How near a mask is to the truth."""
    return {} if truth is None else {"iou": iou(mask, truth), "mba": boundary_accuracy(mask, truth)}


def measure(refiner: segscape.Refiner, case: Case, bands: list[int]) -> dict[str, dict[str, float]]:
    """Time and scores of one case: of the coarse mask, of the full refinement, and of every band."""
    start = time.process_time()
    full = refiner.refine(case.image, case.mask)
    seconds = time.process_time() - start
    rows = {
        "coarse": {**quality(case.mask > 0.5, case.truth), "iou_with_full": iou(case.mask > 0.5, full.mask)},
        "full": {"cpu_seconds": seconds, **quality(full.mask, case.truth)},
    }
    for band in bands:
        start = time.process_time()
        result = refiner.refine(case.image, case.mask, band=band)
        taken = time.process_time() - start
        difference = np.abs(result.probability - full.probability)
        rows[f"band {band}"] = {
            "cpu_seconds": taken,
            "times_faster": seconds / taken,
            **quality(result.mask, case.truth),
            "iou_with_full": iou(result.mask, full.mask),
            "largest_difference": float(difference.max()),
            "mean_difference": float(difference.mean()),
        }
    return rows


def means(measured: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The means over all cases; of the largest differences the largest."""
    return {
        row: {
            key: round(
                float((np.max if key == "largest_difference" else np.mean)([case[row][key] for case in measured])), 5
            )
            for key in measured[0][row]
        }
        for row in measured[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--weights", default="crm_efficientnet_lite0.objects")
    parser.add_argument("--bands", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "refine_band.json")
    arguments = parser.parse_args()
    refiner = segscape.Refiner.from_weights(arguments.weights, "cpu")
    report: dict[str, Any] = {
        "weights": arguments.weights,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    for name, cases in (("validation pairs", pairs(arguments.pairs)), ("photograph", photograph())):
        measured = [measure(refiner, case, arguments.bands) for case in cases]
        report[name] = {"cases": len(measured), **means(measured)}
        print(json.dumps({name: report[name]}, indent=2), flush=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
