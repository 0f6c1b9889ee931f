"""Convolutions that activate too, and chains of them in bands, give what the layers give by themselves."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from segscape.networks.efficientnet_lite import InvertedResidual
from segscape.networks.layers import ConvNormAct
from segscape.runtime import fused
from segscape.runtime.deploy import deploy

pytestmark = pytest.mark.skipif(not fused.AVAILABLE, reason="needs oneDNN")


def _fused(network: nn.Module) -> nn.Module:
    fast = copy.deepcopy(network)
    fused.fuse(fast)
    return fast


@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 23), st.integers(1, 23)),
    kernel=st.sampled_from([3, 5]),
    stride=st.sampled_from([1, 2]),
    band_bytes=st.sampled_from([1, 3000, 1 << 20]),
)
@torch.inference_mode()
def test_blocks_in_bands_are_blocks(size: tuple[int, int, int], kernel: int, stride: int, band_bytes: int) -> None:
    torch.manual_seed(0)
    block = InvertedResidual(8, 8, kernel=kernel, stride=stride, expansion=3)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.bias)
    plain = deploy(block)
    images, height, width = size
    x = (4 * torch.randn(images, 8, height, width)).contiguous(memory_format=torch.channels_last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "_BAND_BYTES", band_bytes)
        found = _fused(plain)(x)
    expected = plain(x)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_block_is_one_chain() -> None:
    fast = _fused(deploy(InvertedResidual(8, 8, kernel=3, stride=1, expansion=3)))
    chains = [module for module in fast.children() if isinstance(module, fused.BandedConvs)]
    assert len(chains) == 1
    assert not [module for module in fast.modules() if isinstance(module, nn.ReLU6)]


class _TwiceAsMuch(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


@torch.inference_mode()
def test_what_is_no_plain_convolution_stays() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        _TwiceAsMuch(4, 4, 3, groups=4),
        nn.ReLU6(),
        nn.Conv2d(4, 8, 3, padding="same"),
        nn.ReLU(),
        nn.LeakyReLU(),
        nn.Conv2d(8, 8, 1),
        nn.Sigmoid(),
        ConvNormAct(8, 4, 3, negative_slope=0.1),
    )
    network = deploy(network)
    x = torch.randn(1, 4, 12, 9)
    torch.testing.assert_close(_fused(network)(x), network(x))


@torch.inference_mode()
def test_weights_are_shared() -> None:
    network = deploy(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    fast = copy.deepcopy(network, {id(each): each for each in network.parameters()})
    fused.fuse(fast)
    assert [each.data_ptr() for each in fast.parameters()] == [each.data_ptr() for each in network.parameters()]
