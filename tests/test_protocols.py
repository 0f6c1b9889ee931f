"""Evaluation protocols beside literal versions of the official procedures, on tiny networks."""

from pathlib import Path

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.evaluation.protocols import (
    EvaluationProtocol,
    TestSize,
    score_maps,
    sliding_windows,
)
from segscape.networks import SegmentationNetwork
from segscape.normalisation import Normalisation

PAIRS = [(1, 2), (3, 4)]


class Tiny(SegmentationNetwork):
    """One strided convolution: its logits depend on the size and place of what it sees."""

    stride = 4
    align_corners = False

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.kernel = nn.Parameter(torch.randn(5, 3, 7, 7, generator=generator), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-2] % self.size_multiple == images.shape[-1] % self.size_multiple == 0
        return F.conv2d(images, self.kernel, stride=4, padding=3)


class TinyAligned(Tiny):
    align_corners = True


class TinyMultiple(Tiny):
    size_multiple = 32


def _images(*size: int, count: int = 1) -> Tensor:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 9, 11, 3)).astype(np.uint8)
    resized = np.stack([cv2.resize(image, size[::-1]) for image in coarse])
    return torch.from_numpy(resized).permute(0, 3, 1, 2)


def _bilinear(maps: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=align_corners)


def _maps(protocol: EvaluationProtocol, images: Tensor, network: SegmentationNetwork | None = None) -> Tensor:
    return score_maps(protocol, network or Tiny(), images, normalise=Normalisation(), flip_pairs=PAIRS)


@pytest.mark.parametrize("scale", [0.5, 0.75])
def test_stdc_resizes_twice(scale: float) -> None:
    images, network = _images(26, 42, count=2), TinyAligned()
    size = int(26 * scale), int(42 * scale)
    small = _bilinear(Normalisation()(images), size, align_corners=True)
    at_input = _bilinear(network(small), size, align_corners=True)
    expected = _bilinear(at_input, (26, 42), align_corners=True)
    torch.testing.assert_close(_maps(EvaluationProtocol(scales=(scale,)), images, network), expected)


def test_mmseg_averages_softmax_maps_of_rescaled_pixels() -> None:
    images, network = _images(45, 60), Tiny()
    total = torch.zeros(1, 5, 45, 60)
    for ratio in (0.5, 1.0, 1.75):
        # MMSegmentation's test pipeline: a base of (width 80, height 64), its aspect kept.
        target = int(80 * ratio), int(64 * ratio)
        factor = min(max(target) / 60, min(target) / 45)
        width, height = int(60 * factor + 0.5), int(45 * factor + 0.5)
        resized = cv2.resize(images[0].permute(1, 2, 0).numpy(), (width, height))
        for mirrored in (False, True):
            pixels = np.ascontiguousarray(resized[:, ::-1] if mirrored else resized)
            tensor = Normalisation()(torch.from_numpy(pixels).permute(2, 0, 1)[None])
            maps = _bilinear(_bilinear(network(tensor), (height, width)), (45, 60)).softmax(1)
            total += maps.flip(3) if mirrored else maps
    protocol = EvaluationProtocol(
        size=TestSize((64, 80)), scales=(0.5, 1.0, 1.75), scaling="pixels", flip=True, softmax="image"
    )
    ours = score_maps(protocol, network, images, normalise=Normalisation())
    torch.testing.assert_close(ours, total / 6, atol=1e-5, rtol=1e-5)


