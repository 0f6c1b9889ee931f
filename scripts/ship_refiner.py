r"""Make a refiner's weights small enough to ship, measure it and each of its stages, and write it into the package.

    python scripts/ship_refiner.py runs/crm_resnet18/davis crm_resnet18.davis --data-root data/davis_foreground \
        --training "..." --licence "..."

Convolutions become float16. The scores in the card are those of the file as it ships.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from ship_weights import pack, write_records
from torch.utils.data import Dataset

from segscape.checkpoints.store import read_weights, write_weights
from segscape.data.refinement import PerturbedPairs, RefinementPairs, TripleSample
from segscape.inference.refiner import Refiner
from segscape.metrics import MaskResult, MaskScores
from segscape.registry import model_entry
from segscape.training.refinement import COARSE, LAST, PROTOCOL, as_arrays

_REFINE = "refine"


def measure(weights: Path, triples: Dataset[TripleSample]) -> dict[str, MaskResult]:
    """The scores of the coarse masks, of every stage of a weights file, and of its `Refiner.refine`, by name."""
    refiner = Refiner.from_weights(weights)
    scores: dict[str, MaskScores] = {}

    def count(name: str, found: torch.Tensor, truth: torch.Tensor) -> None:
        scores.setdefault(name, MaskScores()).update(found[None], truth[None])

    for index in track(range(len(triples)), description="measuring"):  # type: ignore[arg-type]
        sample = triples[index]
        truth = sample["truth"][0] > 127
        image, mask = as_arrays(sample)
        count(COARSE, torch.from_numpy(mask > 127), truth)
        for scale, probability in refiner.stages(image, mask):
            count(f"{scale:g}", torch.from_numpy(probability > 0.5), truth)
        count(_REFINE, torch.from_numpy(refiner.refine(image, mask).mask), truth)
    return {name: score.compute() for name, score in scores.items()}


def main() -> None:
    """Pack, measure and write the weights and their records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("name", help="the name to ship under, <network>.<data set>")
    parser.add_argument("--data-root", type=Path, required=True, help="a folder of pairs with a validation split")
    parser.add_argument("--least-side", type=int, help="the least side in pixels at which a stage does good")
    parser.add_argument("--limit", type=float, default=14.9e6, help="bytes of tensors")
    parser.add_argument("--training", required=True, help="how they were trained, for the card")
    parser.add_argument("--licence", required=True, help="the terms on which they may be used, for the card")
    parser.add_argument(
        "--with-pictures", action="store_true", help="keep predictions too, where the data's licences let them be shown"
    )
    arguments = parser.parse_args()

    card, state = read_weights(arguments.run / "weights.safetensors")
    packed = pack(state, int(arguments.limit), model_entry(card.network).create(card.num_classes))
    root = Path(__file__).parent.parent
    target = root / "src" / "segscape" / "weights" / f"{arguments.name}.safetensors"
    triples = PerturbedPairs(RefinementPairs(arguments.data_root, "val"))
    protocol = f"{arguments.data_root.name} val, {len(triples)} images, perturbed: {PROTOCOL}"
    card = dataclasses.replace(
        card,
        training=arguments.training,
        protocol=protocol,
        licence=arguments.licence,
        least_side=arguments.least_side,
    )
    write_weights(target, card, packed)
    results = measure(target, triples)
    last, coarse = results[LAST], results[COARSE]
    score = {"mba": last.mba, "iou": last.iou, "mba_coarse": coarse.mba, "iou_coarse": coarse.iou}
    write_weights(target, dataclasses.replace(card, score=score), packed)

    records = root / "docs" / "weights" / arguments.name
    write_records(arguments.run, records, data_root=arguments.data_root, with_pictures=arguments.with_pictures)
    console = Console(highlight=False)
    console.print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")
    for name, result in results.items():
        console.print(f"{name}: IoU {result.iou:.4f}, mBA {result.mba:.4f}")


if __name__ == "__main__":
    main()
