"""Time, peak memory and numbers of mask refinement beside its published form and beside the CascadePSP package.

Contestants, each in a process of its own, one after the other:

- `published`: the authors' code, in `published_crm.py`; too large for most machines from `--plain-pixels` on;
- `exact`: the same stages with the package's plain decoder, whose coordinates are float64. It is there for its numbers:
  the published form's float32 coordinates are off by more than rounding elsewhere;
- `float32`, `bfloat16`, `band`: `segscape.Refiner`, the last with `band=32`;
- `package`: `segmentation-refinement` from PyPI with random weights, where it is installed.

All but the last share one network: `crm_resnet50` with the weights of the tests' stored refinement, random but with
activations in a trained network's range, or that of `--weights`. How far `bfloat16` and `band` are from `float32` means
something for trained weights only.

    python benchmarks/refine.py [1024x1536 2048x3072 4096x6144] [--only float32 band] [--weights crm_resnet18.NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import published_crm
import torch
from torch import Tensor

import segscape
from segscape.networks.crm import CRM
from segscape.refinement import stages

T = TypeVar("T")
PLAIN = ("published", "exact")
CONTESTANTS = (*PLAIN, "float32", "bfloat16", "band", "package")
BAND = 32


class Stopwatch:
    """Adds up the time that calls of a function take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., T]) -> Callable[..., T]:
        """The function, timed."""

        def timed(*args: Any, **options: Any) -> T:
            start = time.perf_counter()
            result = function(*args, **options)
            self.seconds += time.perf_counter() - start
            return result

        return timed


