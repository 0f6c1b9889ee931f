"""Every golden of the authors' code of ISDNet, within the tolerances that its specification states."""

import re

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import segscape
from segscape.checkpoints.convert import leftovers, to_official
from segscape.losses import ReconstructionLoss, StructureLoss
from segscape.networks.isdnet import LaplacianPyramid
from tests.references import isdnet as references
from tests.references.common import assert_all
from tests.references.isdnet import NAME


@pytest.mark.parametrize("variant", references.VARIANTS)
def test_evaluation_outputs(variant: str) -> None:
    assert_all(references.evaluation_outputs(variant))


@pytest.mark.parametrize(
    ("variant", "dtype"),
    [
        ("deepglobe", "float32"),
        ("deepglobe", "float64"),
        pytest.param("inria", "float32", marks=pytest.mark.heavy),
        pytest.param("inria", "float64", marks=pytest.mark.heavy),
        pytest.param("cityscapes", "float32", marks=pytest.mark.heavy),
        pytest.param("cityscapes", "float64", marks=pytest.mark.heavy),
        ("deepglobe_odd", "float32"),
        ("deepglobe_odd", "float64"),
    ],
)
def test_training_losses_and_gradients(variant: str, dtype: str) -> None:
    assert_all(references.training_losses(variant, dtype))


@pytest.mark.parametrize("variant", references.CHECKPOINTS)
def test_entries(variant: str) -> None:
    assert_all(references.entries(variant))


def test_costs() -> None:
    assert_all(references.costs())


def test_form_on_resnet50() -> None:
    assert_all(references.resnet50_form())


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return references.official_state("inria")


@pytest.mark.parametrize("dropped", [r"\.features\.", r"\.x\d+\."])
def test_either_name_of_a_doubled_entry_is_enough(official, dropped: str) -> None:
    converted = segscape.convert_checkpoint(NAME, {"state_dict": official, "meta": {"iter": 80000}})
    half = {key: value for key, value in official.items() if not re.search(dropped, key)}
    assert len(half) == len(official) - 120
    again = segscape.convert_checkpoint(NAME, half)
    assert all(torch.equal(again[key], converted[key]) for key in converted)


def test_another_reconstruction_decoder_is_left_out(official, caplog) -> None:
    older = {key: value for key, value in official.items() if ".sr_decoder.conv3." not in key}
    older["refine_head.sr_decoder.conv1.conv.weight"] = torch.zeros(64, 64, 3, 3)
    older["refine_head.sr_decoder.conv4.weight"] = torch.zeros(3, 64, 1, 1)
    converted = segscape.convert_checkpoint(NAME, older)
    assert "entries such as refine_head.sr_decoder." in caplog.text
    network = segscape.create_model(NAME, 2)
    network.load_state_dict(converted)
    exact = segscape.convert_checkpoint(NAME, official)
    assert all(torch.equal(converted[key], exact[key]) for key in exact if not key.startswith("reconstruction."))
    restored = to_official(NAME, converted, kept=leftovers(NAME, older, converted))
    assert all(torch.equal(restored[key], value) for key, value in older.items())


def test_any_other_difference_is_an_error(official) -> None:
    broken = {key: value for key, value in official.items() if key != "refine_head.fuse8.g1"}
    with pytest.raises(ValueError, match=r"1 missing: refine_head\.fuse8\.g1"):
        segscape.convert_checkpoint(NAME, broken)


@pytest.mark.parametrize("size", [(5, 5), (12, 16), (13, 17), (979, 6)])
def test_pyramid_equals_opencv(size: tuple[int, int]) -> None:
    """OpenCV's pyrDown and pyrUp have the same kernel and the same borders."""
    image = np.random.default_rng(0).standard_normal((*size, 3), np.float32)
    level, bands = image, []
    for _ in range(2):
        halved = cv2.pyrDown(level)
        # From one row or column too many, the nearest resize of these sizes drops the last.
        bands.append(level - cv2.pyrUp(halved)[: level.shape[0], : level.shape[1]])
        level = halved
    fine, coarse = (torch.from_numpy(band).permute(2, 0, 1)[None] for band in bands)
    expected = torch.cat([fine, F.interpolate(coarse, size=size, mode="bilinear")], dim=1)
    ours = LaplacianPyramid()(torch.from_numpy(image).permute(2, 0, 1)[None])
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-6)


def test_pyramid_follows_the_networks_precision() -> None:
    pyramid = LaplacianPyramid()
    assert pyramid.double()(torch.zeros(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64
    assert not pyramid.state_dict()


def test_evaluation_takes_sizes_down_to_the_least() -> None:
    network = segscape.create_model(NAME, 3).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, network.min_size, network.min_size)).shape == (1, 3, 1, 1)
        assert network(torch.randn(1, 3, 106, 159)).shape == (1, 3, 14, 20)


def test_the_final_head_starts_narrow() -> None:
    torch.manual_seed(0)
    network = segscape.create_model(NAME, 7)
    final = network.head[1]
    for weight in (final.conv.conv.weight, final.conv.bn.weight, final.classifier.weight, network.deep[1].weight):
        assert weight.std().item() == pytest.approx(0.01, rel=0.3)
        assert weight.mean().abs() < 0.005
    assert not any(bias.any() for bias in (final.conv.bn.bias, final.classifier.bias, network.deep[1].bias))
    assert network.context8.conv.bn.weight.eq(1).all()
    assert network.backbone.layer2[0].bn2.weight.eq(0).all()


def test_structure_loss_is_that_of_all_pairs() -> None:
    torch.manual_seed(0)
    features, finer = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 12, 20)
    resized = F.interpolate(finer, (3, 5), mode="bilinear").flatten(2)
    p = F.normalize(features.flatten(2), dim=2)
    q = F.normalize(resized, dim=2)
    expected = torch.stack(
        [
            (p[n, :, i] @ p[n, :, j] - q[n, :, i] @ q[n, :, j]).abs()
            for n in range(2)
            for i in range(15)
            for j in range(15)
        ]
    ).mean()
    assert StructureLoss()(features, finer)["structure"].item() == pytest.approx(expected.item(), rel=1e-5)
    same = StructureLoss()(features, features)["structure"]
    assert same.item() == pytest.approx(0, abs=1e-6)


def test_a_dead_channel_has_finite_gradients() -> None:
    features = torch.zeros(1, 4, 3, 5, requires_grad=True)
    StructureLoss()(features, torch.zeros(1, 4, 6, 10))["structure"].backward()
    assert features.grad.isfinite().all()


def test_reconstruction_loss_is_the_mean_squared_error() -> None:
    reconstruction = torch.full((2, 3, 4, 4), 0.5)
    assert ReconstructionLoss()(reconstruction, torch.full((2, 3, 9, 7), 2.0)).item() == pytest.approx(2.25)