def _sssegmentation(
    network: Tiny,
    tensor: Tensor,
    size: tuple[int, int],
    *,
    scales: list[float],
    probabilities: bool,
    window: tuple[int, int, int, int] | None,
) -> Tensor:
    """The official procedure, written out: every map kept in a list."""
    outputs = []
    for scale in scales:
        scaled = F.interpolate(tensor, scale_factor=scale, mode="bilinear", align_corners=False)
        for mirrored in (False, True):
            x = torch.flip(scaled, (3,)) if mirrored else scaled
            if window is None:
                maps = network(x).softmax(1) if probabilities else network(x)
            else:
                window_h, window_w, stride_h, stride_w = window
                height, width = x.shape[2:]
                maps, count = torch.zeros(1, 5, height, width), torch.zeros(1, 1, height, width)
                for row in range(max(height - window_h + stride_h - 1, 0) // stride_h + 1):
                    for column in range(max(width - window_w + stride_w - 1, 0) // stride_w + 1):
                        bottom = min(row * stride_h + window_h, height)
                        right = min(column * stride_w + window_w, width)
                        top, left = max(bottom - window_h, 0), max(right - window_w, 0)
                        crop = _bilinear(network(x[:, :, top:bottom, left:right]), (bottom - top, right - left))
                        maps[:, :, top:bottom, left:right] += crop.softmax(1) if probabilities else crop
                        count[:, :, top:bottom, left:right] += 1
                maps = maps / count
            if mirrored:
                maps = torch.flip(maps, (3,))[:, [0, 2, 1, 4, 3]]
            outputs.append(_bilinear(maps, size))
    return sum(outputs) / len(outputs)


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("window", [None, (32, 64, 21, 21), (64, 32, 21, 21)])
def test_sssegmentation_averages_scaled_tensors(probabilities: bool, window) -> None:
    images, network = _images(50, 85), Tiny()
    expected = _sssegmentation(
        network,
        Normalisation()(images),
        (50, 85),
        scales=[0.5, 1.0, 1.3],
        probabilities=probabilities,
        window=window,
    )
    protocol = EvaluationProtocol(
        scales=(0.5, 1.0, 1.3),
        flip=True,
        window=window and window[:2],
        stride=window and window[2:],
        softmax="network" if probabilities else "none",
        two_steps=False,
    )
    torch.testing.assert_close(_maps(protocol, images), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "image", "scale", "expected"),
    [
        # ISDNet's official test tool: 0.8 of the data set's size, unless told otherwise.
        (TestSize((2448, 2448)), (2448, 2448), 0.8, (1958, 1958)),
        (TestSize((5000, 5000)), (5000, 5000), 0.8, (4000, 4000)),
        (TestSize((1024, 2048)), (1024, 2048), 0.8, (819, 1638)),
        # DABNet and ISNet.
        (TestSize((640, 640), keep_ratio=False), (480, 640), 1.0, (640, 640)),
        (TestSize((768, 960), keep_ratio=False), (720, 960), 1.0, (768, 960)),
        (TestSize((473, 473), keep_ratio=False), (600, 350), 1.0, (473, 473)),
        (TestSize((512, 2048)), (683, 512), 1.0, (683, 512)),
        (TestSize((512, 2048)), (1000, 4000), 1.0, (512, 2048)),
    ],
)
def test_sizes_of_published_protocols(size: TestSize, image, scale: float, expected) -> None:
    assert size.scaled(image, scale) == expected


def test_reduced_image_goes_through_both_steps() -> None:
    images, network = _images(49, 61), Tiny()
    resized = cv2.resize(images[0].permute(1, 2, 0).numpy(), (48, 39))
    logits = network(Normalisation()(torch.from_numpy(resized).permute(2, 0, 1)[None]))
    expected = _bilinear(_bilinear(logits, (39, 48)), (49, 61))
    ours = _maps(EvaluationProtocol(scales=(0.8,), scaling="pixels"), images)
    torch.testing.assert_close(ours, expected)


def test_whole_images_are_one_forward() -> None:
    images = _images(33, 47)
    expected = _bilinear(Tiny()(Normalisation()(images)), (33, 47))
    assert torch.equal(_maps(EvaluationProtocol(), images), expected)


def test_images_that_do_not_fit_are_padded() -> None:
    images, network = _images(40, 50), TinyMultiple()
    padded = F.pad(Normalisation()(images), (0, 14, 0, 24))
    expected = _bilinear(network(padded), (64, 64))[..., :40, :50]
    torch.testing.assert_close(_maps(EvaluationProtocol(), images, network), expected)


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    window=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    share=st.floats(0.05, 1),
)
@settings(max_examples=100, deadline=None)
def test_windows_cover_everything(size, window, share: float) -> None:
    stride = tuple(max(int(share * side), 1) for side in window)
    windows = sliding_windows(size, window, stride)
    covered = np.zeros(size, int)
    for rows, columns in windows:
        assert rows.stop - rows.start == min(window[0], size[0])
        assert columns.stop - columns.start == min(window[1], size[1])
        covered[rows, columns] += 1
    assert covered.min() >= 1
    assert len(set(map(str, windows))) == len(windows)


