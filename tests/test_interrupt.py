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
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio import Affine

from segscape.cli.main import main
from segscape.scenes import outputs as arrays
from segscape.scenes import planner
from segscape.scenes import scene as scenes
from segscape.scenes import tiling as tiling_worker
from segscape.scenes.files import SceneFiles
from segscape.scenes.scene import Scene, SceneSettings
from segscape.scenes.streaming import plan as streaming_plan
from segscape.scenes.task import Task
from segscape.segmentation.segmenter import Segmenter

# Every run is a process of its own, forked from one that has imported what takes long and has computed nothing.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    [
        *("pytest", "rasterio.shutil", "segscape.cli.main", "segscape.cli.commands.segment"),
        *("torch._dynamo", "torch.export._trace", "torch._inductor.sizevars"),
        *("segscape.segmentation.upsampling.cell_kernels", "numba.typed", "numba.np.npyimpl", "scipy.linalg"),
    ]
)
SETTINGS = {
    "tiled": SceneSettings(memory=400 << 20, context="window"),
    "streaming": SceneSettings(memory=50 << 20, context="scene"),
    "whole": SceneSettings(memory=400 << 20, context="scene"),
}
SIZES = {"tiled": (720, 960), "streaming": (480, 640), "whole": (120, 160)}
TASKS = {"tiled": [9, 12], "streaming": [6, 6, 6, 6], "whole": [1, 1]}
"""Of each sweep, writing counted as one."""
PATIENCE = 120
"""Seconds after which a run is taken to hang."""


def prepare() -> None:
    """Have every run cut the scene into the same small blocks."""
    torch.set_num_threads(1)
    planner._MOST_BATCH_PIXELS = tiling_worker._MOST_BLOCK_PIXELS = 256 * 256
    streaming_plan._LEAST_BLOCK_PIXELS = 40_000
    streaming_plan._MOST_BLOCK_OVERHEAD = 10.0
    streaming_plan._STEP_ROWS = (192,)
    arrays._MOST_BLOCK_PIXELS = 960 * 60
    scenes.resident = lambda: 0


