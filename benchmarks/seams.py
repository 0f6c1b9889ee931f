"""Whether seams show: streamed and tiled scenes beside the same network's pass over the whole image.

    python benchmarks/seams.py

A shipped street frame is mirrored and repeated to three sizes and made five times brighter from top to bottom, so that
the means of blocks differ from those of the scene. The networks have seeded random weights, but for one that is
trained. Each image goes from a GeoTIFF to labels as `segscape segment` takes it; the whole is one pass of the network,
`F.interpolate` and arg-max. Compared are logits (of tiles, scores at the image's size), by the largest difference as a
share of the largest logit, and labels, by the share of pixels that differ. Streaming with the means of a single block
in place of the scene's shows how wrong means would be seen. Writes `benchmarks/results/seams.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import segscape
from segscape.geometry.window import Window
from segscape.networks import SegmentationNetwork
from segscape.normalisation import Normalisation
from segscape.rasters.scratch import ScratchArray
from segscape.rasters.source import open_source
from segscape.runtime.deploy import deploy
from segscape.scenes.images import Images
from segscape.scenes.journal import Journal
from segscape.scenes.logits import Logits
from segscape.scenes.outputs import LabelWriter, OutputArrays
from segscape.scenes.pipeline import WorkerSequence, run_tasks
from segscape.scenes.planner import plan_scene
from segscape.scenes.streaming.graph import trace
from segscape.scenes.streaming.layer import map_size
from segscape.scenes.streaming.plan import StreamingPlan, plan_streaming
from segscape.scenes.streaming.worker import StreamingWorker
from segscape.scenes.task import Sums, Task, Worker
from segscape.scenes.tiles import TilingPlan
from segscape.scenes.tiling import TilingWorker
from segscape.scenes.views import View, ViewGeometry
from segscape.segmentation.padding import pad_to_fit

RESULT = Path(__file__).parent / "results" / "seams.json"
STREAMED = (
    *("isdnet_resnet18", "stdc1_seg", "stdc2_seg", "bisestdc", "bisestdc2"),
    *(f"dabnet_resnet18_p{patch}" for patch in (1, 2, 4, 8, 16)),
)
ONLY_TILED = ("dabnet_efficientnet_b1", "isnet_resnet50")
TRAINED = "scapenet_lite0.street"
CONTROLS = ("isdnet_resnet18", "stdc1_seg", TRAINED)
CLASSES = 7
PARTS = {(768, 1024): (2, 2), (765, 1021): (2, 2), (2309, 133): (3, 1)}
"""The sizes, and into how many blocks (down, across) each is cut."""
ROWS = (64, 160)
TILE = (512, 512)
BRIGHTNESS = (0.3, 1.5)
AMPLE = 1 << 40
CPU = torch.device("cpu")


class Whole(NamedTuple):
    """An image, and what a network says of it at once.

    Attributes:
        path: The image's file.
        logits: (K, h, w), of the padded image.
        scores: (K, H, W), at the image's size.
        labels: (H, W).
    """

    path: Path
    logits: Tensor
    scores: Tensor
    labels: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.labels.shape[0], self.labels.shape[1]


class BlockMeans:
    """Streams a scene with the means of its last block in place of the scene's.

    Args:
        worker: Does the work.
        plan: Its plan.
    """

    def __init__(self, worker: StreamingWorker, plan: StreamingPlan) -> None:
        self._plan, self._last = plan, len(plan.blocks()) - 1
        self._run, self.tasks, self.work = worker.run, worker.tasks, worker.work

    def run(self, task: Task, sums: Mapping[str, Sequence[float]], on_progress: Callable[[float], None]) -> Sums:
        """Do one task; the last block's sums are made those of a scene of such blocks, the others' are dropped."""
        made = self._run(task, sums, on_progress)
        return {
            mean.node.name: (np.array(made[mean.node.name]) * self._blocks_in(map_size(mean.source))).tolist()
            for mean in self._plan.means(task.sweep)
            if task.block == self._last
        }

    def _blocks_in(self, size: tuple[int, int]) -> float:
        own = self._plan.own(self._plan.blocks()[self._last], size)
        return math.prod(size) / math.prod(own.size)


def main() -> None:
    """Measure every network and print the tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in (*STREAMED, TRAINED, *ONLY_TILED):
            network = trained_network() if name == TRAINED else random_network(name)
            for size in PARTS:
                scene = Path(folder) / f"{size[0]}x{size[1]}.tif"
                if not scene.exists():
                    write_scene(scene, make_pixels(size))
                rows += [{"network": name, "size": size, **found} for found in measure(name, network, scene)]
            print(f"{name}: {sum(row['network'] == name for row in rows)} runs", file=sys.stderr, flush=True)
    setup = {"rows": ROWS, "blocks": list(PARTS.values()), "tile": TILE, "classes": CLASSES, "brightness": BRIGHTNESS}
    RESULT.write_text(json.dumps({"machine": machine(), "setup": setup, "rows": rows}, indent=2) + "\n")
    print(table(rows))


