"""DABNet: every golden of the authors' code, and what those numbers cannot show."""

from collections.abc import Iterable

import pytest
import torch
from torch import nn

import segscape
from segscape.networks import SegmentationOutput
from segscape.networks.dabnet import DABNet
from tests.references import dabnet as references
from tests.references.common import assert_all

QUICK = ("R_P1", "R_P2", "E", "channel", "hfa_only")
SIZE_MULTIPLES = {
    "dabnet_resnet18_p1": 2,
    "dabnet_resnet18_p2": 64,
    "dabnet_resnet18_p4": 128,
    "dabnet_resnet18_p8": 256,
    "dabnet_resnet18_p16": 512,
    "dabnet_efficientnet_b1": 64,
}


def _some_heavy(names: Iterable[str]) -> list:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.heavy) for name in names]


@pytest.mark.parametrize("variant", _some_heavy(references.NETWORKS))
def test_variant(variant: str) -> None:
    assert_all(references.variant_comparisons(variant))


@pytest.mark.parametrize("name", _some_heavy(references.golden()["ablations"]))
def test_ablation(name: str) -> None:
    assert_all(references.ablation_comparisons(name))


@pytest.mark.parametrize("variant", ["R_P2", "E"])
def test_synchronised_norms_change_nothing(variant: str) -> None:
    network = references.reference_network(variant)
    images = torch.randn(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
        entries = list(network.state_dict())
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        torch.testing.assert_close(converted(images), expected, rtol=0, atol=0)
    assert list(converted.state_dict()) == entries
    norms = [module for module in converted.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert {type(norm) for norm in norms} == {nn.SyncBatchNorm}


@pytest.mark.parametrize(("name", "multiple"), SIZE_MULTIPLES.items())
def test_sizes_that_do_not_fit_are_refused(name: str, multiple: int) -> None:
    with torch.device("meta"):
        network = segscape.create_model(name, 3).eval()
        assert network.size_multiple == multiple
        least = network(torch.empty(1, 3, multiple, 3 * multiple))
        assert least.shape == (1, 3, -(-multiple // 8), -(-3 * multiple // 8))
        with pytest.raises(ValueError, match=f"multiples of {multiple}; .* to {2 * multiple} x {multiple}"):
            network(torch.empty(1, 3, multiple + 1, multiple))


@pytest.fixture(scope="module")
def fresh() -> DABNet:
    torch.manual_seed(0)
    return segscape.create_model("dabnet_resnet18_p2", 19)


def test_auxiliary_outputs(fresh: DABNet) -> None:
    output = fresh.train()(torch.randn(2, 3, 64, 128))
    assert isinstance(output, SegmentationOutput)
    assert output.logits.shape == output.aux["aux16"].shape == (2, 19, 8, 16)
    assert output.aux["aux32"].shape == (2, 19, 4, 8)


def test_heads_drop_channels_in_training(fresh: DABNet) -> None:
    features = torch.ones(1, 4000, 2, 2)
    for head in (fresh.head, fresh.aux16, fresh.aux32):
        dropped = head.train().dropout(features)[0].flatten(1)
        assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.9])
        assert (dropped == dropped[:, :1]).all()
        assert (dropped == 0).double().mean() == pytest.approx(0.1, abs=0.03)
        assert torch.equal(head.eval().dropout(features), features)


def test_initialisation(fresh: DABNet) -> None:
    """He's normal distribution over the outputs, torch's default in the patch modules, narrow classifiers."""
    values = {name: value.detach() for name, value in fresh.named_parameters()}

    def deviation(name: str) -> float:
        return float(values[name].std())

    assert deviation("fusion.conv.conv.weight") == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert deviation("context.smooth.16.conv.weight") == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)
    assert values["patches.3.low.channel.conv.weight"].abs().max() <= (512 * 4 * 9) ** -0.5
    assert values["patches.3.low.channel.conv.bias"].any()
    for head in ("head", "aux16", "aux32"):
        assert deviation(f"{head}.classifier.weight") == pytest.approx(0.01, rel=0.1)
        assert not values[f"{head}.classifier.bias"].any()
    norms = [module for module in fresh.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() and not norm.bias.any() for norm in norms)
