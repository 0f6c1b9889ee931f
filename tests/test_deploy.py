"""A deployed network gives what the trained one gives, from less."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import segscape
from segscape.networks import SegmentationNetwork
from segscape.networks.crm import CRM
from segscape.runtime.deploy import deploy

# Where several variants differ in depth or in one kernel's size alone, one of them does for every change.
HEAVY = {
    *("isnet_resnet101", "isnet_resnet101_lip", "isnet_resnest101", "isnet_resnest101_lip", "isdnet_resnet50"),
    *("dabnet_resnet18_p4", "dabnet_resnet18_p8", "dabnet_resnet18_p16"),
}


def _with_statistics(network: nn.Module) -> nn.Module:
    """The network with normalisations that are not the identity."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean)
    return network


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.heavy if name in HEAVY else ()) for name in segscape.list_models()],
)
def network(request) -> SegmentationNetwork:
    torch.manual_seed(0)
    return _with_statistics(segscape.create_model(request.param, 5))


def test_training_heads_are_gone(network: SegmentationNetwork) -> None:
    deployed = deploy(network)
    assert not [name for name, _ in deployed.named_children() if name in network.parts.training_only]
    assert all(hasattr(network, name) for name in network.parts.training_only)
    assert _parameters(deployed) < _parameters(network)
    assert not any(parameter.requires_grad for parameter in deployed.parameters())
    assert not deployed.training


def test_the_network_itself_stays_as_it_is(network: SegmentationNetwork) -> None:
    before = copy.deepcopy(network.state_dict())
    deploy(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("name", segscape.list_models(task="refinement"))
def test_refiners_give_the_same(name: str) -> None:
    torch.manual_seed(0)
    network = _with_statistics(segscape.create_model(name))
    assert isinstance(network, CRM)
    deployed = deploy(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.extractor.modules())
    images, masks = torch.randn(1, 3, 61, 83), torch.rand(1, 1, 61, 83) * 2 - 1
    with torch.inference_mode():
        expected, found = (net(images, masks, size=(40, 56)) for net in (network, deployed))
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
