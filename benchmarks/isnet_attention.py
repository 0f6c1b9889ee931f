"""Time and peak memory of ISNet's attentions, with and without their matrix of pixels by pixels.

Every form computes the same result, in a process of its own, in turn with the others: `matrix` holds the whole
matrix of scores, as the authors' code does; `blocks` never does, but still has one key a pixel; `classes`, which the
package uses in evaluation, also has only one key a class where the keys are classes. Memory counts what the forward
pass adds to a process that holds weights and inputs; CPU time adds up the threads' and suffers less from neighbours.

    python benchmarks/isnet_attention.py [--rounds 5] [--output benchmarks/results/isnet_attention.json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import segscape
from segscape.networks.isnet import ImageLevelContext, SemanticLevelContext

MEASURES = {"seconds": 2, "cpu_seconds": 2, "memory_mib": None}
NETWORK = "isnet_resnet50"
NUM_CLASSES = 19
CASES = {
    ("image level", (512, 1024)): ("matrix", "blocks"),
    ("image level", (1024, 2048)): ("blocks",),
    ("semantic level", (512, 1024)): ("matrix", "blocks", "classes"),
    ("semantic level", (1024, 2048)): ("blocks", "classes"),
    ("network", (1024, 2048)): ("blocks", "classes"),
}
"""Part and image size: the forms compared. At 1024 x 2048 one matrix takes 4 GiB, and its softmax as much again."""

ONCE = {("network", (1024, 2048)), ("image level", (1024, 2048))}
"""Cases of half a minute and more, run in the first round alone."""


def prepare(part: str, height: int, width: int, form: str) -> Callable[[], torch.Tensor]:
    """What one form of one part computes for one image."""
    h, w = height // 8, width // 8
    features, logits = torch.randn(1, 512, h, w), torch.randn(1, NUM_CLASSES, h, w)
    if part == "image level":
        image_context = ImageLevelContext(negative_slope=0.0).eval()
        return lambda: image_context(features)
    if part == "semantic level":
        semantic_context = SemanticLevelContext(negative_slope=0.0).eval()
        semantic_context.training = form != "classes"  # of this module alone: its norms stay in evaluation mode
        return lambda: semantic_context(features, logits, features)
    network = segscape.create_model(NETWORK, NUM_CLASSES).eval()
    network.semantic_context.training = form != "classes"
    images = torch.randn(1, 3, height, width)
    return lambda: network(images)


def child(part: str, height: int, width: int, form: str) -> None:
    """Run one form once and print its seconds and memory."""
    torch.manual_seed(0)
    compute = prepare(part, height, width, form)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plain = sdpa_kernel(SDPBackend.MATH) if form == "matrix" else contextlib.nullcontext()
    with torch.inference_mode(), plain:
        start, cpu_start = time.perf_counter(), time.process_time()
        result = compute()
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = {"seconds": seconds, "cpu_seconds": cpu_seconds}
    print(json.dumps({**times, "memory_mib": (peak - before) / 1024, "mean": float(result.double().mean())}))


def measure(rounds: int) -> list[dict[str, object]]:
    """Medians of every form of every case, beside the first form of the case."""
    runs: dict[tuple[str, tuple[int, int], str], list[dict[str, float]]] = {}
    for number in range(rounds):
        for (part, size), forms in CASES.items():
            for form in forms if number == 0 or (part, size) not in ONCE else ():
                command = [sys.executable, __file__, "--child", part, *map(str, size), form]
                report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                runs.setdefault((part, size, form), []).append(json.loads(report))
                print(part, size, form, report.strip(), file=sys.stderr, flush=True)
    rows: list[dict[str, object]] = []
    for (part, size), forms in CASES.items():
        medians = {
            form: {key: statistics.median(run[key] for run in runs[part, size, form]) for key in MEASURES}
            for form in forms
        }
        rows += [
            {
                "part": part,
                "size": f"{size[0]}x{size[1]}",
                "form": form,
                "runs": len(runs[part, size, form]),
                **{key: round(value, MEASURES[key]) for key, value in medians[form].items()},
                "cpu_times_faster": round(medians[forms[0]]["cpu_seconds"] / medians[form]["cpu_seconds"], 2),
            }
            for form in forms
        ]
    return rows


def processor() -> str:
    """The processor's name, where Linux tells it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="processes of each form, in turn")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "isnet_attention.json")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        part, height, width, form = arguments.child
        return child(part, int(height), int(width), form)
    result = {
        "machine": f"{processor()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "segscape": segscape.__version__},
        "work": f"{NETWORK}, {NUM_CLASSES} classes, float32, batch 1, one forward in evaluation, in a fresh process",
        "rows": measure(arguments.rounds),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return None


if __name__ == "__main__":
    main()
