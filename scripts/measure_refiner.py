r"""Measure what a refiner does to masks of five grades: whether it mends bad ones, and whether it spoils good ones.

    python scripts/measure_refiner.py crm_efficientnet_lite0.objects data/davis_foreground data/ecssd --output s.json

Every image of a folder's split is refined as `segscape refine` does it, from its mask perturbed by the authors' recipe,
reduced by 16, 8 and 4 (shrunk by the mean over the area, enlarged bilinearly, cut at one half) and from the exact mask.
`--least-side` overrides the stages that are run and `--band` what of the image is refined, to choose both by.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from segscape.arguments.values import pixels
from segscape.checkpoints.shipped import find_weights, read_card
from segscape.data.refinement.grades import exact, perturbed, reduce_mask
from segscape.data.refinement.pairs import RefinementPairs
from segscape.files import atomic_path
from segscape.metrics import MaskScores
from segscape.refinement.refiner import Refiner

FACTORS = 16, 8, 4
_LEVEL = 127


def coarse_masks(truth: npt.NDArray[np.uint8], name: str) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """The grades' names and their masks (H, W) uint8 of an exact one; the image's name fixes what is random."""
    generator = np.random.default_rng([0, zlib.crc32(name.encode())])
    yield "perturbed", perturbed(truth, generator)
    for factor in FACTORS:
        yield f"reduced by {factor}", reduce_mask(truth, factor, hard=False)
    yield "exact", exact(truth, generator)


def measure(refiner: Refiner, pairs: RefinementPairs, *, band: int | None, label: str) -> dict[str, dict[str, float]]:
    """IoU of all pixels together and mean boundary accuracy before and after, by the grade's name."""
    scores: dict[str, tuple[MaskScores, MaskScores]] = {}
    for index in track(range(len(pairs)), description=label, console=Console(stderr=True)):
        sample = pairs[index]
        image, truth = sample["image"].permute(1, 2, 0).numpy(), sample["truth"][0].numpy()
        inside = torch.from_numpy(truth > _LEVEL)[None]
        for grade, mask in coarse_masks(truth, sample["name"]):
            before, after = scores.setdefault(grade, (MaskScores(), MaskScores()))
            before.update(torch.from_numpy(mask > _LEVEL)[None], inside)
            after.update(torch.from_numpy(refiner.refine(image, mask, band=band).mask)[None], inside)
    found = {grade: [score.compute() for score in pair] for grade, pair in scores.items()}
    return {
        grade: {"iou_before": before.iou, "iou": after.iou, "mba_before": before.mba, "mba": after.mba}
        for grade, (before, after) in found.items()
    }


def table(results: dict[str, dict[str, dict[str, float]]]) -> Table:
    """A row for each folder and grade."""
    shown = Table("pairs", "masks", "IoU before", "after", "gain", "mBA before", "after", "gain")
    for folder, grades in results.items():
        for grade, row in grades.items():
            cells = [
                text
                for name in ("iou", "mba")
                for text in (
                    f"{row[f'{name}_before']:.4f}",
                    f"{row[name]:.4f}",
                    f"{row[name] - row[f'{name}_before']:+.4f}",
                )
            ]
            shown.add_row(folder, grade, *cells)
        shown.add_section()
    return shown


def main() -> None:
    """Measure, print the table and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a name or a weights file")
    parser.add_argument("roots", nargs="+", type=Path, metavar="data_root", help="folders of pairs")
    parser.add_argument("--split", default="val", help="of the folders (default: %(default)s)")
    parser.add_argument("--band", type=pixels, metavar="PIXELS", help="refine only so near to the mask's edge")
    parser.add_argument("--least-side", type=int, help="see segscape.Refiner (default: the card's)")
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    arguments = parser.parse_args()

    pairs = {root.name: RefinementPairs(root, arguments.split) for root in arguments.roots}
    path = find_weights(arguments.weights)
    refiner = Refiner.from_weights(path)
    if arguments.least_side is not None:
        refiner = Refiner(refiner.network, normalisation=read_card(path).normalisation, least_side=arguments.least_side)
    results = {
        name: measure(refiner, found, band=arguments.band, label=f"{name} {arguments.split}")
        for name, found in pairs.items()
    }
    Console().print(table(results))
    if arguments.output is not None:
        with atomic_path(arguments.output) as temporary:
            temporary.write_text(json.dumps({"weights": str(arguments.weights), "scores": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
