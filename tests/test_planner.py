"""How an image is to be segmented is found out beforehand: what it takes, and what follows from that."""

import json
import mmap
import os
import re
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import segscape
from segscape.networks import SegmentationNetwork
from segscape.runtime import system_memory as memory
from segscape.runtime.deploy import deploy
from segscape.scenes.dry_run import dry_run
from segscape.scenes.planner import ScenePlan, fits_at_once, plan_scene, restored, seconds_per_pixel
from segscape.scenes.streaming.plan import TooLittleMemoryError
from segscape.scenes.views import views

AMPLE = 1 << 40
SIZE = (640, 1000)


def _network(name: str) -> SegmentationNetwork:
    torch.manual_seed(0)
    return deploy(segscape.create_model(name, num_classes=3))


@pytest.fixture(scope="module")
def stdc() -> SegmentationNetwork:
    return _network("stdc1_seg")


@pytest.fixture(scope="module")
def streamed(stdc: SegmentationNetwork) -> ScenePlan:
    """A plan in two views for half the memory that the whole takes."""
    whole = plan_scene(stdc, SIZE, memory=AMPLE, storage=AMPLE)
    return plan_scene(stdc, SIZE, memory=whole.memory // 2, storage=AMPLE, views=views([1.0], flip=True))


class _Tiny(nn.Module):
    """Maps of 8 channels at the image's size and of 4 at half of it."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 3, padding=1)
        self.low = nn.Conv2d(8, 4, 3, padding=1, stride=2)
        self.register_buffer("shift", torch.ones(4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.low(self.wide(images).relu_()) + self.shift


def test_a_dry_run_counts_what_is_held() -> None:
    height, width = 40, 64
    at_once = (3 + 8) * height * width + 4 * (height // 2) * (width // 2)
    assert dry_run(_Tiny(), (height, width)) == ((4, 20, 32), 4 * at_once)
    assert dry_run(_Tiny().double(), (height, width)).nbytes == 8 * at_once


def test_a_dry_run_takes_no_memory_and_changes_nothing() -> None:
    network = _Tiny()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    logits, nbytes = dry_run(network, (1 << 16, 1 << 16))
    assert (logits, nbytes) == ((4, 1 << 15, 1 << 15), 4 * 12 << 32)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 100 << 10
    for name, value in network.state_dict().items():
        assert type(value) is type(before[name])
        assert torch.equal(value, before[name])


def test_a_dry_run_foretells_a_real_one(stdc: SegmentationNetwork) -> None:
    size = (512, 768)
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        logits = stdc(torch.zeros(1, 3, *size))
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    foretold = dry_run(stdc, size)
    assert foretold.logits == tuple(logits.shape[1:])
    # Copies of weights in another layout come on top.
    assert 0.99 < most / foretold.nbytes < 1.15


def test_attention_takes_no_more_than_its_maps() -> None:
    network = _network("isnet_resnet50")
    small, large = (dry_run(network, (side, side)).nbytes for side in (512, 1024))
    assert 3.9 < large / small < 4.1


def test_whole_where_it_fits(stdc: SegmentationNetwork) -> None:
    plan = plan_scene(stdc, SIZE, memory=AMPLE, storage=0)
    assert (plan.mode, plan.exact, plan.size, plan.streams) == ("whole", True, SIZE, ())
    assert len(plan.tiling.tiles) == 1
    assert plan.memory >= dry_run(stdc, SIZE).nbytes
    assert plan.storage == 4 * 3 * 80 * 125
    assert plan.work == SIZE[0] * SIZE[1]
    tight = plan_scene(stdc, SIZE, memory=plan.memory, storage=0)
    assert tight.mode == "whole"


def test_streamed_where_it_does_not_fit(streamed: ScenePlan) -> None:
    whole = replace(streamed, streams=())
    assert (streamed.mode, streamed.exact) == ("streaming", True)
    assert "at once it would take" in streamed.reason
    assert len(streamed.streams) == len(streamed.geometries) == 2
    assert streamed.streams[0] is streamed.streams[1]
    assert streamed.streams[0].sweeps > 1
    assert streamed.storage == whole.storage + 2 * streamed.streams[0].storage
    # Of a single block with kept maps nothing is computed twice.
    assert streamed.streams[0].parts == (1, 1)
    assert streamed.work == pytest.approx(whole.work)


def test_memory_is_kept_to(stdc: SegmentationNetwork, streamed: ScenePlan) -> None:
    whole = plan_scene(stdc, SIZE, memory=AMPLE, storage=AMPLE)
    assert streamed.memory <= whole.memory // 2
    with pytest.raises(TooLittleMemoryError, match=r"takes at least \d+ MiB .* there are 1 MiB; raise --max-memory"):
        plan_scene(stdc, SIZE, memory=1 << 20, storage=AMPLE)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("isnet_resnet50", "cannot be streamed, for"), ("dabnet_efficientnet_b1", "would take 26 sweeps")],
)
def test_tiled_where_it_cannot_be_streamed(name: str, reason: str) -> None:
    network, size = _network(name), (600, 1400)
    whole = plan_scene(network, size, memory=AMPLE, storage=0)
    plan = plan_scene(network, size, memory=whole.memory - 1, storage=AMPLE)
    assert (whole.mode, plan.mode, plan.exact, plan.streams) == ("whole", "tiled", False, ())
    assert (plan.tiling.tile, plan.tiling.overlap) == ((600, 1024), 128)
    assert plan.reason.startswith("the scene does not fit into the memory, and")
    assert re.search(reason, plan.reason)
    assert plan.memory < whole.memory


def test_sides_beyond_what_streaming_holds_tables_for() -> None:
    """A raster of one column and billions of rows is planned at once."""
    plan = plan_scene(_network("scapenet_lite0"), (2**31 - 1, 1), memory=AMPLE, storage=AMPLE)
    assert (plan.mode, plan.exact) == ("tiled", False)
    assert "scenes are streamed up to sides of 4,194,304 pixels" in plan.reason


class _Brightest(SegmentationNetwork):
    """Sets every pixel against the brightest of the image, which no sum over blocks gives."""

    stride, align_corners = 1, False

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images) - images.amax((2, 3), keepdim=True)


def test_tiles_shrink_with_the_memory() -> None:
    network, size = _Brightest().eval(), (1500, 3000)
    large = plan_scene(network, size, memory=plan_scene(network, size, memory=AMPLE, storage=0).memory - 1, storage=0)
    assert (large.tiling.tile, large.tiling.overlap, large.batch) == ((1024, 1024), 128, 1)
    smaller = plan_scene(network, size, memory=large.memory - 1, storage=0)
    assert (smaller.tiling.tile, smaller.tiling.overlap, smaller.batch) == ((512, 512), 64, 3)
    assert smaller.memory < large.memory
    least = plan_scene(network, size, memory=large.memory // 8, storage=0)
    assert (least.tiling.tile, least.batch) == ((256, 256), 1)
    assert least.memory == pytest.approx(large.memory / 16, rel=1e-4)
    with pytest.raises(TooLittleMemoryError):
        plan_scene(network, size, memory=least.memory - 1, storage=0)


def test_means_of_windows(stdc: SegmentationNetwork) -> None:
    plan = plan_scene(stdc, SIZE, memory=AMPLE, storage=AMPLE, context="window", window=(300, 500))
    assert (plan.mode, plan.exact) == ("tiled", False)
    assert "means" in plan.reason
    assert plan.tiling.tile == (300, 500)
    assert plan.geometries[0].extent == (300, 500)
    assert plan.work == len(plan.tiling.tiles) * 300 * 500
    assert plan.storage == len(plan.tiling.tiles) * 4 * 3 * 38 * 63
    by_default = plan_scene(stdc, SIZE, memory=AMPLE, storage=AMPLE, context="window")
    assert by_default.tiling.tile == (640, 1000)
    with pytest.raises(TooLittleMemoryError):
        plan_scene(stdc, SIZE, memory=1 << 20, storage=AMPLE, context="window")


def test_windows_only_where_there_are_means(stdc: SegmentationNetwork) -> None:
    def mode(network: SegmentationNetwork, *, can_stream: bool = True) -> str:
        size, window = (900, 700), (300, 500)
        plan = plan_scene(
            network, size, memory=AMPLE, storage=AMPLE, context=None, window=window, can_stream=can_stream
        )
        return plan.mode

    without_means = deploy(segscape.create_model("scapenet_lite0", 3))
    assert [mode(stdc), mode(without_means), mode(without_means, can_stream=False)] == ["tiled", "whole", "tiled"]
    assert plan_scene(stdc, (300, 400), memory=AMPLE, storage=0, context=None, window=(300, 500)).mode == "whole"


def test_every_look_has_its_framing(stdc: SegmentationNetwork) -> None:
    plan = plan_scene(stdc, (64, 90), memory=AMPLE, storage=0, views=views([0.5, 1.25], flip=True))
    assert [geometry.view for geometry in plan.geometries] == [(0.5, False), (0.5, True), (1.25, False), (1.25, True)]
    assert [geometry.size for geometry in plan.geometries] == [(32, 45)] * 2 + [(80, 112)] * 2
    assert plan.memory >= dry_run(stdc, (80, 112)).nbytes
    assert plan.work == 2 * (32 * 45 + 80 * 112)


def test_restored_from_json(stdc: SegmentationNetwork, streamed: ScenePlan) -> None:
    window = plan_scene(stdc, SIZE, memory=AMPLE, storage=0, context="window", views=views([0.5, 1.0], flip=False))
    for plan in (streamed, window, plan_scene(stdc, SIZE, memory=AMPLE, storage=0)):
        again = restored(stdc, SIZE, json.loads(json.dumps(plan.settings())))
        # Graphs are traced anew; what was decided about them is the same.
        assert replace(again, streams=()) == replace(plan, streams=())
        assert again.settings() == plan.settings()
        assert json.dumps(again.settings()) == json.dumps(plan.settings())
        assert (again.storage, again.work) == (plan.storage, plan.work)


@pytest.mark.parametrize(
    ("name", "value"),
    [("mode", "none"), ("reason", True), ("tile", [72, None]), ("tile", [1, 2, 3]), ("overlap", -1), ("memory", 1e400)],
)
def test_settings_that_are_no_plan(name: str, value: object, stdc: SegmentationNetwork) -> None:
    settings = plan_scene(stdc, (200, 300), memory=AMPLE, storage=0).settings() | {name: value}
    with pytest.raises(ValueError, match=r"is no mode|whole number"):
        restored(stdc, (200, 300), json.loads(json.dumps(settings)))


@pytest.mark.parametrize("name", ["stdc1_seg", "isnet_resnet50_lip", "dabnet_resnet18_p1"])
def test_small_images_fit_without_a_closer_look(name: str) -> None:
    network, size = _network(name), (1024, 2048)
    plan = plan_scene(network, size, memory=AMPLE, storage=0)
    assert plan.memory < 2400 * size[0] * size[1]
    assert fits_at_once(network, size, memory=AMPLE)
    assert fits_at_once(network, size, memory=memory.resident() + plan.memory + (64 << 20))
    assert not fits_at_once(network, size, memory=memory.resident() + plan.memory // 2)


def test_seconds_per_pixel() -> None:
    network = _network("stdc1_seg")
    assert 0 < seconds_per_pixel(network, network, torch.device("cpu"), size=None) < 1e-3


def test_resident_memory_is_the_kernel_s() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert memory.resident() == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE"), abs=16 << 20)
    before = memory.resident()
    with mmap.mmap(-1, 64 << 20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):  # no second buffer, which malloc might keep
            held[page] = 1
        assert memory.resident() - before == pytest.approx(len(held), abs=8 << 20)


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [
        ("max", "5000", 8 << 30),
        (str(3 << 30), str(1 << 30), 2 << 30),
        (str(100 << 30), "0", 8 << 30),
        (str(1 << 30), str(2 << 30), 0),
        (None, None, 8 << 30),
    ],
)
@pytest.mark.parametrize("generation", [0, 1])
def test_a_container_bounds_what_is_free(limit, used, expected: int, generation: int, tmp_path, monkeypatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 99 kB\nMemAvailable:    {8 << 20} kB\n")
    paths = [[tmp_path / f"{name}{number}" for name in ("limit", "used", "parts")] for number in (0, 1)]
    if limit is not None:
        for path, text in zip(paths[generation], (limit, used, "inactive_file 0"), strict=True):
            path.write_text(f"{text}\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_LIMITED", paths)
    assert memory.free_memory(torch.device("cpu")) == expected
    assert memory.default_budget(torch.device("cpu")) == min(expected // 2, 2 << 30)


@pytest.mark.parametrize("name", ["inactive_file", "total_inactive_file"])
def test_cached_files_of_a_container_are_free(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("limit", "used", "parts")]
    for path, text in zip(paths, ("3000\n", "2900\n", f"anon 1\n{name} 800\n"), strict=True):
        path.write_text(text)
    monkeypatch.setattr(memory, "_LIMITED", [paths])
    assert memory.free_memory(torch.device("cpu")) == 900


def test_systems_that_do_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(memory, "_LIMITED", ())
    assert memory.free_memory(torch.device("cpu")) == 4 << 30
    assert memory.default_budget(torch.device("cpu")) == 2 << 30
    assert memory.resident() == 0
