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
from segscape.geometry.interval import Interval
from segscape.geometry.receptive_field import pointwise, repeated, strided, transposed
from segscape.geometry.window import Patch, Window
from segscape.runtime.base import Deployed
from segscape.runtime.create import create_runtime
from segscape.runtime.deploy import deploy
from segscape.scenes.planner import _MOST_REDUCTIONS
from segscape.scenes.streaming.graph import Mean, trace
from segscape.scenes.streaming.layer import Convolution, UnsupportedLayerError, map_shape, map_size
from segscape.scenes.streaming.plan import StreamingPlan, TooLittleMemoryError, plan_streaming
from segscape.scenes.streaming.sweep import ComputeRows, FreeRows
from tests import zoo
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


def _streamed(
    plan: StreamingPlan,
    images: Tensor,
    sums_of: Callable[[Tensor, Tensor], Tensor] = lambda total, _: total,
    convolutions: Mapping[str, Convolution] = MappingProxyType({}),
) -> Tensor:
    """The logits of a plan carried out in memory; `sums_of` changes a scene's sums, given its last block's too."""
    graph = plan.graph
    maps: dict[fx.Node, Tensor] = {graph.image: images}
    known: dict[fx.Node, Any] = dict(graph.convolved_by(convolutions))
    logits = torch.full(graph.output.meta["val"].shape, math.nan, dtype=images.dtype)
    for number in range(plan.sweeps):
        values = graph.completed(known)
        maps |= {node: torch.full((1, *map_shape(node)), math.nan, dtype=images.dtype) for node in plan.written(number)}
        parts: dict[Mean, list[Tensor]] = {mean: [] for mean in plan.means(number)}
        for block in plan.blocks():
            sweep = plan.sweep(number, block)
            consumers: dict[fx.Node, list[Callable[[Patch], None]]] = {}
            for node, into in [(node, maps[node]) for node in plan.written(number)] + [(graph.output, logits)]:
                consumers.setdefault(node, []).append(_writer(into, plan.own(block, map_size(node))))
            for mean, sums in parts.items():
                sums.append(torch.zeros(map_shape(mean.source)[0], *mean.bins, dtype=torch.float64))
                adder = _adder(sums[-1], mean, plan.own(block, map_size(mean.source)))
                consumers.setdefault(mean.source, []).append(adder)
            reads = (
                (node, Patch(maps[node], Window.whole(map_size(node))).cut(window).values.clone())
                for node, window in sweep.reads(plan.step)
            )
            sweep.run(plan.step, values, lambda node, reads=reads: _checked(next(reads), node), consumers)
        for mean, sums in parts.items():
            total = sums_of(torch.stack(sums).sum(0), sums[-1])
            known[mean.node] = mean.value(total.flatten().tolist()).to(images.dtype)
    return logits


def _checked(read: tuple[fx.Node, Tensor], node: fx.Node) -> Tensor:
    assert read[0] is node
    return read[1]


def _writer(into: Tensor, own: Window) -> Callable[[Patch], None]:
    def write(patch: Patch) -> None:
        window = patch.window.intersection(own)
        into[(..., *window.slices)] = patch.cut(window).values

    return write


def _adder(total: Tensor, mean: Mean, own: Window) -> Callable[[Patch], None]:
    def add(patch: Patch) -> None:
        total.add_(mean.sums(patch.cut(patch.window.intersection(own))))

    return add


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
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", segscape.list_models())
@torch.inference_mode()
def test_every_network_equal_to_the_whole_or_refused(name: str, size: tuple[int, int]) -> None:
    network = _network(name)
    images = _images(network, size)
    try:
        graph = trace(network, (images.shape[2], images.shape[3]))
    except UnsupportedLayerError as error:
        pytest.skip(f"refused, for {error}")
    if graph.reductions > _MOST_REDUCTIONS:
        pytest.skip("a scene is cut into tiles instead")
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
        names = iter([mean.node is wrong.node for number in range(plan.sweeps) for mean in plan.means(number)])
        found = _streamed(plan, images, lambda total, last, names=names: 2 * last if next(names) else total)
        assert _error(found, expected) > 1e-6


def test_reduction_passes() -> None:
    reductions = {
        name: trace(_network(name), (256, 256)).reductions
        for name in ("isdnet_resnet18", "stdc1_seg", "bisestdc", "dabnet_resnet18_p1", "scapenet_lite0")
    }
    assert reductions == {
        "isdnet_resnet18": 3,
        "stdc1_seg": 2,
        "bisestdc": 2,
        "dabnet_resnet18_p1": 2,
        "scapenet_lite0": 0,
    }


