"""Pairs a second of the mask perturbation beside a plain transcription of its description, alternately on one core.

The plain version draws every random number by itself, looks at the contour's points in a loop, makes a structuring
element for every operation, and compares whole masks in NumPy after every round. Both perturb the same shapes,
224 x 224, towards the same targets, drawn from 0.8 to 1 as in training. The shipped augmentation is timed as well: a
crop of a real street frame with its coarse mask and its colours, as a training step reads it.

    python benchmarks/perturbation.py [--masks 200] [--rounds 5] [--output benchmarks/results/perturbation.json]
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import statistics
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors

import segscape
from segscape.data.refinement.perturbation import perturb
from segscape.data.refinement.samples import PairSample
from segscape.data.refinement.transforms import RefinementAugmentation

SIDE = 224


def plain_simplify(mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    polygons = []
    for contour in contours:
        count = len(contour)
        if count < 10:
            continue
        run = int(0.1 * count)
        gaps = sorted((float(((contour[i] - contour[i + run]) ** 2).sum()), i) for i in range(count - run))
        start = random.choice(gaps[: math.ceil(0.1 * len(gaps))])[1]
        rest = np.concatenate([contour[:start], contour[start + run :]])
        kept = sorted(random.sample(range(len(rest)), int(0.1 * len(rest))))
        if kept:
            polygons.append(np.array([rest[i] for i in kept]))
    return cv2.fillPoly(np.zeros_like(mask), polygons, 255) if polygons else mask.copy()


def plain_element() -> np.ndarray:
    side = random.randint(3, 9)
    kind = random.randrange(4)
    if kind == 0:
        return cv2.getStructuringElement(cv2.MORPH_RECT, (side, side))
    size = [(side, side), (side, side // 2), (side // 2, side)][kind - 1]
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size)


def plain_perturb(mask: np.ndarray, iou_target: float) -> np.ndarray:
    start = plain_simplify(mask)
    changed = start.copy()
    height, width = mask.shape
    for _ in range(250):
        for _ in range(4):
            left, top = np.random.randint(width), np.random.randint(height)
            right, bottom = np.random.randint(left + 1, width + 1), np.random.randint(top + 1, height + 1)
            if np.random.rand() < 0.25:
                changed[(top + bottom) // 2, (left + right) // 2] = np.random.randint(2) * 255
            change = cv2.dilate if np.random.rand() < 0.5 else cv2.erode
            changed[top:bottom, left:right] = change(changed[top:bottom, left:right], plain_element())
        intersection = np.count_nonzero((changed > 127) & (start > 127))
        union = np.count_nonzero((changed > 127) | (start > 127))
        if (intersection + 1e-6) / (union + 1e-6) < iou_target:
            break
    return changed


def make_masks(count: int) -> list[np.ndarray]:
    """Wavy shapes of many sizes, some with holes and several parts."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    masks = []
    for _ in range(count):
        waves = sum(
            np.sin(2 * np.pi * (a * rows + b * columns) + phase)
            for a, b, phase in generator.uniform((-2, -2, 0), (2, 2, 2 * np.pi), (4, 3))
        )
        masks.append(np.where(waves > generator.uniform(0, 1), 255, 0).astype(np.uint8))
    return masks


def pairs_per_second(make: Callable[[int], object], count: int) -> float:
    start = time.perf_counter()
    for index in range(count):
        make(index)
    return count / (time.perf_counter() - start)


def measure(count: int, rounds: int) -> dict[str, object]:
    masks = make_masks(count)
    targets = np.random.default_rng(1).uniform(0.8, 1.0, count)
    photo = np.asarray(Image.open(sorted((Path(str(files("segscape"))) / "examples/camvid/images/val").iterdir())[0]))
    image = tv_tensors.Image(torch.from_numpy(photo.transpose(2, 0, 1).copy()))
    augment = RefinementAugmentation().build()
    height, width = photo.shape[:2]
    truths = [tv_tensors.Mask(torch.from_numpy(np.tile(mask, (2, 3))[:height, :width].copy())[None]) for mask in masks]
    makers: dict[str, Callable[[int], object]] = {
        "plain": lambda index: plain_perturb(masks[index], targets[index]),
        "segscape": lambda index: perturb(
            masks[index], generator=np.random.default_rng(index), iou_target=targets[index]
        ),
        "segscape_augmentation": lambda index: augment(PairSample(image=image, truth=truths[index], name="")),
    }
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for make in makers.values():
        make(0)
    for _ in range(rounds):
        for name, make in makers.items():
            rates[name].append(pairs_per_second(make, count))
    return {
        "machine": f"{platform.machine()} CPU, 1 thread",
        "versions": {
            "python": platform.python_version(),
            "opencv": cv2.__version__,
            "numpy": np.__version__,
            "segscape": segscape.__version__,
        },
        "work": f"{count} wavy masks of {SIDE} x {SIDE}, IoU targets from 0.8 to 1, {rounds} rounds in turn; pairs a "
        "second",
        **{
            name: {"median": round(statistics.median(values)), "slowest": round(min(values))}
            for name, values in rates.items()
        },
        "times_faster": round(statistics.median(rates["segscape"]) / statistics.median(rates["plain"]), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=200, help="masks a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each version, in turn")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "perturbation.json")
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    result = measure(arguments.masks, arguments.rounds)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
