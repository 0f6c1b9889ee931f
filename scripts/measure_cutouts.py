"""Measure cut-outs as users get them, with and without refinement, on photographs with the mask of their main object.

    python scripts/measure_cutouts.py scapenet_lite0.salient data/ecssd --split val

The folder is a data set `salient` (`docs/data.md`). Masks come from `Cutter.cut_out`. Printed are the maximal F-measure
(beta squared 0.3) and its threshold, the mean absolute error, the IoU of the pixels of all photographs together above
one half and the mean boundary accuracy (`segscape.metrics`), how many photographs show nothing that was found, and the
seconds a photograph takes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from segscape.choices import CUTOUT_WEIGHTS, REFINER_WEIGHTS
from segscape.cutout.cutter import Cutter
from segscape.data.datasets import find_dataset
from segscape.metrics import MaskScores, SaliencyScores
from segscape.refinement.refiner import Refiner
from segscape.segmentation.segmenter import Segmenter

_COLUMNS = ("masks", "max F", "at", "MAE", "IoU", "mBA", "nothing found", "seconds")


class Row:
    """One way to cut out, and what it scores.

    Args:
        name: For the table.
        cutter: Gives the masks.
        band: See `Cutter.cut_out`.
    """

    def __init__(self, name: str, cutter: Cutter, band: int | None = None) -> None:
        self.name, self.cutter, self.band = name, cutter, band
        self.saliency, self.masks = SaliencyScores(), MaskScores()
        self.empty, self.seconds = 0, 0.0

    def add(self, image: torch.Tensor, truth: torch.Tensor) -> None:
        """Cut out of an image (3, H, W) uint8, and compare with the truth (H, W) boolean."""
        start = time.perf_counter()
        result = self.cutter.cut_out(image.permute(1, 2, 0).contiguous().numpy(), band=self.band)
        self.seconds += time.perf_counter() - start
        mask = torch.from_numpy(result.mask)[None]
        self.saliency.update(mask, truth[None])
        self.masks.update(mask > 0.5, truth[None])
        self.empty += not result.found

    def scores(self) -> dict[str, float]:
        """By the names of the columns."""
        saliency, masks = self.saliency.compute(), self.masks.compute()
        seconds = self.seconds / max(saliency.images, 1)
        values = (saliency.max_f, saliency.threshold, saliency.mae, masks.iou, masks.mba, self.empty, seconds)
        return dict(zip(_COLUMNS[1:], values, strict=True))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", default=CUTOUT_WEIGHTS, help="a name or a file (default: %(default)s)")
    parser.add_argument("root", type=Path, help="a folder with images/<split>/ and masks/<split>/")
    parser.add_argument("--split", default="val", help="(default: %(default)s)")
    parser.add_argument("--refine-weights", default=REFINER_WEIGHTS, help="(default: %(default)s)")
    parser.add_argument("--bands", type=int, nargs="*", default=[], metavar="PIXELS", help="further bands to compare")
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures")
    arguments = parser.parse_args()
    dataset = find_dataset("salient")(arguments.root, arguments.split)
    segmenter = Segmenter.from_weights(arguments.weights, arguments.device)
    refining = Cutter(segmenter, Refiner.from_weights(arguments.refine_weights, arguments.device))
    rows = [Row("without refinement", Cutter(segmenter)), Row("refined", refining)]
    rows += [Row(f"refined, band {band}", refining, band) for band in arguments.bands]
    for index in track(range(len(dataset)), description="cutting out", console=Console(stderr=True)):
        sample = dataset[index]
        for row in rows:
            row.add(sample["image"], sample["mask"] == 1)
    table = Table(*_COLUMNS, title=f"{arguments.weights}: {len(dataset)} photographs of {arguments.root}")
    for row in rows:
        found = row.scores()
        table.add_row(
            row.name, *(f"{value:.4f}" if isinstance(value, float) else str(value) for value in found.values())
        )
    Console(soft_wrap=True, highlight=False).print(table)
    if arguments.json:
        results = {row.name: row.scores() for row in rows}
        arguments.json.write_text(json.dumps({"weights": arguments.weights, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
