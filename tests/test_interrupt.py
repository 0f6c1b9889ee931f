"""Interrupted scenes go on where they have stopped, whenever that was, and come out byte for byte the same."""

import contextlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio import Affine

from segscape.cli.main import main
from segscape.inference import planner, scenes
from segscape.inference.scene import canvas
from segscape.inference.scene.output import SceneFiles
from segscape.inference.scene.task import Task
from segscape.inference.scenes import Scene, SceneSettings
from segscape.inference.segmenter import Segmenter
from segscape.inference.streaming import plan as streaming_plan
from segscape.inference.tiling import worker as tiling_worker

# Every run is a process of its own, forked from one that has imported what takes long and has computed nothing.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    [
        *("pytest", "rasterio.shutil", "segscape.cli.main", "segscape.cli.segment"),
        *("torch._dynamo", "torch.export._trace", "torch._inductor.sizevars"),
        *("segscape.inference.upsampling.cell_kernels", "numba.typed", "numba.np.npyimpl", "scipy.linalg"),
    ]
)
WEIGHTS = "stdc1_seg.dronedeploy"
SETTINGS = {
    "tiled": SceneSettings(memory=400 << 20, context="window"),
    "streaming": SceneSettings(memory=50 << 20, context="scene"),
    "whole": SceneSettings(memory=400 << 20, context="scene"),
}
SIZES = {"tiled": (720, 960), "streaming": (480, 640), "whole": (120, 160)}
TASKS = {"tiled": [20, 12], "streaming": [6, 6, 6, 8], "whole": [1, 2]}
"""Of each sweep, painting counted as one."""
PATIENCE = 120
"""Seconds after which something hangs."""


def prepare() -> None:
    """Have every run cut the scene into the same small blocks."""
    torch.set_num_threads(1)
    planner._BATCH_PIXELS = tiling_worker._BLOCK_PIXELS = 256 * 256
    streaming_plan._BLOCK_PIXELS = 40_000
    streaming_plan._BLOCK_OVERHEAD = 10.0
    streaming_plan._STEPS = (192,)
    canvas._BLOCK_PIXELS = 960 * 60
    scenes.resident = lambda: 0


@dataclass(frozen=True)
class Order:
    """What is segmented, how, and where to.

    Attributes:
        mode: Of the plan.
        image: The scene.
        folder: Of the results.
    """

    mode: str
    image: Path
    folder: Path

    @property
    def files(self) -> SceneFiles:
        return SceneFiles(self.folder / "scene.tif", confidence=self.folder / "scene_confidence.tif")

    @property
    def unfinished(self) -> Path:
        return self.folder / ".scene.tif.unfinished"

    def results(self) -> dict[str, bytes]:
        """What whoever looks into the folder takes for results, by name."""
        return {path.name: path.read_bytes() for path in self.folder.glob("[!.]*")}

    def done(self) -> list[Task]:
        """The tasks in the journal, in the order in which they were finished."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.unfinished / "journal.jsonl").read_bytes().splitlines(keepends=True)[1:]
            entries = [json.loads(line) for line in lines if line.endswith(b"\n")]
            return [Task(entry["sweep"], entry["block"]) for entry in entries]
        return []

    def is_finished(self, expected: dict[str, bytes]) -> bool:
        """Whether all is done; nothing looks finished that is not."""
        results = self.results()
        assert results.items() <= expected.items()
        hidden = list(self.folder.glob(".*"))
        assert results == expected or self.unfinished in hidden or not (results or hidden)
        return results == expected and not hidden


def segment(order: Order, last_step: int | None = None) -> None:
    """Do what is not done yet, or die before so many files are renamed or removed."""
    prepare()
    steps = itertools.count()

    def die_in_time(event: str, _: object) -> None:
        if event in ("os.rename", "os.remove", "os.rmdir") and next(steps) == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    segmenter = Segmenter.from_weights(WEIGHTS, device="cpu")
    with Scene(segmenter, order.image, order.files, SETTINGS[order.mode]) as scene:
        assert scene.plan.mode == order.mode
        assert [len(sweep) for sweep in scene.worker.tasks()] == TASKS[order.mode]
        sys.addaudithook(die_in_time)
        scene.run(on_progress=lambda share: None)


def command(order: Order, log: Path) -> None:
    """Do the same as a command, which prints into `log`."""
    prepare()
    context = SETTINGS[order.mode].context
    words = [order.image, "--output", order.folder, "--weights", WEIGHTS, "--context", context, "--confidence"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    status = main(["segment", *map(str, words), "--device", "cpu", "--max-memory", "400MiB"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def start(function: Callable[..., None], *arguments: object) -> BaseProcess:
    process = FORK.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def ended(process: BaseProcess) -> int:
    """The exit status, negative after a signal."""
    process.join(PATIENCE)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, camvid_examples: Path) -> Callable[[str], Order]:
    """Gives, for a mode, what was done without an interruption."""
    frame = Image.open(sorted((camvid_examples / "images" / "val").iterdir())[0])
    folder = tmp_path_factory.mktemp("scenes")

    def give(mode: str) -> Order:
        order = Order(mode, folder / mode / "scene.tif", folder / mode / "out")
        if not order.image.exists():
            height, width = SIZES[mode]
            order.image.parent.mkdir()
            profile = {"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8", "tiled": True}
            with rasterio.open(order.image, "w", transform=Affine.scale(0.1), **profile) as dataset:
                dataset.write(np.moveaxis(np.asarray(frame.resize((width, height))), -1, 0))
            assert ended(start(segment, order)) == 0
            for path in order.files.paths:
                with rasterio.open(path) as dataset:
                    assert dataset.read(1).std() > 0
            assert not list(order.folder.glob(".*"))
        return order

    return give


def kill_at_random_moments(order: Order, expected: dict[str, bytes], kills: int) -> int:
    """Kill run after run, each but the first going on with what the one before has left; afresh after the last task.

    Returns:
        How many runs went on with tasks of earlier ones.
    """
    moments = random.Random(order.mode)
    seconds, gone_on = 30.0, 0
    done: list[Task] = []
    return gone_on
