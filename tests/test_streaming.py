"""A scene streamed block by block has the logits of the whole scene, for every network that can be streamed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F

import segscape
from segscape.geometry.interval import Patch, Span
from segscape.runtime.base import Deployed
from segscape.runtime.create import create_runtime
from segscape.runtime.deploy import deploy
from segscape.scenes.streaming.graph import trace
from segscape.scenes.streaming.layers import Convolution, UnsupportedLayerError, map_shape
from segscape.scenes.streaming.plan import StreamingPlan, TooLittleMemoryError, plan_streaming
from segscape.scenes.streaming.receptive_field import divided, same, windows
from segscape.scenes.streaming.sweep import Area, Dropped, Made
from tests.golden import fill

AMPLE = 1 << 40
SIZES = [(192, 256), (189, 253), (773, 61)]


def _network(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    network = segscape.create_model(name, num_classes=7)
    values = fill.state_dict({key: list(value.shape) for key, value in network.state_dict().items()})
    network.load_state_dict({key: torch.tensor(value) for key, value in values.items()})
    return deploy(network).to(dtype)


def _images(network: nn.Module, size: tuple[int, int], dtype: torch.dtype = torch.float64) -> Tensor:
    """Noise with a drift from top to bottom, so that the means of blocks differ from those of the scene."""
    multiple = network.size_multiple
    height, width = (-(-side // multiple) * multiple for side in size)
    noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return (noise + torch.linspace(-2, 2, height)[:, None]).to(dtype)


def _own(patch: Patch, own: Area) -> Patch | None:
    start, stop = max(patch.rows.start, own.rows.start), min(patch.rows.stop, own.rows.stop)
    return patch.cut(own.rows._replace(start=start, stop=stop), own.cols) if start < stop else None


def _streamed(
    plan: StreamingPlan,
    images: Tensor,
    mean: Callable[[Tensor, Tensor, int], Tensor] = lambda total, _, n: total / n,
    convolutions: Mapping[str, Convolution] = MappingProxyType({}),
) -> Tensor:
    """The logits of a plan carried out in memory; `mean` makes one of a scene's sum, its last block's, and a count."""
    graph = plan.graph
    maps: dict[fx.Node, Tensor] = {graph.image: images}
    known: dict[fx.Node, Any] = dict(graph.convolved_by(convolutions))
    logits = torch.full(graph.output.meta["val"].shape, math.nan, dtype=images.dtype)
    for number in range(plan.sweeps):
        values = graph.completed(known)
        maps |= {node: torch.full((1, *map_shape(node)), math.nan, dtype=images.dtype) for node in plan.written(number)}
        parts: dict[fx.Node, list[Tensor]] = {node: [] for node in plan.means(number).values()}
        for block in plan.blocks():
            sweep = plan.sweep(number, block)
            takers: dict[fx.Node, list[Callable[[Patch], None]]] = {}
            for node, into in [(node, maps[node]) for node in plan.written(number)] + [(graph.output, logits)]:
                takers.setdefault(node, []).append(_writer(into, plan.own(block, map_shape(node)[1:])))
            for source, node in plan.means(number).items():
                parts[node].append(torch.zeros(1, map_shape(source)[0], 1, 1, dtype=torch.float64))
                takers.setdefault(source, []).append(_adder(parts[node][-1], plan.own(block, map_shape(source)[1:])))
            reads = ((node, _cut(maps[node], area)) for node, area in sweep.reads(plan.step))
            sweep.run(plan.step, values, lambda node, reads=reads: _checked(next(reads), node), takers)
        for source, node in plan.means(number).items():
            total = torch.stack(parts[node]).sum(0)
            count = math.prod(map_shape(source)[1:])
            known[node] = mean(total, parts[node][-1], count).to(images.dtype)
    return logits


def _cut(values: Tensor, area: Area) -> Tensor:
    return values[..., area.rows.start : area.rows.stop, area.cols.start : area.cols.stop].clone()


def _checked(read: tuple[fx.Node, Tensor], node: fx.Node) -> Tensor:
    assert read[0] is node
    return read[1]


def _writer(into: Tensor, own: Area) -> Callable[[Patch], None]:
    def take(patch: Patch) -> None:
        part = _own(patch, own)
        if part is not None:
            into[..., part.rows.start : part.rows.stop, part.cols.start : part.cols.stop] = part.values

    return take


def _adder(total: Tensor, own: Area) -> Callable[[Patch], None]:
    def take(patch: Patch) -> None:
        part = _own(patch, own)
        if part is not None:
            total.add_(part.values.sum((2, 3), keepdim=True, dtype=torch.float64))

    return take


def _plan(network: nn.Module, images: Tensor, *, parts: tuple[int, int], rows: int, storage: int) -> StreamingPlan:
    size = (images.shape[2], images.shape[3])
    return replace(plan_streaming(trace(network, size), memory=AMPLE, storage=storage), parts=parts, rows=rows)


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("stdc1_seg", size) for size in ((96, 128), (93, 125), (389, 37))),
        ("scapenet_lite0", (93, 125)),
        ("dabnet_efficientnet_lite0", (93, 125)),
    ],
)
@torch.inference_mode()
def test_equal_to_the_whole(name: str, size: tuple[int, int]) -> None:
    network = _network(name)
    images = _images(network, size)
    expected = network(images)
    plan = _plan(network, images, parts=(3, 2), rows=40, storage=AMPLE)
    assert _error(_streamed(plan, images), expected) < 1e-12
    assert _error(_streamed(replace(plan, kept=(), parts=(1, 1), rows=96), images), expected) < 1e-12


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(
            (name, size)
            for name in ("isdnet_resnet18", "stdc1_seg", "bisestdc", "dabnet_resnet18_p1", "scapenet_lite0")
            for size in SIZES
        ),
        *((name, SIZES[1]) for name in ("stdc2_seg", "bisestdc2", *(f"dabnet_resnet18_p{n}" for n in (2, 4, 8, 16)))),
    ],
)
@torch.inference_mode()
def test_every_network_equal_to_the_whole(name: str, size: tuple[int, int]) -> None:
    network = _network(name)
    images = _images(network, size)
    plan = _plan(network, images, parts=(2, 2), rows=64, storage=AMPLE)
    assert _error(_streamed(plan, images), network(images)) < 1e-12


@torch.inference_mode()
def test_equal_in_single_precision() -> None:
    network = _network("isdnet_resnet18", torch.float32)
    images = _images(network, (93, 125), torch.float32)
    plan = _plan(network, images, parts=(2, 2), rows=32, storage=AMPLE)
    assert _error(_streamed(plan, images), network(images)) < 1e-5


@pytest.mark.parametrize("name", ["stdc1_seg", "isdnet_resnet18"])
@torch.inference_mode()
def test_equal_by_winograds_algorithm(name: str) -> None:
    network = _network(name, torch.float32)
    runtime = create_runtime("winograd", Deployed(network))
    images = _images(network, (189, 253), torch.float32)
    plan = _plan(network, images, parts=(2, 2), rows=32, storage=AMPLE)
    assert len(plan.graph.convolved_by(runtime.layers)) == len(runtime.layers)
    found = _streamed(plan, images, convolutions=runtime.layers)
    assert _error(found, network(images)) < 1e-5
    # It was computed in another way, though.
    assert not torch.equal(found, _streamed(plan, images))


@torch.inference_mode()
def test_a_mean_of_a_block_would_show() -> None:
    network = _network("stdc1_seg")
    images = _images(network, (96, 128))
    plan = _plan(network, images, parts=(2, 1), rows=64, storage=AMPLE)
    expected = network(images)
    assert len(plan.graph.means) == 4
    for wrong in plan.graph.means.values():
        counts = iter([node is wrong for number in range(plan.sweeps) for node in plan.means(number).values()])
        found = _streamed(
            plan, images, lambda total, last, n, counts=counts: 2 * last / n if next(counts) else total / n
        )
        assert _error(found, expected) > 1e-6


def test_rounds_of_means() -> None:
    rounds = {
        name: trace(_network(name), (256, 256)).rounds
        for name in ("isdnet_resnet18", "stdc1_seg", "dabnet_resnet18_p1")
    }
    assert rounds == {"isdnet_resnet18": 3, "stdc1_seg": 2, "dabnet_resnet18_p1": 2}


def test_attention_cannot_be_streamed() -> None:
    with pytest.raises(UnsupportedLayerError, match="reads more of a map"):
        trace(_network("isnet_resnet50"), (128, 128))


def test_memory_bounds_the_plan() -> None:
    network = _network("stdc1_seg", torch.float32)
    graph = trace(network, (2048, 2048))
    ample, scarce = (plan_streaming(graph, memory=mib << 20, storage=AMPLE) for mib in (4000, 60))
    assert scarce.memory <= 60 << 20 < ample.memory
    assert ample.parts[1] < scarce.parts[1] or ample.rows > scarce.rows
    with pytest.raises(TooLittleMemoryError, match="takes at least"):
        plan_streaming(graph, memory=1 << 20, storage=AMPLE)


def test_storage_bounds_the_kept_maps() -> None:
    network = _network("isdnet_resnet18", torch.float32)
    graph = trace(network, (1024, 1024))
    full, none = (plan_streaming(graph, memory=AMPLE, storage=storage) for storage in (AMPLE, 0))
    assert full.image_reads == 1
    assert full.storage > 0
    assert none.kept == ()
    assert none.image_reads == none.sweeps == 4
    assert none.macs > full.macs


def test_every_row_is_made_once_and_dropped_after_use() -> None:
    network = _network("dabnet_resnet18_p4", torch.float32)
    plan = _plan(network, _images(network, (256, 128)), parts=(2, 1), rows=32, storage=0)
    sweep = plan.sweep(2, (1, 0))
    done = {node: area.rows.start for node, area in sweep.areas.items()}
    kept = dict(done)
    for event in sweep.events(plan.step):
        if isinstance(event, Made):
            assert event.rows.start == done[event.node]
            done[event.node] = event.rows.stop
            if event.node not in sweep.sources:
                layer = plan.graph.layers[event.node]
                read = layer.rows.hull(event.rows)
                assert all(kept[source] <= read.start and read.stop <= done[source] for source in layer.inputs)
        else:
            assert isinstance(event, Dropped)
            kept[event.node] = max(kept[event.node], event.start)
    assert done == {node: area.rows.stop for node, area in sweep.areas.items()}


@given(
    lines=st.integers(1, 60),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    data=st.data(),
)
def test_windows_read_what_a_convolution_reads(
    lines: int, kernel: int, stride: int, dilation: int, data: st.DataObject
) -> None:
    extent = dilation * (kernel - 1) + 1
    padding = data.draw(st.integers(max(0, (extent - lines + 1) // 2), extent // 2 + 1))
    x = torch.zeros(1, 1, lines, dtype=torch.float64, requires_grad=True)
    made = F.conv1d(x, torch.ones(1, 1, kernel, dtype=torch.float64), stride=stride, padding=padding, dilation=dilation)
    reads = windows(made.shape[2], lines, extent=extent, stride=stride, padding=padding)
    start = data.draw(st.integers(0, made.shape[2] - 1))
    stop = data.draw(st.integers(start + 1, made.shape[2]))
    (gradient,) = torch.autograd.grad(made[..., start:stop].sum(), x)
    touched = np.flatnonzero(gradient[0, 0].numpy())
    hull = reads.hull(Span(start, stop, made.shape[2]))
    if len(touched):
        assert hull.start <= touched[0]
        assert touched[-1] < hull.stop


@given(lines=st.integers(1, 40), factor=st.integers(1, 4), stop=st.integers(0, 40))
def test_ready_and_read_from(lines: int, factor: int, stop: int) -> None:
    for reads in (same(lines), divided(lines * factor, lines, factor=factor)):
        ready = reads.ready(min(stop, lines))
        assert (reads.last[:ready] < stop).all()
        assert ready == len(reads.last) or reads.last[ready] >= min(stop, lines)
        assert reads.read_from(ready) == (reads.first[ready] if ready < len(reads.first) else lines)
