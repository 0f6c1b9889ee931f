"""Memory and time of `segscape segment` on scenes from 25 to 900 megapixels, beside the plainest PyTorch version.

    python benchmarks/large_images.py data/dronedeploy/scene/ec09336a6f.jpg --sides 5000 10000 30000

A drone scene is mirrored and repeated to GeoTIFFs of each side, in 512 x 512 JPEG blocks. Each run is a process of its
own with `--max-memory 2GB`; memory is the most that the process had resident, libraries included. The plain version
reads everything, runs the network in float32, interpolates and takes the arg-max; it runs where it fits. Writes
`benchmarks/results/large_images.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from PIL import Image
from rasterio.windows import Window
from torch.nn import functional as F

import segscape
from segscape.cli.main import main as segscape_main
from segscape.concurrency import BackgroundWriter
from segscape.scenes.outputs import LabelWriter
from segscape.scenes.scene import Scene
from segscape.scenes.streaming.sweep import Sweep
from segscape.scenes.streaming.worker import _Adder
from segscape.scenes.tiling import TilingWorker

RESULT = Path(__file__).parent / "results" / "large_images.json"
BUDGET = "2GB"
BLOCK = 512
PLAIN_BYTES_PER_PIXEL = 190
"""What the plain version is known to take; where there is less, it is not run."""


def main() -> None:
    """Measure every pipeline at every side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path, help="a photograph of a scene")
    parser.add_argument("--sides", type=int, nargs="+", default=[5000, 10000, 30000])
    parser.add_argument("--weights", nargs="+", default=["scapenet_lite0.aerial"], help="names or weights files")
    parser.add_argument("--pipelines", nargs="+", default=["scene", "window", "plain"], choices=list(PIPELINES))
    parser.add_argument("--work", type=Path, help="a folder for the scenes, which are made where they are missing")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(PIPELINES[arguments.child[0]](arguments.scene, *arguments.child[1:])))
        return
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        rows = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
        for side in arguments.sides:
            scene = work / f"scene_{side}.tif"
            if not scene.exists():
                make_scene(arguments.scene, scene, side)
            for weights in arguments.weights:
                for pipeline in arguments.pipelines:
                    row = measured(scene, side, weights, pipeline, work)
                    print(row, flush=True)
                    same = {"side": side, "weights": row["weights"], "pipeline": pipeline}
                    rows = [other for other in rows if not same.items() <= other.items()] + [row]
                    write(rows)


def make_scene(photograph: Path, scene: Path, side: int) -> None:
    """A square mosaic of a photograph, mirrored and repeated."""
    pixels = np.asarray(Image.open(photograph).convert("RGB"))
    rows, cols = (np.pad(np.arange(n), (0, max(side - n, 0)), "symmetric")[:side] for n in pixels.shape[:2])
    profile = {"driver": "GTiff", "dtype": "uint8", "crs": "EPSG:32633", "compress": "jpeg", "photometric": "ycbcr"}
    blocks = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "jpeg_quality": 90, "bigtiff": "if_safer"}
    place = rasterio.Affine(0.1, 0, 400000, 0, -0.1, 5000000)
    with rasterio.open(scene, "w", width=side, height=side, count=3, transform=place, **profile, **blocks) as file:
        for row in range(0, side, BLOCK):
            part = pixels[rows[row : row + BLOCK]][:, cols]
            file.write(np.moveaxis(part, -1, 0), window=Window(0, row, side, len(part)))


def measured(scene: Path, side: int, weights: str, pipeline: str, work: Path) -> dict[str, Any]:
    """One pipeline on one scene, in a process of its own."""
    row = {"side": side, "weights": Path(weights).name, "pipeline": pipeline}
    if pipeline == "plain" and side * side * PLAIN_BYTES_PER_PIXEL > available():
        return row | {"not_run": "it would take more memory than there is"}
    output = work / f"labels_{pipeline}_{side}"
    shutil.rmtree(output, ignore_errors=True)
    child = subprocess.run(
        [sys.executable, __file__, str(scene), "--child", pipeline, weights, str(output)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(child.stdout.splitlines()[-1])
    # Without loading libraries and weights, and planning.
    return row | found | {"seconds_per_megapixel": found["run"] / side**2 * 1e6}


def segmented(context: str) -> Callable[[Path, str, str], dict[str, float]]:
    """`segscape segment`, with the seconds that are spent in the network, its means over the scene included."""

    def run(scene: Path, weights: str, output: str) -> dict[str, float]:
        spent = {"run": 0.0, "network": 0.0, "write": 0.0, "waited_for_writing": 0.0}
        timed(Scene, "run", spent, "run")
        timed(Sweep, "_computed", spent, "network")
        timed(_Adder, "__call__", spent, "network")
        timed(TilingWorker, "_logits_of", spent, "network")
        timed(LabelWriter, "run", spent, "write")
        timed(BackgroundWriter, "__call__", spent, "waited_for_writing")
        start = time.perf_counter()
        words = ["segment", str(scene), "--weights", weights, "--output", output, "--max-memory", BUDGET]
        assert segscape_main([*words, "--context", context]) == 0
        return {"seconds": time.perf_counter() - start, **spent, "peak_mib": peak_mib()}

    return run


def plain(scene: Path, weights: str, output: str) -> dict[str, float]:
    """The whole scene at once, in eager PyTorch."""
    segmenter = segscape.Segmenter.from_weights(weights)
    start = time.perf_counter()
    with rasterio.open(scene) as file:
        pixels = torch.from_numpy(file.read())[None]
    with torch.inference_mode():
        images = segmenter.card.normalisation(pixels)
        multiple = segmenter.network.size_multiple
        padding = [-side % multiple for side in images.shape[2:]]
        before = time.perf_counter()
        logits = segmenter.network(F.pad(images, (0, padding[1], 0, padding[0])))
        network = time.perf_counter() - before
        size = [side + more for side, more in zip(images.shape[2:], padding, strict=True)]
        full = F.interpolate(logits, size, mode="bilinear", align_corners=segmenter.network.align_corners)
        labels = full.argmax(1)[0].byte().numpy()[: images.shape[2], : images.shape[3]]
    Path(output).mkdir(parents=True)
    Image.fromarray(labels).save(Path(output) / "labels.png")
    return {"run": time.perf_counter() - start, "network": network, "peak_mib": peak_mib()}


def timed(kind: type, name: str, spent: dict[str, float], key: str) -> None:
    """Add the seconds of a method to `spent`."""
    method = getattr(kind, name)

    def wrapped(*arguments: Any, **more: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*arguments, **more)
        finally:
            spent[key] += time.perf_counter() - start

    setattr(kind, name, wrapped)


def peak_mib() -> float:
    """The most that this process had resident."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]


def available() -> int:
    """Bytes that are free."""
    return int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) * 1024  # type: ignore[index]


def write(rows: list[dict[str, Any]]) -> None:
    """Keep what is measured by now."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    machine = {
        "processor": model[1] if model else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rasterio": rasterio.__version__,
    }
    RESULT.write_text(json.dumps({"machine": machine, "budget": BUDGET, "rows": rows}, indent=2) + "\n")


PIPELINES: dict[str, Callable[[Path, str, str], dict[str, float]]] = {
    "scene": segmented("scene"),
    "window": segmented("window"),
    "plain": plain,
}

if __name__ == "__main__":
    main()