@dataclass(frozen=True)
class Order:
    """What is segmented, how, and where to.

    Attributes:
        mode: Of the plan.
        weights: A name or a file.
        image: The scene.
        folder: Of the results.
    """

    mode: str
    weights: str | Path
    image: Path
    folder: Path

    @property
    def files(self) -> SceneFiles:
        return SceneFiles(self.folder / "scene.tif", confidence=self.folder / "scene_confidence.tif")

    @property
    def unfinished(self) -> Path:
        return self.folder / ".scene.tif.unfinished"

    def results(self) -> dict[str, bytes]:
        """What whoever views into the folder takes for results, by name."""
        return {path.name: path.read_bytes() for path in self.folder.glob("[!.]*")}

    def done(self) -> list[Task]:
        """The tasks in the journal, in the order in which they were finished."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.unfinished / "journal.jsonl").read_bytes().splitlines(keepends=True)[1:]
            entries = [json.loads(line.partition(b" ")[2]) for line in lines if line.endswith(b"\n")]
            return [Task(entry["sweep"], entry["block"]) for entry in entries]
        return []

    def is_finished(self, expected: dict[str, bytes]) -> bool:
        """Whether all is done; nothing views finished that is not."""
        results = self.results()
        assert results.items() <= expected.items()
        hidden = list(self.folder.glob(".*"))
        assert results == expected or self.unfinished in hidden or not (results or hidden)
        return results == expected and not hidden


def segment(order: Order, last_step: int | None = None) -> None:
    """Do what is not done yet; die instead of renaming or removing the file number `last_step`, counted from 0."""
    prepare()
    steps = itertools.count()

    def die_in_time(event: str, _: object) -> None:
        if event in ("os.rename", "os.remove", "os.rmdir") and next(steps) == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    segmenter = Segmenter.from_weights(order.weights, device="cpu")
    with Scene(segmenter, order.image, order.files, SETTINGS[order.mode]) as scene:
        assert scene.plan.mode == order.mode
        assert [len(sweep) for sweep in scene.worker.tasks()] == TASKS[order.mode]
        sys.addaudithook(die_in_time)
        scene.run(on_progress=lambda share: None)


def segment_and_remove_labels(order: Order) -> None:
    """Do all, and die when of what is to be removed at the end the labels are."""

    def remove_labels(folder: Path, **_: object) -> None:
        (folder / "labels").unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    scenes.shutil.rmtree = remove_labels
    segment(order)


def command(order: Order, log: Path) -> None:
    """Do the same as a command, which prints into `log`."""
    prepare()
    context = SETTINGS[order.mode].context
    words = [order.image, "--output", order.folder, "--weights", order.weights, "--context", context, "--confidence"]
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


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@dataclass(frozen=True)
class Reference:
    """What comes of an order that nothing interrupts.

    Attributes:
        order: The order.
        results: As the order has them.
        seconds: How long it took.
    """

    order: Order
    results: dict[str, bytes]
    seconds: float


@pytest.fixture(scope="module")
def reference_of(
    tmp_path_factory: pytest.TempPathFactory, random_weights: Path, camvid_examples: Path
) -> Callable[[str], Reference]:
    """Gives the reference of a mode."""
    frame = Image.open(sorted((camvid_examples / "images" / "val").iterdir())[0])
    # What all runs are forked from takes its time to import.
    assert ended(start(prepare)) == 0

    @cache
    def give(mode: str) -> Reference:
        folder = tmp_path_factory.mktemp(mode)
        # Streaming takes several sweeps where a network sees the whole scene.
        weights = random_weights if mode == "streaming" else "scapenet_lite0.aerial"
        order = Order(mode, weights, folder / "scene.tif", folder / "out")
        height, width = SIZES[mode]
        profile = {"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8", "tiled": True}
        with rasterio.open(order.image, "w", transform=Affine.scale(0.1), **profile) as dataset:
            dataset.write(np.moveaxis(np.asarray(frame.resize((width, height))), -1, 0))
        begun = time.perf_counter()
        assert ended(start(segment, order)) == 0
        seconds = time.perf_counter() - begun
        for path in order.files.paths:
            with rasterio.open(path) as dataset:
                assert dataset.read(1).std() > 0
        reference = Reference(order, order.results(), seconds)
        assert order.is_finished(reference.results)
        return reference

    return give


@pytest.mark.parametrize(
    ("mode", "kills"),
    [
        ("tiled", 2),
        pytest.param("tiled", 10, marks=pytest.mark.heavy),
        pytest.param("streaming", 10, marks=pytest.mark.heavy),
    ],
)
def test_killed_at_random_moments(mode: str, kills: int, reference_of, tmp_path: Path) -> None:
    """Each run goes on with what the killed one before has left; whenever one comes to its end, a new scene begins.

    Runs are killed until one has gone on with something.
    """
    reference, moments = reference_of(mode), random.Random(kills)
    # The first run of all compiles, so that it may have taken far longer than the rest.
    seconds, killed, gone_on = reference.seconds, 0, 0
    for number in itertools.count():
        order = replace(reference.order, folder=tmp_path / str(number))
        is_finished = False
        while not is_finished:
            before, begun = order.done(), time.perf_counter()
            process = start(segment, order)
            if killed < kills or not gone_on:
                process.join(moments.uniform(0, seconds))
                process.kill()
            status = ended(process)
            assert status in (0, -signal.SIGKILL)
            killed += status != 0
            if status == 0:
                seconds = min(seconds, time.perf_counter() - begun)
            is_finished = order.is_finished(reference.results)
            assert is_finished or status != 0
            if not is_finished and (order.unfinished / "journal.jsonl").exists():
                assert order.done()[: len(before)] == before
                assert len(set(order.done())) == len(order.done())
            gone_on += bool(before)
        if killed >= kills and gone_on:
            return


@pytest.mark.heavy
def test_killed_at_each_step_of_the_end(reference_of, tmp_path: Path) -> None:
    """Once before each file that is renamed or removed."""
    reference = reference_of("whole")
    order = replace(reference.order, folder=tmp_path / "out")
    assert ended(start(segment, order, 0)) == -signal.SIGKILL
    assert len(order.done()) == sum(TASKS["whole"])
    assert not order.results()
    for last_step in itertools.count(1):
        assert not order.is_finished(reference.results)
        if ended(start(segment, order, last_step)) == 0:
            break
    assert order.is_finished(reference.results)
    assert last_step > 10


def test_killed_while_what_is_left_is_removed(reference_of, tmp_path: Path) -> None:
    """Folders give up their files in an order of their own: here the labels go first."""
    reference = reference_of("whole")
    order = replace(reference.order, folder=tmp_path / "out")
    assert ended(start(segment_and_remove_labels, order)) == -signal.SIGKILL
    assert order.results() == reference.results
    assert ended(start(segment, order)) == 0
    assert order.is_finished(reference.results)


def _line(text: str) -> bytes:
    """An entry with its checksum, as only somebody who means it would write."""
    return b"%08x %s\n" % (zlib.crc32(text.encode()), text.encode())


DAMAGES = {
    "flipped": lambda lines: [bytes(byte ^ 0xFF for byte in lines[0]), *lines[1:]],
    "digit": lambda lines: [*lines[:-1], lines[-1].replace(b"1", b"2")],
    "list": lambda lines: [b"[1, 2]\n", *lines[1:]],
    "earlier": lambda lines: [line.partition(b" ")[2] for line in lines],
    "task": lambda lines: [*lines[:-1], _line('{"sweep": 0, "block": 77, "sums": {}}')],
    "sums": lambda lines: [*lines[:-1], _line('{"sweep": 0, "block": 0, "sums": [1]}')],
    "middle": lambda lines: [lines[0], lines[1][:20] + b"\n", *lines[2:]],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_begins_anew(damage: str, reference_of, tmp_path: Path) -> None:
    reference = reference_of("whole")
    order = replace(reference.order, folder=tmp_path / "out")
    assert ended(start(segment, order, 0)) == -signal.SIGKILL
    path = order.unfinished / "journal.jsonl"
    path.write_bytes(b"".join(DAMAGES[damage](path.read_bytes().splitlines(keepends=True))))
    assert ended(start(segment, order)) == 0
    assert order.is_finished(reference.results)


def test_a_plan_of_other_views_is_refused(reference_of, tmp_path: Path) -> None:
    reference = reference_of("whole")
    order = replace(reference.order, folder=tmp_path / "out")
    assert ended(start(segment, order, 0)) == -signal.SIGKILL
    path = order.unfinished / "journal.jsonl"
    first, *others = path.read_bytes().splitlines(keepends=True)
    signature = json.loads(first.partition(b" ")[2])
    signature["plan"]["views"] *= 3
    path.write_bytes(b"".join([_line(json.dumps(signature)), *others]))
    assert ended(start(segment, order)) == 1
    assert not order.results()


@pytest.mark.parametrize("loss", [Path.unlink, lambda path: os.truncate(path, 0)])
@pytest.mark.parametrize("name", ["labels", "view0.logits"])
def test_lost_files_of_an_interrupted_run(
    name: str, loss: Callable[[Path], None], reference_of, tmp_path: Path
) -> None:
    reference = reference_of("whole")
    order = replace(reference.order, folder=tmp_path / "out")
    assert ended(start(segment, order, 0)) == -signal.SIGKILL
    loss(order.unfinished / name)
    assert ended(start(segment, order)) == 0
    assert order.is_finished(reference.results)


@pytest.mark.heavy
def test_killed_while_a_raster_is_written(reference_of, tmp_path: Path) -> None:
    """Not between two files but within one."""
    reference, moments = reference_of("tiled"), random.Random(0)
    order = replace(reference.order, folder=tmp_path / "out")
    partial = 0
    for _ in range(6):
        assert ended(start(segment, order, 0)) == -signal.SIGKILL
        process = start(segment, order)
        wait_for(lambda: list(order.folder.glob(".*.partial.*")))
        process.join(moments.uniform(0, 0.1))
        process.kill()
        ended(process)
        partial += not order.is_finished(reference.results)
    assert partial


def interrupt(order: Order, log: Path, seconds: float | None) -> int:
    """Run the command and press Ctrl-C, after so many seconds or else when the first task is done."""
    process = start(command, order, log)
    wait_for(log.exists)
    if seconds is None:
        wait_for(order.done)
    else:
        process.join(seconds)
    if process.is_alive():
        os.kill(process.pid, signal.SIGINT)
    return ended(process)


def test_ctrl_c_says_how_to_go_on(reference_of, tmp_path: Path) -> None:
    reference = reference_of("tiled")
    order = replace(reference.order, folder=tmp_path / "out")
    assert interrupt(order, tmp_path / "first", None) == 130
    assert 1 <= len(order.done()) < sum(TASKS["tiled"])
    assert not order.is_finished(reference.results)
    last = (tmp_path / "first").read_text().splitlines()[-1]
    assert last.startswith("stopped; ")
    assert str(order.unfinished) in last
    assert "The same command goes on" in last
    assert "Traceback" not in (tmp_path / "first").read_text()
    assert ended(start(command, order, tmp_path / "second")) == 0
    assert "going on" in (tmp_path / "second").read_text()
    assert order.is_finished(reference.results)


@pytest.mark.heavy
def test_ctrl_c_at_random_moments(reference_of, tmp_path: Path) -> None:
    reference, moments = reference_of("tiled"), random.Random(0)
    order = replace(reference.order, folder=tmp_path / "out")
    stopped = 0
    for number in range(5):
        log = tmp_path / str(number)
        status = interrupt(order, log, moments.uniform(0, reference.seconds))
        assert status in (0, 130)
        assert "Traceback" not in log.read_text()
        assert "Exception" not in log.read_text()
        if status == 130:
            assert log.read_text().splitlines()[-1].startswith("stopped")
            stopped += 1
        order.is_finished(reference.results)
    assert stopped
    assert ended(start(command, order, tmp_path / "last")) == 0
    assert order.is_finished(reference.results)
