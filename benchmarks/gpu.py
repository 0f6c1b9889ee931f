"""Every network at its paper's sizes on one GPU, beside the authors' pipeline and what the card can do at most.

    python benchmarks/gpu.py                               within 9 minutes; needs torch, timm and Segscape alone
    python benchmarks/gpu.py --only stdc1_seg isdnet_resnet18
    python benchmarks/gpu.py --device cpu --tiny           the same code in a minute, for tests

First the ceilings of the card: matrix products of random numbers, and a copy in its memory. Then, batch 1, no file and
no upload in between:

- official fp32: eager, channels first, every training head, interpolation, softmax and arg-max, with PyTorch's
  defaults, by which cuDNN's convolutions may use TF32, and cuDNN's search for the fastest algorithm.
- torch fp32, torch bf16: `deploy()` run layer by layer; our upsampling with arg-max.
- compile bf16: the same through `torch.compile` with CUDA graphs, which is what `--runtime auto` takes where it is the
  fastest.

Networks that refine masks are run by `segscape.Refiner`, file input left out. Latencies are of runs that are waited for
one by one, median and p90 of all; frames a second are of as many runs that are waited for together. The share of the
roofline is the least time that the card would need, max(FLOP / ceiling, bytes / bandwidth), over that of one frame:
bytes are inputs, weights and results of every convolution and matrix product, all else fused. Random weights, but for
those that ship; their labels are compared with float32 without TF32. Rows go to `$OUT` or `benchmarks/results` as
`gpu_<card>.json` as soon as they are there; those for which time was short are listed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pipelines import TRAINED, load, with_all_heads
from side_by_side import Case, street_frame
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import segscape
from segscape.benchmark.protocol import Protocol, Timing
from segscape.benchmark.subject import example_pair
from segscape.files import atomic_path
from segscape.normalisation import Normalisation
from segscape.refinement.refiner import Refiner
from segscape.runtime.base import Deployed
from segscape.runtime.create import create_runtime
from segscape.runtime.deploy import deploy
from segscape.runtime.machine import processor, versions
from segscape.segmentation.padding import pad_to_fit
from segscape.segmentation.upsampling.argmax import upsample_argmax

FULL, THREE_QUARTERS, HALF = (1024, 2048), (768, 1536), (512, 1024)
# The most telling first: time may be short for the last.
CASES = (
    Case("scapenet_lite0", FULL),
    Case("stdc1_seg", FULL),
    Case("isdnet_resnet18", (2448, 2448)),
    *(Case("stdc1_seg", size) for size in (HALF, THREE_QUARTERS)),
    *(Case("bisestdc", size) for size in (FULL, HALF, THREE_QUARTERS)),
    *(Case("stdc2_seg", size) for size in (FULL, HALF, THREE_QUARTERS)),
    *(Case(f"dabnet_resnet18_p{patch}", FULL) for patch in (2, 8, 1, 4, 16)),
    Case("dabnet_efficientnet_b1", FULL),
    Case("isnet_resnet50", FULL),
    Case("bisestdc2", FULL),
    Case("isnet_resnet101", FULL),
    *(Case(f"isnet_resnet{depth}_lip", (473, 473)) for depth in (50, 101)),
)
REFINED = (Case("crm_resnet50", (2160, 3840)), Case("crm_resnet18", (2160, 3840)))
OFFICIAL = "official fp32"
PIPELINES = (OFFICIAL, "torch bf16", "torch fp32", "compile bf16")
REFINER_PIPELINES = ("torch fp32", "torch bf16")
ARITHMETIC = {OFFICIAL: "tf32", "torch fp32": "tf32"}
"""Which ceiling counts, where it is not that of the pipeline's precision."""
SECONDS_KEPT = {"compile bf16": 75.0}
"""What must be left for a pipeline to be begun; for others 15."""
COUNTED = {"conv2d", "convolution", "conv1d", "linear", "mm", "addmm", "bmm", "baddbmm", "matmul"} | {
    "scaled_dot_product_attention"
}
FULL_PROTOCOL, REFINER_PROTOCOL = Protocol(warm_up=10, repeats=50), Protocol(warm_up=1, repeats=3)
TINY_PROTOCOL, TINY = Protocol(warm_up=1, repeats=2), 16


class Ceilings(NamedTuple):
    """What the card reaches: FLOP a second by arithmetic, and bytes a second that a copy reads and writes."""

    flops: dict[str, float]
    bytes: float


class Cost(NamedTuple):
    """Of one image: FLOP, and the elements of what convolutions and products read and write."""

    flops: int
    elements: int