def make_pixels(size: tuple[int, int]) -> np.ndarray:
    """A street frame, mirrored and repeated to a size, brighter from row to row: (H, W, 3) uint8."""
    frame = sorted((Path(str(files("segscape"))) / "examples" / "camvid" / "images" / "val").iterdir())[0]
    pixels = np.asarray(Image.open(frame).convert("RGB"))
    rows, cols = (
        np.pad(np.arange(n), (0, max(side - n, 0)), "symmetric")[:side]
        for n, side in zip(pixels.shape[:2], size, strict=True)
    )
    drift = np.linspace(*BRIGHTNESS, size[0])[:, None, None]
    return np.rint(pixels[rows][:, cols] * drift).clip(0, 255).astype(np.uint8)


def write_scene(path: Path, pixels: np.ndarray) -> None:
    place = rasterio.Affine(0.1, 0, 400000, 0, -0.1, 5000000)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "crs": "EPSG:32633", "transform": place}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    with rasterio.open(path, "w", height=pixels.shape[0], width=pixels.shape[1], **profile, **blocks) as file:
        file.write(np.moveaxis(pixels, -1, 0))


def trained_network() -> SegmentationNetwork:
    network = segscape.create_model(TRAINED.partition(".")[0], weights=TRAINED)
    assert isinstance(network, SegmentationNetwork)
    return deploy(network)


def random_network(name: str) -> SegmentationNetwork:
    """A deployed network with random weights and statistics, and logits of mean 0 and deviation 1 in each class."""
    network = segscape.create_model(name, num_classes=CLASSES)
    assert isinstance(network, SegmentationNetwork)
    generator = torch.Generator().manual_seed(0)
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif key.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=generator)
        elif value.ndim > 1:
            value.normal_(0, math.sqrt(2 / math.prod(value.shape[1:])), generator=generator)
        elif value.is_floating_point():
            # Scales of normalisation, and those that start from 0 and would hide what they scale.
            value.uniform_(0.5, 1, generator=generator)
    deployed = deploy(network)
    *_, classifier = (
        module for module in deployed.modules() if isinstance(module, nn.Conv2d) and module.out_channels == CLASSES
    )
    if classifier.bias is None:
        classifier.bias = nn.Parameter(torch.zeros(CLASSES), requires_grad=False)
    logits = run_network(deployed, make_pixels(next(iter(PARTS))))
    deviation, mean = torch.std_mean(logits, (1, 2))
    classifier.weight.div_(deviation[:, None, None, None])
    classifier.bias.sub_(mean).div_(deviation)
    return deployed


