r"""Make a refiner's weights small enough to ship, measure them on masks of five grades, and write them to the package.

    python scripts/ship_refiner.py runs/crm_efficientnet_lite0/objects crm_efficientnet_lite0.objects \
        --data-root data --pairs davis_foreground --training "..." --licence "..."

Convolutions become float16. The scores in the card are those of the file as it ships, see `measure_refiner.py`.
"""

from __future__ import annotations

import dataclasses

from measure_refiner import measure, table
from rich.console import Console
from ship_weights import ROOT, pack, parser_of_a_run, write_records

from segscape.checkpoints.store import read_weights, write_weights
from segscape.data.refinement.pairs import RefinementPairs
from segscape.refinement.refiner import Refiner
from segscape.registry import model_entry


def main() -> None:
    """Pack, measure and write the weights and their records."""
    parser = parser_of_a_run(__doc__)
    parser.add_argument("--pairs", required=True, help="the folder below the data root whose val split is measured")
    parser.add_argument("--least-side", type=int, help="the least side in pixels at which a stage does good")
    arguments = parser.parse_args()

    card, state = read_weights(arguments.run / "weights.safetensors")
    packed = pack(state, int(arguments.limit), model_entry(card.network).create(card.num_classes))
    target = ROOT / "src" / "segscape" / "weights" / f"{arguments.name}.safetensors"
    pairs = RefinementPairs(arguments.data_root / arguments.pairs, "val")
    card = dataclasses.replace(
        card, training=arguments.training, licence=arguments.licence, least_side=arguments.least_side
    )
    write_weights(target, card, packed)
    grades = measure(Refiner.from_weights(target), pairs, band=None, label=f"{arguments.pairs} val")
    rough, by_8 = grades["perturbed"], grades["reduced by 8"]
    score = {
        "mba": rough["mba"],
        "iou": rough["iou"],
        "mba_coarse": rough["mba_before"],
        "iou_coarse": rough["iou_before"],
        "iou_exact": grades["exact"]["iou"],
        "iou_reduced_by_8": by_8["iou"],
    }
    protocol = (
        f"{arguments.pairs} val, {len(pairs)} images, masks perturbed, exact, and reduced by 8 (IoU "
        f"{by_8['iou_before']:.4f} before), refined as `segscape refine` does it; IoU of all pixels together, mean "
        "boundary accuracy"
    )
    write_weights(target, dataclasses.replace(card, score=score, protocol=protocol), packed)

    records = ROOT / "docs" / "weights" / arguments.name
    write_records(arguments.run, records, data_root=arguments.data_root, with_pictures=arguments.with_pictures)
    console = Console(highlight=False)
    console.print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")
    console.print(table({arguments.pairs: grades}))


if __name__ == "__main__":
    main()