def test_attention_cannot_be_streamed() -> None:
    with pytest.raises(UnsupportedLayerError, match="rearranges the axes of a map"):
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


def test_every_row_is_computed_once_and_freed_after_use() -> None:
    network = _network("dabnet_resnet18_p4", torch.float32)
    plan = _plan(network, _images(network, (256, 128)), parts=(2, 1), rows=32, storage=0)
    sweep = plan.sweep(2, (1, 0))
    done = {node: window.row for node, window in sweep.windows.items()}
    kept = dict(done)
    for event in sweep.events(plan.step):
        if isinstance(event, ComputeRows):
            assert event.rows.start == done[event.node]
            done[event.node] = event.rows.stop
            if event.node not in sweep.sources:
                layer = plan.graph.layers[event.node]
                read = layer.rows.input_interval(event.rows)
                assert all(kept[source] <= read.start and read.stop <= done[source] for source in layer.inputs)
        else:
            assert isinstance(event, FreeRows)
            kept[event.node] = max(kept[event.node], event.before)
    assert done == {node: window.stop_row for node, window in sweep.windows.items()}


@given(
    size=st.integers(1, 60),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    forwards=st.booleans(),
    data=st.data(),
)
def test_receptive_fields_hold_what_convolutions_read(
    size: int, kernel: int, stride: int, dilation: int, forwards: bool, data: st.DataObject
) -> None:
    extent = dilation * (kernel - 1) + 1
    x = torch.zeros(1, 1, size, dtype=torch.float64, requires_grad=True)
    weight = torch.ones(1, 1, kernel, dtype=torch.float64)
    if forwards:
        padding = data.draw(st.integers(max(0, (extent - size + 1) // 2), extent // 2 + 1))
        y = F.conv1d(x, weight, stride=stride, padding=padding, dilation=dilation)
        field = strided(y.shape[2], size, extent=extent, stride=stride, padding=padding)
    else:
        most = ((size - 1) * stride + extent - 1) // 2
        padding = data.draw(st.integers(0, min(extent, most)))
        extra = data.draw(st.integers(0, max(stride, dilation) - 1))
        y = F.conv_transpose1d(x, weight, None, stride, padding, extra, dilation=dilation)
        field = transposed(y.shape[2], size, extent=extent, stride=stride, padding=padding)
    start = data.draw(st.integers(0, y.shape[2] - 1))
    stop = data.draw(st.integers(start + 1, y.shape[2]))
    (gradient,) = torch.autograd.grad(y[..., start:stop].sum(), x)
    touched = np.flatnonzero(gradient[0, 0].numpy())
    read = field.input_interval(Interval(start, stop))
    assert 0 <= read.start < read.stop <= size
    if len(touched):
        assert read.start <= touched[0]
        assert touched[-1] < read.stop


@given(size=st.integers(1, 40), factor=st.integers(1, 4), stop=st.integers(0, 40))
def test_what_is_available_and_what_is_still_needed(size: int, factor: int, stop: int) -> None:
    for field in (pointwise(size), repeated(size * factor, size, factor=factor)):
        available = field.available(min(stop, size))
        assert (field.last[:available] < stop).all()
        assert available == len(field.last) or field.last[available] >= min(stop, size)
        assert field.first_needed(available) == (field.first[available] if available < len(field.first) else size)


@pytest.mark.parametrize("name", zoo.STREAMED)
@pytest.mark.parametrize("size", [(96, 132), (93, 61)])
@torch.inference_mode()
def test_strangers_equal_to_the_whole(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = zoo.STREAMED[name]().double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias)
    deployed = deploy(network)
    images = _images(network, size)
    expected = network.eval()(images)
    plan = _plan(deployed, images, parts=(3, 2), rows=20, storage=AMPLE)
    assert _error(_streamed(plan, images), expected) < 1e-12
    assert _error(_streamed(replace(plan, kept=(), parts=(1, 3), rows=7), images), expected) < 1e-12


@pytest.mark.parametrize("name", zoo.REFUSED)
def test_strangers_refused_with_the_reason(name: str) -> None:
    build, reason = zoo.REFUSED[name]
    network = build().eval()
    network(_images(network, (64, 64), torch.float32))
    with pytest.raises(UnsupportedLayerError, match=reason):
        trace(network, (64, 64))