class Traffic(TorchDispatchMode):
    """Counts the elements that convolutions and matrix products read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in COUNTED:
            values = tree_leaves((args, kwargs, result))
            self.elements += sum(value.numel() for value in values if isinstance(value, Tensor))
        return result


class Bench:
    """The device and how often everything is run.

    Args:
        device: Where.
        tiny: Whether to do little, for tests.
    """

    def __init__(self, device: torch.device, *, tiny: bool) -> None:
        self.device, self.tiny = device, tiny
        self.protocol = TINY_PROTOCOL if tiny else FULL_PROTOCOL

    def synchronise(self) -> None:
        """Wait until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def figures(self, run: Callable[[], object], protocol: Protocol | None = None) -> dict[str, float]:
        """Latencies of single runs, and runs a second of those in a row."""
        protocol = protocol or self.protocol
        seconds = protocol.time(run, synchronise=self.synchronise, on_run=lambda: None)
        start = time.perf_counter()
        for _ in range(protocol.repeats):
            run()
        self.synchronise()
        timing = Timing.of(seconds)
        return {
            "median_ms": round(timing.median_ms, 4),
            "p90_ms": round(timing.p90_ms, 4),
            "per_second": round(protocol.repeats / (time.perf_counter() - start), 2),
        }

    def size(self, case: Case) -> tuple[int, int]:
        """The (height, width) that a case is run at."""
        height, width = case.size
        return (height // TINY, width // TINY) if self.tiny else case.size

    def ceilings(self) -> Ceilings:
        """Products of square matrices of random numbers, and a copy, each the mean of ten after three."""
        side, length = (256, 1 << 20) if self.tiny else (8192, 1 << 30)
        flops = {}
        for arithmetic, dtype in (("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
            torch.backends.cuda.matmul.allow_tf32 = arithmetic == "tf32"
            left, right = (torch.randn(side, side, device=self.device, dtype=dtype) for _ in range(2))
            flops[arithmetic] = 2 * side**3 * self._rate(partial(torch.mm, left, right))
        torch.backends.cuda.matmul.allow_tf32 = False
        source = torch.randn(length, device=self.device)
        target = torch.empty_like(source)
        return Ceilings(flops, 2 * source.nbytes * self._rate(lambda: target.copy_(source)))

    def _rate(self, run: Callable[[], object], warm_up: int = 3, repeats: int = 10) -> float:
        for _ in range(warm_up):
            run()
        self.synchronise()
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        self.synchronise()
        return repeats / (time.perf_counter() - start)

    def peak_mib(self) -> float | None:
        """What PyTorch has taken on the GPU at most since the last time."""
        if self.device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self.device) / 2**20
        torch.cuda.reset_peak_memory_stats(self.device)
        return round(peak, 1)


def segment(bench: Bench, case: Case, pipeline: str, ceilings: Ceilings) -> dict[str, Any]:
    """A row of a network that segments images."""
    network = load(case.network)
    align_corners = network.align_corners
    images = frame_images(network, bench, case)
    size = (images.shape[2], images.shape[3])
    deployed = deploy(network.to(bench.device))
    if pipeline == OFFICIAL:
        run = with_all_heads(network)
        cost = count(with_all_heads(deepcopy(network).to("meta")), size)
    else:
        runtime, precision = pipeline.split()
        run = create_runtime(runtime, Deployed(deployed), precision=precision)
        images = images.contiguous(memory_format=torch.channels_last)
        cost = count(deepcopy(deployed).to("meta"), size)

    def labels() -> Tensor:
        if pipeline != OFFICIAL:
            return upsample_argmax(run(images)[0], size, align_corners=align_corners)
        scores = F.interpolate(run(images), size, mode="bilinear", align_corners=align_corners)
        return scores.softmax(1).argmax(1)[0]

    bench.peak_mib()
    with torch.inference_mode():
        row = {"network": bench.figures(lambda: run(images)), "labels": bench.figures(labels)}
        row |= roofline(cost, pipeline, ceilings, row["network"]["per_second"]) | {"peak_mib": bench.peak_mib()}
        expected = exact_logits(deployed, images)
        row["logits_error"] = float((run(images) - expected).abs().max() / expected.abs().max())
        if case.network in TRAINED:
            right = upsample_argmax(expected[0], size, align_corners=align_corners)
            row["labels_agree"] = float((labels() == right).float().mean())
    return row


def refine(bench: Bench, case: Case, pipeline: str, ceilings: Ceilings) -> dict[str, Any]:
    """A row of a network that refines masks; its bytes are not counted."""
    torch.manual_seed(0)
    precision = "fp32" if pipeline.endswith("fp32") else "bf16"
    refiner = Refiner(segscape.create_model(case.network), bench.device, precision=precision)
    image, mask = example_pair(bench.size(case))
    totals: list[int] = []
    bench.peak_mib()
    figures = bench.figures(
        lambda: refiner.refine(image, mask, on_progress=lambda _, total: totals.append(total)),
        TINY_PROTOCOL if bench.tiny else REFINER_PROTOCOL,
    )
    cost = Cost(flops=2 * 10**6 * max(totals), elements=0)
    return {
        "labels": figures,
        **roofline(cost, pipeline, ceilings, figures["per_second"]),
        "peak_mib": bench.peak_mib(),
    }


def frame_images(network: nn.Module, bench: Bench, case: Case) -> Tensor:
    """A shipped street frame (1, 3, H, W), normalised, of a size that the network takes."""
    frame = np.array(street_frame(bench.size(case)))
    pixels = torch.from_numpy(frame).to(bench.device).permute(2, 0, 1)[None].contiguous()
    return pad_to_fit(network, Normalisation()(pixels))


def exact_logits(deployed: nn.Module, images: Tensor) -> Tensor:
    """Logits in float32 proper."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        return deployed(images)
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.inference_mode()
def count(network: Callable[[Tensor], Tensor], size: tuple[int, int]) -> Cost:
    """What a network on the device "meta" costs for an image of a size (height, width)."""
    images = torch.empty(1, 3, *size, device="meta")
    with FlopCounterMode(display=False) as flops:
        network(images)
    with Traffic() as traffic:
        network(images)
    return Cost(flops.get_total_flops(), traffic.elements)


def roofline(cost: Cost, pipeline: str, ceilings: Ceilings, per_second: float) -> dict[str, Any]:
    """The least time on this card, and the share of it in the time that was needed."""
    precision = pipeline.split()[-1]
    moved = cost.elements * (4 if precision == "fp32" else 2)
    compute = cost.flops / ceilings.flops[ARITHMETIC.get(pipeline, precision)]
    memory = moved / ceilings.bytes
    return {
        "gflop": round(cost.flops / 1e9, 3),
        "mbytes": round(moved / 1e6, 3),
        "compute_ms": round(1000 * compute, 4),
        "memory_ms": round(1000 * memory, 4),
        "bound_by": "compute" if compute >= memory else "memory",
        "share_of_roofline": round(max(compute, memory) * per_second, 4),
    }


def card(device: torch.device) -> dict[str, Any]:
    """The card, its driver and what runs on it."""
    driver = None
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True).stdout.strip().splitlines()[0]
    return {
        "name": processor(device),
        "driver": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "segscape": segscape.__version__,
        **versions("torch", "triton", "timm"),
    }


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted({case.network for case in (*CASES, *REFINED)})
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0, help="no row is begun that would end later")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NETWORK")
    parser.add_argument("--pipelines", nargs="+", choices=PIPELINES, default=PIPELINES)
    parser.add_argument("--tiny", action="store_true", help="sixteenths of the sizes, hardly any repeats")
    parser.add_argument("--output", type=Path, default=Path(os.environ.get("OUT", Path(__file__).parent / "results")))
    return parser


def main() -> None:
    """Measure, and write all rows after each."""
    end = time.monotonic()
    arguments = parser().parse_args()
    end += 60 * arguments.minutes
    device = torch.device(arguments.device)
    bench = Bench(device, tiny=arguments.tiny)
    torch.backends.cudnn.benchmark = True
    ceilings = bench.ceilings()
    result: dict[str, Any] = {"card": card(device), "ceilings": ceilings._asdict(), "rows": [], "left_out": []}
    name = re.sub(r"[^A-Za-z0-9]+", "_", result["card"]["name"]).strip("_")
    # What takes longest to begin comes last, so that every network has a row.
    wanted = [(case, pipeline) for pipeline in PIPELINES[:-1] for case in CASES]
    wanted += [(case, pipeline) for pipeline in REFINER_PIPELINES for case in REFINED]
    wanted += [(case, PIPELINES[-1]) for case in CASES]
    for case, pipeline in wanted:
        if case.network not in arguments.only or pipeline not in arguments.pipelines:
            continue
        size = bench.size(case)
        row: dict[str, Any] = {"name": case.network, "size": list(size), "pipeline": pipeline}
        if time.monotonic() + SECONDS_KEPT.get(pipeline, 15.0) > end:
            result["left_out"].append(row)
        else:
            result["rows"].append(row | outcome(bench, case, pipeline, ceilings))
            print(json.dumps(result["rows"][-1]), flush=True)
        with atomic_path(arguments.output / f"gpu_{name}.json") as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")


def outcome(bench: Bench, case: Case, pipeline: str, ceilings: Ceilings) -> dict[str, Any]:
    """What a row is found to be, or why it is not; the next ones start afresh."""
    start = time.perf_counter()
    try:
        row = (refine if case in REFINED else segment)(bench, case, pipeline, ceilings)
        return {**row, "seconds_in_all": round(time.perf_counter() - start, 1)}
    except Exception as error:
        # One network that does not run must not cost the others their time on the card.
        return {"error": (str(error).strip() or repr(error)).splitlines()[0]}
    finally:
        if pipeline.startswith("compile"):
            # Otherwise the second size of a network would be compiled for all sizes.
            torch.compiler.reset()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
