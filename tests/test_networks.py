"""What every network in the register promises."""

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image

import segscape
from segscape.benchmark.cost import network_cost
from segscape.checkpoints.card import WeightsCard
from segscape.networks import SegmentationNetwork
from segscape.networks.crm import Axis
from segscape.networks.layers import ConvNorm
from segscape.normalisation import Normalisation
from segscape.runtime.deploy import deploy
from segscape.segmentation.padding import pad_to_fit
from tests.references.bisestdc import NETWORKS, golden

SIZES = [(64, 96), (61, 83), (1, 1)]
# Where several variants differ in depth or in one kernel's size alone, one of them does for every change.
HEAVY = {
    *("isnet_resnet101", "isnet_resnet101_lip", "isnet_resnest101", "isnet_resnest101_lip", "isdnet_resnet50"),
    *("dabnet_resnet18_p4", "dabnet_resnet18_p8", "dabnet_resnet18_p16"),
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.heavy if name in HEAVY else ()) for name in segscape.list_models()],
)
def network(request) -> SegmentationNetwork:
    """An untrained network for 5 classes, in evaluation mode; its normalisations are not the identity."""
    torch.manual_seed(0)
    network = segscape.create_model(request.param, 5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.running_mean)
    return network


def test_names_and_patterns() -> None:
    assert {"stdc1_seg", "stdc2_seg", "bisestdc", "bisestdc2"} <= set(segscape.list_models())
    assert segscape.list_models("stdc*") == ["stdc1_seg", "stdc2_seg"]
    assert segscape.list_models("nothing*") == []


def test_unknown_name_is_corrected() -> None:
    with pytest.raises(ValueError, match="did you mean stdc1_seg"):
        segscape.create_model("stdc1seg", 3)


def test_classes_must_be_known() -> None:
    with pytest.raises(ValueError, match="needs num_classes"):
        segscape.create_model("stdc1_seg")


