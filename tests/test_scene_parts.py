"""The parts of a scene: what a network is given of it, and what is filled of its logits."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.checkpoints.card import WeightsCard
from segscape.evaluation.protocols import EvaluationProtocol, score_maps
from segscape.geometry.window import Window
from segscape.labels import LIP
from segscape.networks import SegmentationNetwork
from segscape.normalisation import Normalisation
from segscape.rasters.scratch import ScratchArray
from segscape.rasters.source import Source, open_source
from segscape.scenes.images import Images
from segscape.scenes.logits import Logits
from segscape.scenes.outputs import LabelWriter, OutputArrays
from segscape.scenes.task import Task
from segscape.scenes.tiles import TilingPlan
from segscape.scenes.views import View, ViewGeometry, views
from segscape.segmentation.upsampling.argmax import Upsampling
from segscape.segmentation.upsampling.resizes import Resizes

CPU = torch.device("cpu")
SIZE = (62, 91)
SWAPPED = [0, 2, 1, 3, 4]
"""Classes 1 and 2 change places in a mirror."""


class _Network(SegmentationNetwork):
    """Logits at stride 8, from a convolution that knows left from right."""

    stride, size_multiple, min_size = 8, 8, 8

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        torch.manual_seed(11)
        self.conv = nn.Conv2d(3, 5, 11, stride=8, padding=5)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """An image of noise, (62, 91)."""
    path = tmp_path_factory.mktemp("scene") / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)).save(path)
    with open_source(path) as opened:
        yield opened


@st.composite
def _windows(draw: st.DrawFn, size: tuple[int, int]) -> Window:
    row, col = (draw(st.integers(0, side - 1)) for side in size)
    return Window(row, col, draw(st.integers(1, size[0] - row)), draw(st.integers(1, size[1] - col)))


def _pixels(source: Source, window: Window) -> Tensor:
    return torch.from_numpy(source.read(window)).permute(2, 0, 1)[None]


def _resized(maps: Tensor, align_corners: bool, **size) -> Tensor:
    return F.interpolate(maps, mode="bilinear", align_corners=align_corners, **size)


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(),
    place=_windows(SIZE),
    scale=st.one_of(st.sampled_from([1.0, 0.5, 0.75, 1.02, 1.5, 2.0]), st.floats(0.5, 2)),
    mirrored=st.booleans(),
    align_corners=st.booleans(),
)
def test_windows_of_what_a_network_is_given(data, place: Window, scale, mirrored, align_corners, source) -> None:
    # PyTorch does not resize to nothing.
    place = Window(place.row // 2, place.col // 2, place.height + 1, place.width + 1).intersection(Window(0, 0, *SIZE))
    geometry = ViewGeometry.of(_Network(align_corners), place.size, View(scale, mirrored))
    whole = Normalisation()(_pixels(source, place))
    if scale != 1:
        whole = _resized(whole, align_corners, scale_factor=scale)
    assert geometry.size == whole.shape[2:]
    assert geometry.padded == _Network(align_corners).fitting_size(*geometry.size)
    whole = whole.flip(-1) if mirrored else whole
    whole = F.pad(whole, (0, geometry.padded[1] - whole.shape[3], 0, geometry.padded[0] - whole.shape[2]))
    images = Images(source, place, geometry, normalise=Normalisation(), device=CPU)
    window = data.draw(_windows(geometry.padded))
    # A position of 70 pixels is rounded by 4e-6, and neighbouring pixels are up to 4 apart.
    tolerance = 0 if scale == 1 else 3e-5
    torch.testing.assert_close(images.read(window), whole[..., *window.slices], rtol=0, atol=tolerance)


def test_views() -> None:
    assert views([1.0], flip=False) == (View(),)
    assert views([0.5, 2.0], flip=True) == (View(0.5), View(0.5, True), View(2.0), View(2.0, True))
    for scales in ([], [1.0, 0.0]):
        with pytest.raises(ValueError, match="Scales are positive numbers"):
            views(scales, flip=False)


def test_a_mirror_exchanges_left_and_right() -> None:
    expected = list(range(LIP.num_classes))
    for left, right in LIP.flip_pairs:
        expected[left], expected[right] = right, left
    assert WeightsCard("isnet_resnet50_lip", LIP.class_names, LIP.palette, Normalisation()).mirrored_classes == expected
    alone = WeightsCard("stdc1_seg", ("left turn", "upright", "right"), ((0, 0, 0),) * 3, Normalisation())
    assert alone.mirrored_classes == [0, 1, 2]


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=4),
    cut=st.integers(0, 3),
    mirrored=st.booleans(),
    align_corners=st.booleans(),
)
def test_resizes_one_after_the_other(data, sizes, cut: int, mirrored: bool, align_corners: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = whole = torch.randn(3, *sizes[0], generator=generator)
    steps = []
    for place, size in enumerate(sizes[1:]):
        # From the second on, a step begins with the upper left part of what the one before has made.
        part = whole if place == 0 else whole[:, : max(whole.shape[1] - cut, 1), : max(whole.shape[2] - cut, 1)]
        steps.append(Upsampling((part.shape[1], part.shape[2]), size, align_corners))
        whole = _resized(part[None], align_corners, size=size)[0]
    height, width = max(sizes[-1][0] - cut, 1), max(sizes[-1][1] - cut, 1)
    whole = whole[:, :height, :width]
    whole = whole.flip(-1) if mirrored else whole
    resizes = Resizes(tuple(steps), (height, width), mirrored)
    window = data.draw(_windows((height, width)))
    held = resizes.reads(window)
    scores = resizes.scores(logits[:, *held.slices], window=window, held=held)
    torch.testing.assert_close(scores, whole[:, *window.slices], rtol=0, atol=1e-5)


def _logits(network: _Network, source: Source, seen: Sequence[View], folder: Path) -> list[Logits]:
    """What a network says of an image in each view."""
    whole = Window(0, 0, *SIZE)
    found = []
    for number, view in enumerate(seen):
        geometry = ViewGeometry.of(network, SIZE, view)
        images = Images(source, whole, geometry, normalise=Normalisation(), device=CPU)
        maps = network(images.read(Window(0, 0, *geometry.padded)))[0]
        assert maps.shape == geometry.logits
        order = SWAPPED if view.mirrored else None
        found.append(Logits(folder / f"view{number}", TilingPlan(SIZE, SIZE, 0), geometry, CPU, class_order=order))
        found[-1].write(0, Window(0, 0, *maps.shape[1:]), maps.permute(1, 2, 0).contiguous().numpy())
    return found


def _arrays(folder: Path, *, with_scores: bool) -> OutputArrays:
    scores = ScratchArray(folder / "scores", (*SIZE, 5), "uint8") if with_scores else None
    return OutputArrays(*(ScratchArray(folder / name, SIZE, "uint8") for name in ("labels", "sure")), scores)


@pytest.mark.parametrize("with_scores", [True, False])
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("scales", [(1.0,), (0.5,), (0.5, 1.0, 1.25)])
@pytest.mark.parametrize("flip", [True, False])
@torch.inference_mode()
def test_painted_as_by_a_protocol(
    scales, flip: bool, align_corners: bool, with_scores: bool, source, tmp_path: Path, monkeypatch
) -> None:
    network, seen = _Network(align_corners).eval(), views(scales, flip=flip)
    protocol = EvaluationProtocol(scales=scales, flip=flip, softmax="image")
    pixels = _pixels(source, Window(0, 0, *SIZE))
    expected = score_maps(protocol, network, pixels, normalise=Normalisation(), flip_pairs=[(1, 2)])[0]
    monkeypatch.setattr("segscape.scenes.outputs._MOST_BLOCK_PIXELS", 20 * SIZE[1])
    monkeypatch.setattr("segscape.scenes.outputs._STRIP_SIZE", (13, 40))
    monkeypatch.setattr("segscape.scenes.outputs._STRIP_SIZE_WITH_SCORES", (7, 30))
    arrays = _arrays(tmp_path, with_scores=with_scores)
    label_writer = LabelWriter(_logits(network, source, seen, tmp_path), arrays)
    assert label_writer.tasks() == [[Task(0, block) for block in range(4)]]
    assert label_writer.work(Task(0, 3)) == pytest.approx(label_writer.work(Task(0, 0)) / 10)
    for task in reversed(label_writer.tasks()[0]):
        label_writer.run(task, {}, lambda share: None)
    _check(arrays, expected)


def _check(arrays: OutputArrays, probabilities: Tensor) -> None:
    """Compare what was filled with probabilities at the size of the scene."""
    whole = Window(0, 0, *SIZE)
    labels = torch.from_numpy(arrays.labels.read(whole)).long()
    chosen = probabilities.gather(0, labels[None])[0]
    assert float((probabilities.amax(0) - chosen).max()) < 4e-5
    assert arrays.confidence is not None
    sure = torch.from_numpy(arrays.confidence.read(whole))
    assert float((sure - 255 * probabilities.amax(0)).abs().max()) < 0.51
    if arrays.scores is not None:
        scores = torch.from_numpy(arrays.scores.read(whole)).permute(2, 0, 1)
        assert float((scores - 255 * probabilities).abs().max()) < 0.51


@pytest.mark.parametrize("with_scores", [True, False])
@torch.inference_mode()
def test_a_mirror_image_alone(with_scores: bool, source: Source, tmp_path: Path) -> None:
    network, seen = _Network(align_corners=False).eval(), (View(mirrored=True),)
    arrays = _arrays(tmp_path, with_scores=with_scores)
    logits = _logits(network, source, seen, tmp_path)
    LabelWriter(logits, arrays).run(Task(0, 0), {}, lambda share: None)
    images = F.pad(Normalisation()(_pixels(source, Window(0, 0, *SIZE))).flip(-1), (0, 5, 0, 2))
    full = _resized(network(images), align_corners=False, size=images.shape[2:])[0, :, : SIZE[0], : SIZE[1]]
    _check(arrays, full.flip(-1)[SWAPPED].softmax(0))