@torch.inference_mode()
def run_network(network: SegmentationNetwork, pixels: np.ndarray) -> Tensor:
    """The logits (K, h, w) of an image (H, W, 3), padded where the network needs it."""
    images = Normalisation()(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    return network(pad_to_fit(network, images))[0]


def measure(name: str, network: SegmentationNetwork, scene: Path) -> list[dict[str, Any]]:
    """What each mode of segmenting an image differs by."""
    with rasterio.open(scene) as file:
        pixels = np.ascontiguousarray(np.moveaxis(file.read(), 0, -1))
    whole = segment_whole(network, scene, pixels)
    found = [{"mode": "tiled", **tiled(network, whole)}]
    if name not in ONLY_TILED:
        geometry = ViewGeometry.of(network, whole.size, View())
        plan = plan_streaming(trace(network, geometry.padded), memory=AMPLE, storage=AMPLE)
        for rows in ROWS:
            cut = replace(plan, parts=PARTS[whole.size], rows=rows)
            found.append({"mode": "streamed", "rows": rows, **streamed(cut, geometry, whole)})
            if name in CONTROLS:
                wrong = streamed(cut, geometry, whole, wrap=BlockMeans)
                found.append({"mode": "means of a block", "rows": rows, **wrong})
    largest = float(whole.labels.flatten().bincount().max() / whole.labels.numel())
    return [{**row, "largest_class": largest} for row in found]


def segment_whole(network: SegmentationNetwork, scene: Path, pixels: np.ndarray) -> Whole:
    logits = run_network(network, pixels)
    height, width = pixels.shape[:2]
    padded = ViewGeometry.of(network, (height, width), View()).padded
    full = F.interpolate(logits[None], padded, mode="bilinear", align_corners=network.align_corners)
    scores = full[0, :, :height, :width]
    return Whole(scene, logits, scores, scores.argmax(0))


def streamed(
    plan: StreamingPlan,
    geometry: ViewGeometry,
    whole: Whole,
    *,
    wrap: Callable[[StreamingWorker, StreamingPlan], Worker] = lambda worker, _: worker,
) -> dict[str, float]:
    """How far the logits and labels of a streamed image are from the whole's; `wrap` may change what is done."""
    tiling = TilingPlan(whole.size, whole.size, 0)
    with tempfile.TemporaryDirectory() as name, open_source(whole.path) as source:
        folder = Path(name)
        logits = Logits(folder / "logits", tiling, geometry, CPU)
        images = Images(source, tiling.tiles[0], geometry, normalise=Normalisation(), device=CPU)
        worker = StreamingWorker(plan, images=images, logits=logits, path=folder / "maps", device=CPU, convolutions={})
        labels = run_worker(wrap(worker, plan), logits, whole.size, folder)
        classes, height, width = geometry.logits
        written = ScratchArray(folder / "logits", (height, width, classes), "float32")
        values = torch.from_numpy(written.read(Window(0, 0, height, width))).permute(2, 0, 1)
    return {"logits": difference(values, whole.logits, whole), "labels": differing(labels, whole)}


def tiled(network: SegmentationNetwork, whole: Whole) -> dict[str, float]:
    """How far the scores and labels of a tiled image are from the whole's."""
    plan = plan_scene(network, whole.size, memory=AMPLE, storage=0, context="window", window=TILE)
    with tempfile.TemporaryDirectory() as name, open_source(whole.path) as source:
        folder = Path(name)
        logits = Logits(folder / "logits", plan.tiling, plan.geometries[0], CPU)
        worker = TilingWorker(
            network,
            plan.tiling,
            batch=plan.batch,
            geometry=plan.geometries[0],
            images_of=lambda tile: Images(source, tile, plan.geometries[0], normalise=Normalisation(), device=CPU),
            logits=logits,
        )
        labels = run_worker(worker, logits, whole.size, folder)
        scores = logits.scores(Window(0, 0, *whole.size))
    return {"logits": difference(scores, whole.scores, whole), "labels": differing(labels, whole)}


def run_worker(worker: Worker, logits: Logits, size: tuple[int, int], folder: Path) -> Tensor:
    """Do all of a worker's tasks and write the labels (H, W)."""
    labels = ScratchArray(folder / "labels", size, "uint8")
    with closing(Journal(folder / "journal.jsonl", {})) as journal:
        run_tasks(
            WorkerSequence([worker, LabelWriter([logits], OutputArrays(labels))]), journal, on_progress=lambda _: None
        )
    return torch.from_numpy(labels.read(Window(0, 0, *size)))


def difference(found: Tensor, expected: Tensor, whole: Whole) -> float:
    return float((found - expected).abs().max() / whole.logits.abs().max())


def differing(labels: Tensor, whole: Whole) -> float:
    return float((labels != whole.labels).double().mean())


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Logits and labels of each network in Markdown: the worst, but of wrong means what shows the least."""
    columns: dict[str, tuple[Callable[..., float], dict[str, Any]]] = {
        "streamed": (max, {"mode": "streamed"}),
        "means of a block": (min, {"mode": "means of a block"}),
        **{f"tiled, {size[0]} x {size[1]}": (max, {"mode": "tiled", "size": size}) for size in PARTS},
    }
    lines = [["network", *columns], ["---", *["---:"] * len(columns)]]
    for name in dict.fromkeys(row["network"] for row in rows):
        line = [name]
        for choose, wanted in columns.values():
            own = [row for row in rows if row.items() >= {"network": name, **wanted}.items()]
            logits, labels = ([row[key] for row in own] for key in ("logits", "labels"))
            line.append(f"{choose(logits):.1e}, {choose(labels):.4%}" if own else "")
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> dict[str, Any]:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "processor": model[1] if model else platform.processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rasterio": rasterio.__version__,
    }


if __name__ == "__main__":
    main()
