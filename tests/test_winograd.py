"""Winograd's convolution gives what PyTorch's gives, in any shape and in any number of threads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import segscape
from segscape.networks import SegmentationNetwork
from segscape.networks.layers import ConvNormAct
from segscape.runtime.base import Deployed, RuntimeUnavailableError
from segscape.runtime.create import create_runtime
from segscape.runtime.deploy import deploy

native = pytest.importorskip("segscape.runtime.winograd.native")
if not native.AVAILABLE:
    pytest.skip("this PyTorch has no MKL", allow_module_level=True)

from segscape.runtime.winograd.layers import WinogradConv2d, use_winograd  # noqa: E402

LIGHT = {"stdc1_seg", "bisestdc", "isdnet_resnet18", "dabnet_efficientnet_b1", "isnet_resnet50"}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """PyTorch's number of threads is as before after each test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _conv(in_channels: int, out_channels: int, dilation: int = 1, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=bias)


@torch.inference_mode()
def _check(conv: nn.Conv2d, images: torch.Tensor, *, relu: bool = False) -> None:
    """Hold it against the convolution in float64."""
    expected = copy.deepcopy(conv).double()(images.double())
    expected = expected.relu() if relu else expected
    outputs = WinogradConv2d(conv, relu=relu)(images)
    assert outputs.shape == expected.shape
    assert outputs.is_contiguous(memory_format=torch.channels_last)
    assert (outputs - expected).abs().max() <= 2e-5 * expected.abs().max().clamp(min=1e-3)


@given(
    count=st.integers(1, 3),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.tuples(st.sampled_from([32, 48, 80]), st.sampled_from([32, 64])),
    dilation=st.integers(1, 5),
    relu=st.booleans(),
    bias=st.booleans(),
    channels_last=st.booleans(),
    num_threads=st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_equals_a_convolution(count, size, channels, dilation, relu, bias, channels_last, num_threads) -> None:
    torch.set_num_threads(num_threads)
    images = torch.randn(count, channels[0], *size)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    _check(_conv(*channels, dilation, bias=bias), images, relu=relu)


@pytest.mark.parametrize(("channels", "size"), [((512, 256), (30, 41)), ((64, 64), (97, 203))])
def test_more_than_one_block(channels: tuple[int, int], size: tuple[int, int]) -> None:
    _check(_conv(*channels), torch.randn(1, channels[0], *size))


def test_a_part_of_a_tensor() -> None:
    _check(_conv(32, 32), torch.randn(2, 96, 20, 30)[:, 32:64, 3:-3, 1:])


def test_inputs_are_left_alone_and_what_is_not_a_number_stays_one() -> None:
    images = torch.randn(1, 32, 12, 12)
    images[0, 3, 5, 5] = torch.nan
    before = images.clone()
    outputs = WinogradConv2d(_conv(32, 32), relu=True)(images)
    assert torch.equal(images.nan_to_num(), before.nan_to_num())
    assert outputs[0, :, 5, 5].isnan().all()
    assert outputs[0, :, 0, :].isfinite().all()


def test_several_callers_at_once() -> None:
    conv, images = _conv(64, 64), [torch.randn(1, 64, 40, 40 + index) for index in range(8)]
    layer = WinogradConv2d(conv)
    with torch.inference_mode(), ThreadPoolExecutor(4) as pool:
        for image, outputs in zip(images, pool.map(layer, images), strict=True):
            torch.testing.assert_close(outputs, conv(image), rtol=1e-4, atol=1e-4)
            assert torch.equal(outputs, layer(image))


def test_products_keep_their_threads() -> None:
    """A later product in PyTorch takes as many threads as before."""
    torch.set_num_threads(3)
    WinogradConv2d(_conv(32, 32))(torch.randn(1, 32, 30, 30))
    assert native._LIBRARY.MKL_Set_Num_Threads_Local(3) == 3


def test_what_has_no_winograd_form_stays() -> None:
    kept = nn.Sequential(
        nn.Conv2d(32, 32, 1),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.Conv2d(32, 32, 3),
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.Conv2d(32, 19, 3, padding=1),
        nn.Conv2d(32, 32, 3, padding=(1, 2), dilation=(1, 2)),
        nn.Conv2d(32, 32, (3, 1), padding=(1, 0)),
    )
    before = str(kept)
    use_winograd(kept)
    assert str(kept) == before


def test_a_leaky_relu_stays() -> None:
    network = nn.Sequential(ConvNormAct(32, 32, 3, negative_slope=0.1), ConvNormAct(32, 32, 3))
    deployed = deploy(nn.Sequential(network))[0]
    replaced = copy.deepcopy(deployed)
    use_winograd(replaced)
    assert isinstance(replaced[0], ConvNormAct)
    assert isinstance(replaced[0].conv, WinogradConv2d)
    assert isinstance(replaced[1], WinogradConv2d)
    images = torch.randn(1, 32, 20, 20)
    with torch.inference_mode():
        torch.testing.assert_close(replaced(images), deployed(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in LIGHT else pytest.mark.heavy) for name in segscape.list_models()]
)
def test_every_network_gives_the_same(name: str) -> None:
    torch.manual_seed(0)
    network = segscape.create_model(name, 5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean)
    assert isinstance(network, SegmentationNetwork)
    runtime = create_runtime("winograd", Deployed(deploy(network)))
    assert any(isinstance(module, WinogradConv2d) for module in runtime._network.modules())
    network.eval()
    for count, height, width in ((2, 61, 83), (1, 33, 130)):
        images = torch.randn(count, 3, *network.fitting_size(height, width))
        with torch.inference_mode():
            expected = network(images)
        error = (runtime(images) - expected).abs().max() / expected.abs().max()
        assert error < 1e-5


def test_other_numbers_are_refused() -> None:
    deployed = Deployed(deploy(segscape.create_model("stdc1_seg", 5)))
    with pytest.raises(RuntimeUnavailableError, match="in fp32 alone"):
        create_runtime("winograd", deployed, precision="bf16")


def test_a_pytorch_without_mkl_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(native, "AVAILABLE", False)
    with pytest.raises(RuntimeUnavailableError, match="Intel's MKL"):
        create_runtime("winograd", Deployed(deploy(segscape.create_model("stdc1_seg", 5))))
