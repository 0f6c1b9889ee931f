"""Labels at the image's size from logits at stride 8, beside PyTorch's interpolation followed by an arg-max.

All pipelines work in turn in one process, each on the layout that suits it: ours and the channels-last one on logits as
networks give them, the others on planes.

    python benchmarks/upsample.py [--repeats 15] [--output benchmarks/results/upsample.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numba
import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.segmentation.upsampling.argmax import Upsampling, upsample_argmax

SIZE = (1024, 2048)
STRIDE = 8
SOURCE = (SIZE[0] // STRIDE, SIZE[1] // STRIDE)
BLOCK_BYTES = 2 * 2**20


def make_logits(num_classes: int, kind: str) -> Tensor:
    """(K, h, w): regions some dozens of pixels wide, as of trained networks, these with some noise, or noise alone."""
    generator = torch.Generator().manual_seed(num_classes)
    noise = torch.randn(num_classes, *SOURCE, generator=generator)
    if kind == "noise":
        return noise
    coarse = 4 * torch.randn(1, num_classes, SOURCE[0] // 16, SOURCE[1] // 16, generator=generator)
    regions = F.interpolate(coarse, SOURCE, mode="bicubic")[0]
    return regions + 0.3 * noise if kind == "noisy regions" else regions


def interpolate_argmax(logits: Tensor, align_corners: bool) -> Tensor:
    return F.interpolate(logits[None], SIZE, mode="bilinear", align_corners=align_corners).argmax(1)[0]


def row_blocks(logits: Tensor, align_corners: bool) -> Tensor:
    """Rows mixed first, then columns, in blocks that fit the cache."""
    rows = torch.arange(SIZE[0], dtype=torch.float64)
    if align_corners:
        rows *= (SOURCE[0] - 1) / (SIZE[0] - 1)
    else:
        rows = ((rows + 0.5) / STRIDE - 0.5).clamp(min=0)
    upper = rows.long()
    lower, share = (upper + 1).clamp(max=SOURCE[0] - 1), (rows - upper).float()
    labels = torch.empty(SIZE, dtype=torch.uint8)
    step = max(1, BLOCK_BYTES // (4 * logits.shape[0] * SIZE[1]))
    for start in range(0, SIZE[0], step):
        block = slice(start, start + step)
        mixed = torch.lerp(logits[:, upper[block]], logits[:, lower[block]], share[block, None])
        shape = mixed.shape[1], SIZE[1]
        full = F.interpolate(mixed[None], shape, mode="bilinear", align_corners=align_corners)[0]
        labels[block] = full.max(dim=0).indices
    return labels


def agreeing_cells(logits: Tensor) -> float:
    """The share of cells whose four corners have the same best class."""
    best = logits.argmax(0)
    corners = best[1:, 1:], best[:-1, 1:], best[1:, :-1]
    return float(torch.stack([corner == best[:-1, :-1] for corner in corners]).all(0).float().mean())


def measure(num_classes: int, kind: str, align_corners: bool, repeats: int) -> dict[str, object]:
    """Medians of all pipelines in milliseconds, how many times faster ours is, and where its labels differ."""
    planes = make_logits(num_classes, kind)
    channels_last = planes[None].contiguous(memory_format=torch.channels_last)[0]
    upsampling = Upsampling(SOURCE, SIZE, align_corners)
    pipelines: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: upsample_argmax(channels_last, SIZE, align_corners=align_corners),
        "ours_from_planes": lambda: upsample_argmax(planes, SIZE, align_corners=align_corners),
        "ours_confidence": lambda: upsampling.confidence(channels_last),
        "interpolate_argmax": lambda: interpolate_argmax(planes, align_corners),
        "interpolate_argmax_channels_last": lambda: interpolate_argmax(channels_last, align_corners),
        "row_blocks": lambda: row_blocks(planes, align_corners),
    }
    results = {name: pipeline() for name, pipeline in pipelines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(repeats):
        for name, pipeline in pipelines.items():
            start = time.perf_counter()
            pipeline()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        "classes": num_classes,
        "logits": kind,
        "align_corners": align_corners,
        "agreeing_cells": round(agreeing_cells(planes), 3),
        "differing_labels": int((results["ours"] != results["interpolate_argmax"]).sum()),
        "median_ms": {name: round(1000 * median, 2) for name, median in medians.items()},
        "min_ms": {name: round(1000 * min(taken), 2) for name, taken in seconds.items()},
        "times_faster_than": {
            name: round(median / medians["ours"], 1) for name, median in medians.items() if not name.startswith("ours")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="runs of each pipeline, in turn, after one to warm up")
    parser.add_argument("--classes", type=int, nargs="+", default=[19, 150])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "upsample.json")
    arguments = parser.parse_args()
    with torch.inference_mode():
        cases = [
            measure(num_classes, kind, align_corners, arguments.repeats)
            for num_classes in arguments.classes
            for kind in ("regions", "noisy regions", "noise")
            for align_corners in (False, True)
        ]
    capability = torch.backends.cpu.get_cpu_capability()
    result = {
        "machine": f"{platform.machine()} CPU, {torch.get_num_threads()} threads, {capability}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numba": numba.__version__},
        "work": f"logits of {SOURCE[0]} x {SOURCE[1]} to labels of {SIZE[0]} x {SIZE[1]}, float32",
        "repeats": arguments.repeats,
        "cases": cases,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