def make_pair(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The shipped photo and its coarse mask, resized."""
    folder = Path(str(files("segscape"))) / "examples" / "refine"
    image = cv2.cvtColor(cv2.imread(str(folder / "aeroplane.jpg")), cv2.COLOR_BGR2RGB)
    mask = cv2.imread(str(folder / "aeroplane.png"), cv2.IMREAD_GRAYSCALE)
    resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)
    return resized, cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)


def load_network(weights: str | None) -> CRM:
    """The network of a weights file, or the one of the tests' stored refinement."""
    if weights is None:
        sys.path.append(str(Path(__file__).parent.parent))
        from tests.references.crm import pipeline_network

        return pipeline_network()
    return segscape.Refiner.from_weights(weights, "cpu").network


def exact_decoder(decoder: published_crm.ImplicitDecoder, features: Tensor, size: tuple[int, int]) -> Tensor:
    """In place of `published_crm.published_decoder`."""
    return decoder(features, size)[0, 0]


def run_plain(name: str, network: CRM, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    watch = Stopwatch()
    decoder = published_crm.published_decoder if name == "published" else exact_decoder
    published_crm.published_decoder = watch.around(decoder)
    start = time.perf_counter()
    with torch.inference_mode():
        *_, probability = published_crm.published_stages(network, image, mask)
    seconds = time.perf_counter() - start
    return probability.numpy(), {"seconds": seconds, "decoder_seconds": watch.seconds}


def run_refiner(name: str, network: CRM, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    watch = Stopwatch()
    stages.decode_block = watch.around(stages.decode_block)
    refiner = segscape.Refiner(network, "cpu", precision="bf16" if name == "bfloat16" else "fp32")
    start = time.perf_counter()
    result = refiner.refine(image, mask, band=BAND if name == "band" else None)
    seconds = time.perf_counter() - start
    return result.probability, {"seconds": seconds, "decoder_seconds": watch.seconds}


def run_package(folder: Path, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Its first pass decides which windows it looks at closely; with random weights that may be all or none."""
    import segmentation_refinement
    from segmentation_refinement.models.psp.pspnet import RefinementModule

    torch.manual_seed(0)
    torch.save({f"module.{key}": value for key, value in RefinementModule().state_dict().items()}, folder / "model")
    refiner = segmentation_refinement.Refiner("cpu", str(folder), download_and_check_model=False)
    passes = Stopwatch()
    refiner.model.forward = passes.around(refiner.model.forward)
    start = time.perf_counter()
    refined = refiner.refine(image, mask)
    return refined / np.float32(255), {"seconds": time.perf_counter() - start, "network_seconds": passes.seconds}


def child(name: str, folder: Path, weights: str | None) -> None:
    """Run one contestant, store its probabilities, and print its seconds and memory."""
    with np.load(folder / "pair.npz") as pair:
        image, mask = pair["image"], pair["mask"]
    before = peak_mib()
    if name == "package":
        probability, report = run_package(folder, image, mask)
    else:
        run = run_plain if name in PLAIN else run_refiner
        probability, report = run(name, load_network(weights), image, mask)
    peak = peak_mib()
    np.save(folder / f"{name}.npy", probability.astype(np.float32))
    print(json.dumps({**report, "peak_mib": peak, "peak_above_imports_mib": peak - before}))


def peak_mib() -> float:
    """The most memory that this process has had; `getrusage` would begin with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def compare(folder: Path, name: str, other: str) -> dict[str, float]:
    """How far one contestant's probabilities are from another's."""
    difference = np.abs(np.load(folder / f"{name}.npy") - np.load(folder / f"{other}.npy"))
    quantile = float(np.quantile(difference, 0.999))
    return {"max": float(difference.max()), "quantile_999": quantile, "mean": float(difference.mean())}


def measure(size: tuple[int, int], names: list[str], weights: str | None) -> list[dict[str, object]]:
    """All contestants at one size, beside the plain ones as far as these ran."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        image, mask = make_pair(size)
        np.savez(folder / "pair.npz", image=image, mask=mask)
        for name in names:
            row: dict[str, object] = {"size": f"{size[0]}x{size[1]}", "contestant": name}
            if name == "package" and find_spec("segmentation_refinement") is None:
                rows.append({**row, "outcome": "not installed"})
                continue
            command = [sys.executable, __file__, "--child", name, str(folder)]
            command += ["--weights", weights] if weights else []
            report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            row |= {key: round(value, 2) for key, value in report.items()}
            done = [str(other["contestant"]) for other in rows if "seconds" in other]
            references = [other for other in (*PLAIN, "float32") if other in done and name != "package"]
            row |= {f"difference_from_{other}": compare(folder, name, other) for other in references}
            for published in (other for other in rows if other["contestant"] == "published"):
                for key in report.keys() & {"seconds", "decoder_seconds"}:
                    row[f"times_faster_{key}"] = round(float(str(published[key])) / report[key], 2)
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown."""
    keys = ("size", "contestant", "seconds", "decoder_seconds", "peak_mib", "times_faster_seconds")
    keys = (*keys, "times_faster_decoder_seconds", "difference_from_exact")
    lines = ["| " + " | ".join(key.replace("_", " ") for key in keys) + " |", "|---" * len(keys) + "|"]
    for row in rows:
        cells = [row.get(key, row.get("outcome", "") if key == "seconds" else "") for key in keys]
        lines.append("| " + " | ".join(f"{c['max']:.1e}" if isinstance(c, dict) else str(c) for c in cells) + " |")
    return "\n".join(lines)


def processor() -> str:
    """The processor's name, where Linux tells it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return platform.machine()


def parse_size(text: str) -> tuple[int, int]:
    height, width = map(int, text.split("x"))
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=parse_size, default=[(1024, 1536)], help="HEIGHTxWIDTH")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument("--weights", help="a name or a file")
    parser.add_argument(
        "--plain-pixels", type=int, default=2048 * 3072, help="above so many, leave out the plain ones and the package"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "refine.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.child[0], Path(arguments.child[1]), arguments.weights)
    rows: list[dict[str, object]] = []
    for height, width in arguments.sizes:
        large = height * width > arguments.plain_pixels
        names = [name for name in arguments.only if not (large and name in (*PLAIN, "package"))]
        rows += measure((height, width), names, arguments.weights)
    result = {
        "machine": f"{processor()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "segscape": segscape.__version__},
        "work": f"photo and coarse mask to probabilities, one run each, band {BAND}",
        "weights": arguments.weights or "crm_resnet50, random",
        "rows": rows,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(table(rows))
    return None


if __name__ == "__main__":
    main()