@pytest.mark.parametrize("softmax", ["none", "network", "image"])
@pytest.mark.parametrize("flip", [False, True])
def test_a_pointwise_network_is_seen_the_same_by_windows(softmax: str, flip: bool) -> None:
    class Pointwise(Tiny):
        def forward(self, images: Tensor) -> Tensor:
            return F.conv2d(images, self.kernel[..., :1, :1])

    images = _images(30, 44)
    whole = EvaluationProtocol(flip=flip, softmax=softmax)
    windows = EvaluationProtocol(flip=flip, softmax=softmax, window=(16, 20), stride=(9, 20))
    first, second = (score_maps(p, Pointwise(), images, normalise=Normalisation()) for p in (whole, windows))
    torch.testing.assert_close(first, second)


def test_names_and_statements_tell_protocols_apart() -> None:
    protocols = [
        EvaluationProtocol(),
        EvaluationProtocol(scales=(0.75,)),
        EvaluationProtocol(scales=(0.75,), scaling="pixels"),
        EvaluationProtocol(size=TestSize((2448, 2448)), scales=(0.8,), scaling="pixels"),
        EvaluationProtocol(size=TestSize((2448, 2448)), scaling="pixels"),
        EvaluationProtocol(size=TestSize((640, 640), keep_ratio=False)),
        EvaluationProtocol(scales=(0.5, 1.0), flip=True, softmax="image"),
        EvaluationProtocol(scales=(0.5, 1.0), flip=True, softmax="network", two_steps=False),
        EvaluationProtocol(window=(512, 1024), stride=(341, 341)),
        EvaluationProtocol(window=(1024, 512), stride=(341, 341)),
    ]
    assert len({protocol.name for protocol in protocols}) == len(protocols)
    assert len({str(protocol) for protocol in protocols}) == len(protocols)
    assert protocols[3].name == "whole-fit2448x2448-0.8-pixels"
    assert "fitted into 2448x2448, scale 0.8 of the 8-bit pixels" in str(protocols[3])
    assert str(protocols[8]).startswith("windows of 512x1024 every 341x341, scale 1, not mirrored; logits")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"scales": ()}, "positive scales"),
        ({"scales": (0.5, 0.0)}, "positive scales"),
        ({"window": (64, 64)}, "both window and stride"),
        ({"window": (64, 64), "stride": (65, 64)}, "at most the window"),
    ],
)
def test_senseless_protocols(words: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationProtocol(**words)


def test_the_documented_protocols_can_be_written_in_configs() -> None:
    parser = ArgumentParser()
    parser.add_argument("--protocol", type=EvaluationProtocol)
    lines = (Path(__file__).parent.parent / "docs" / "evaluation.md").read_text().splitlines()
    texts = [line.split("`")[-2] for line in lines if line.startswith("|") and line.endswith("}` |")]
    assert len(texts) >= 8
    names = set()
    for text in texts:
        config = parser.parse_args([f"--protocol={text}"])
        names.add(parser.instantiate(config).protocol.name)
    assert {"whole-0.75", "whole-0.8-pixels", "whole-1", "whole-473x473-1-flip-direct"} <= names