@pytest.mark.parametrize("size", SIZES)
def test_any_size_in_evaluation(network: SegmentationNetwork, size: tuple[int, int]) -> None:
    images = pad_to_fit(network, torch.randn(2, 3, *size))
    height, width = images.shape[2:]
    assert (height, width) == network.fitting_size(*size)
    with torch.no_grad():
        logits = network(images)
    assert logits.shape == (2, 5, -(-height // network.stride), -(-width // network.stride))
    assert logits.isfinite().all()


def test_training_output_reaches_every_parameter(network: SegmentationNetwork) -> None:
    trained = copy.deepcopy(network).train()
    output = trained(pad_to_fit(network, torch.randn(2, 3, 61, 83)))
    assert all(output.aux[name].shape[1] == output.logits.shape[1] for name in network.parts.aux_logits)
    sum(value.square().mean() for value in (output.logits, *output.aux.values())).backward()
    without = [name for name, parameter in trained.named_parameters() if parameter.grad is None]
    assert without == []


def test_declared_modules_exist(network: SegmentationNetwork) -> None:
    children = {name for name, _ in network.named_children()}
    named = [*network.parts.backbone, *network.parts.new, *network.parts.training_only]
    assert set(named) <= children
    assert len(set(named)) == len(named)


def test_each_tensor_is_held_once(network: SegmentationNetwork) -> None:
    pointers = [value.data_ptr() for value in network.state_dict().values() if value.numel() > 1]
    assert len(pointers) == len(set(pointers))


def test_deployed_network_is_equal(network: SegmentationNetwork) -> None:
    images = pad_to_fit(network, torch.randn(1, 3, 61, 83))
    with torch.no_grad():
        expected = network(images)
        deployed = deploy(network)
        torch.testing.assert_close(deployed(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    # What stands behind a convolution is folded where a block says so; any other normalisation stays.
    blocks = [module for module in deployed.modules() if isinstance(module, ConvNorm)]
    assert not any(isinstance(block.bn, torch.nn.BatchNorm2d) for block in blocks)


def _segmenter(network: SegmentationNetwork) -> segscape.Segmenter:
    palette = tuple((40 * index, 0, 0) for index in range(5))
    card = WeightsCard("untrained", ("a", "b", "c", "d", "e"), palette, Normalisation())
    return segscape.Segmenter(network, card, device="cpu")


def test_a_real_aerial_image(network: SegmentationNetwork) -> None:
    image = Image.open(sorted((Path(__file__).parent / "data" / "inria").rglob("*.png"))[0]).convert("RGB")
    segmenter = _segmenter(network)
    for size in ((256, 256), (201, 143)):
        labels = segmenter.segment(image.crop((0, 0, size[1], size[0]))).labels
        assert labels.shape == size
        assert labels.max() < 5


@pytest.mark.heavy
def test_a_real_street_frame_of_full_size(network: SegmentationNetwork, camvid_examples: Path) -> None:
    frame = Image.open(sorted((camvid_examples / "images" / "val").iterdir())[0]).resize((2048, 1024))
    assert _segmenter(network).segment(frame).labels.shape == (1024, 2048)


@pytest.mark.parametrize("variant", ["bisestdc", "stdc1", "stdc2"])
def test_cost_equals_the_official_count(variant: str) -> None:
    reference = golden()["variants"][variant]
    for size in ("512x1024", "768x1536"):
        height, width = map(int, size.split("x"))
        cost = network_cost(NETWORKS[variant], size=(height, width))
        assert cost.parameters == reference["parameters"]["inference_only"]
        assert cost.macs == cost.authors_macs == reference["macs"][size]["inference_only"]


@pytest.mark.parametrize(("variant", "name"), [("cls_stdc1", "stdc1"), ("cls_stdc2", "stdc2")])
def test_classifier_parameters(variant: str, name: str) -> None:
    network = segscape.create_model(name, 1000)
    assert sum(p.numel() for p in network.parameters()) == golden()["variants"][variant]["parameters_used"]


@pytest.fixture(scope="module", params=segscape.list_models(task="refinement"))
def refiner(request) -> torch.nn.Module:
    torch.manual_seed(0)
    return segscape.create_model(request.param)


@pytest.mark.parametrize("size", SIZES)
def test_a_refiner_takes_any_size_and_is_asked_for_any(refiner: torch.nn.Module, size: tuple[int, int]) -> None:
    images, masks = torch.randn(2, 3, *size), torch.rand(2, 1, *size) * 2 - 1
    with torch.no_grad():
        logits = refiner(images, masks, size=(37, 50))
        features = refiner.features(images, masks)
    assert logits.shape == (2, 1, 37, 50)
    assert logits.isfinite().all()
    assert features.shape == (2, refiner.fusion.channels, -(-size[0] // 2), -(-size[1] // 2))


def test_training_reaches_every_parameter_of_a_refiner(refiner: torch.nn.Module) -> None:
    trained = copy.deepcopy(refiner).train()
    trained(torch.randn(2, 3, 61, 83), torch.randn(2, 1, 61, 83), size=(61, 83)).square().mean().backward()
    assert [name for name, parameter in trained.named_parameters() if parameter.grad is None] == []


def test_a_refiner_knows_one_object() -> None:
    assert segscape.list_models(task="refinement") == ["crm_efficientnet_lite0", "crm_resnet18", "crm_resnet50"]
    assert "crm_resnet50" not in segscape.list_models()
    with pytest.raises(ValueError, match="refines the mask of one object; it has no 3 classes"):
        segscape.create_model("crm_resnet50", 3)


@pytest.mark.parametrize("points", [1, 96, 2175, 4064, 6061])
@pytest.mark.parametrize("features", [1, 3, 48, 2032, 3031])
def test_a_point_lies_between_its_two_features(points: int, features: int) -> None:
    axis = Axis.of(points, features)
    lower, upper = axis.cells
    # A point before the first centre or behind the last has the same feature twice.
    assert ((upper - lower == 1) | (lower == upper) & ((lower == 0) | (lower == features - 1))).all()
    place = (axis.positions + 1) * features / 2 - 0.5
    torch.testing.assert_close(axis.offsets, 2 * (place - axis.cells), rtol=0, atol=1e-8)
    assert axis.step == pytest.approx(2 * features / points)
