"""Boundary accuracy and the IoU of masks beside the numbers of the authors' evaluation, case by case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from segscape.metrics import MaskScores, boundary_accuracy, boundary_counts, boundary_radii
from segscape.metrics.boundary import disk_reach
from tests.golden import fill
from tests.references.common import GOLDEN, Comparison, compare

ACCURACY_TOLERANCE = 1e-15


class Masks(NamedTuple):
    """Boolean masks (H, W) of one case: the truth, a coarse and a refined mask."""

    truth: npt.NDArray[np.bool_]
    coarse: npt.NDArray[np.bool_]
    refined: npt.NDArray[np.bool_]


@cache
def golden() -> dict[str, Any]:
    return json.loads((GOLDEN / "crm" / "golden.json").read_text())["metrics"]


def masks(kind: str, height: int, width: int) -> Masks:
    """The masks that the goldens were made with."""
    return {"circles": _circles, "waves": _waves, "blocks": _blocks}[kind](height, width)


def _circles(height: int, width: int) -> Masks:
    rows, cols = np.mgrid[:height, :width]
    radius = min(height, width) // 3

    def disk(down: int, right: int, smaller: int) -> npt.NDArray[np.bool_]:
        squared = (rows - height // 2 - down) ** 2 + (cols - width // 2 - right) ** 2
        return squared < (radius - smaller) ** 2

    return Masks(disk(0, 0, 0), disk(5, -7, 3), disk(1, -1, 0))


def _waves(height: int, width: int) -> Masks:
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
    turn = 2 * np.pi
    f = np.sin(turn * 1.5 * x + 0.7) + np.cos(turn * 1.2 * y - 0.3) + 0.35 * np.sin(turn * (3 * x + 2 * y))
    return Masks(f > 0.2, f > 0.35, f > 0.22)


def _blocks(height: int, width: int) -> Masks:
    def ones(name: str, block: int) -> npt.NDArray[np.bool_]:
        return fill.labels(name, (1, height, width), 2, ignore=0, block=block)[0] == 1

    truth = ones("metric-gt", 32)
    errors = ones("metric-noise", 4) & ones("metric-where", 16)
    return Masks(truth, truth ^ errors, truth ^ (errors & ones("metric-less", 8)))


def cases() -> Iterator[Comparison]:
    """Pixel counts of every band, exactly, and the accuracies read from them."""
    for case in golden()["cases"]:
        height, width = case["shape"]
        name = f"{case['masks']} {height}x{width}"
        found = masks(case["masks"], height, width)
        pixels = [case[f"{kind}_pixels"] for kind in ("gt", "seg", "mask")]
        yield compare(f"{name} pixels", [mask.sum() for mask in found], pixels, 0.0)
        yield compare(f"{name} radii", boundary_radii(height, width), [band["radius"] for band in case["bands"]], 0.0)
        for kind, mask in (("seg", found.coarse), ("mask", found.refined)):
            overlap = (mask & found.truth).sum(), (mask | found.truth).sum()
            yield compare(f"{name} {kind} overlap", overlap, case[f"{kind}_iou"], 0.0)
            bands = [(band["band_pixels"], band[f"{kind}_correct"]) for band in case["bands"]]
            yield compare(f"{name} {kind} bands", boundary_counts(mask, found.truth), bands, 0.0)
            accuracy = boundary_accuracy(mask, found.truth)
            yield compare(f"{name} {kind} mBA", accuracy, case[f"{kind}_mba"], ACCURACY_TOLERANCE)


def multi_class() -> Iterator[Comparison]:
    """The boundaries between several classes, with void pixels."""
    height, width = golden()["multi_class"]["shape"]

    def labels(name: str, classes: int, block: int) -> npt.NDArray[np.int64]:
        return fill.labels(name, (1, height, width), classes, ignore=0, block=block)[0]

    truth, other, where = labels("metric-mc", 6, 32), labels("metric-mc2", 6, 4), labels("metric-mc3", 4, 8)
    coarse = np.where(where == 1, other, truth)
    refined = np.where((where == 1) & (other % 2 == 0), other, truth)
    found = [boundary_accuracy(prediction, truth, void=0) for prediction in (coarse, refined)]
    yield compare("multi-class mBA", found, golden()["multi_class"]["mba"], ACCURACY_TOLERANCE)


def sizes() -> Iterator[Comparison]:
    """Radii by image size, and the rows of the disks."""
    for size, radii in golden()["radii_by_size_HxW"].items():
        height, width = (int(side) for side in size.split("x"))
        yield compare(f"radii of {size}", boundary_radii(height, width), radii, 0.0)
    for radius, widths in golden()["disk_row_widths_by_radius"].items():
        half = [2 * reach + 1 for reach in disk_reach(int(radius))]
        yield compare(f"disk of radius {radius}", [*half[:0:-1], *half], widths, 0.0)


def data_set() -> Iterator[Comparison]:
    """What the authors' script prints for three images."""
    coarse, refined = MaskScores(), MaskScores()
    for kind, height, width in (("circles", 200, 300), ("waves", 777, 1023), ("blocks", 96, 80)):
        found = masks(kind, height, width)
        truth = torch.from_numpy(found.truth)[None]
        coarse.update(torch.from_numpy(found.coarse)[None], truth)
        refined.update(torch.from_numpy(found.refined)[None], truth)
    expected = golden()["eval_post"]["values"]
    for name, score in (("Old", coarse.compute()), ("New", refined.compute())):
        yield compare(f"{name} IoU of a data set", score.iou, expected[f"{name} IoU"], ACCURACY_TOLERANCE)
        yield compare(f"{name} mBA of a data set", score.mba, expected[f"{name} mBA"], ACCURACY_TOLERANCE)


def every_comparison() -> Iterator[Comparison]:
    yield from sizes()
    yield from cases()
    yield from multi_class()
    yield from data_set()
