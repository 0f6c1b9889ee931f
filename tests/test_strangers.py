"""Networks that nobody here has seen before go through everything that those of the register go through."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from segscape import registry
from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.store import create_model
from segscape.export.metadata import SUFFIXES
from segscape.export.write import export_network
from segscape.losses import Criterion
from segscape.networks import SegmentationNetwork
from segscape.normalisation import Normalisation
from segscape.runtime.base import Deployed, RuntimeUnavailableError
from segscape.runtime.create import create_runtime
from segscape.runtime.deploy import deploy
from segscape.scenes.streaming.graph import trace
from segscape.training.segmentation import default_losses
from tests import zoo

STRANGERS = {**zoo.STREAMED, **{name: build for name, (build, _) in zoo.REFUSED.items() if name != "a branch by value"}}
CARD = WeightsCard("stranger", tuple("abcde"), ((0, 0, 0),) * 5, Normalisation())


def _stranger(name: str) -> zoo.Stranger:
    torch.manual_seed(0)
    return STRANGERS[name]().eval()


# What the libraries cannot express is refused; everything else computes the same.
WINDOWS = {"every other pixel", "poolings that reach beyond", "average pooling that reaches beyond"}
REFUSED_BY_RUNTIME = {
    "onnx": {
        *WINDOWS,
        "mean as an average pooling",
        "average pooling with a divisor",
        "max unpooling",
        "pyramid pooling",
    },
    "openvino": {"mean as an average pooling", "average pooling with a divisor", "max unpooling", "nearest and exact"},
}
REFUSED_FOR_ONE_SIZE = {
    ".onnx": {"average pooling with a divisor"},
    ".xml": REFUSED_BY_RUNTIME["openvino"],
    ".pt2": set(),
}
REFUSED_FOR_ANY_SIZE = {
    ".onnx": REFUSED_BY_RUNTIME["onnx"],
    ".xml": REFUSED_BY_RUNTIME["openvino"],
    ".pt2": {*WINDOWS, "mean as an average pooling"},
}


@pytest.mark.heavy
@pytest.mark.parametrize("runtime", ["torch", "winograd", "compile", "onnx", "openvino"])
@pytest.mark.parametrize("name", STRANGERS)
def test_every_runtime(name: str, runtime: str) -> None:
    network = _stranger(name)
    images = torch.randn(2, 3, *network.fitting_size(93, 61))
    if name in REFUSED_BY_RUNTIME.get(runtime, ()):
        with pytest.raises(RuntimeUnavailableError, match=f"The runtime {runtime} cannot be had"):
            create_runtime(runtime, Deployed(deploy(network)))
        return
    with torch.inference_mode():
        expected = network(images)
        found = create_runtime(runtime, Deployed(deploy(network)))(images)
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.heavy
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("name", STRANGERS)
def test_every_export(name: str, fixed: bool, suffix: str, tmp_path: Path) -> None:
    network, path = _stranger(name), tmp_path / f"network{suffix}"
    size = network.fitting_size(93, 61) if fixed else None
    if name in (REFUSED_FOR_ONE_SIZE if fixed else REFUSED_FOR_ANY_SIZE)[suffix]:
        with pytest.raises(ValueError, match=r"cannot be made|was not written"):
            export_network(network, CARD, path, size=size)
        assert not path.exists()
        return
    assert export_network(network, CARD, path, size=size).passed


def test_engines_of_the_same_weights_are_told_apart() -> None:
    torch.manual_seed(0)
    plain, squared = zoo.Stranger(zoo.Body(lambda x: x)), zoo.Stranger(zoo.Body(lambda x: x**2))
    squared.load_state_dict(plain.state_dict())
    assert Deployed(plain).fingerprint != Deployed(squared).fingerprint
    assert Deployed(plain).fingerprint == Deployed(deploy(plain).to(memory_format=torch.contiguous_format)).fingerprint


def test_the_network_of_the_contributors_guide() -> None:
    guide = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    module = types.ModuleType("smallnet")
    sys.modules["smallnet"] = module
    try:
        exec(compile(code, "smallnet.py", "exec"), vars(module))
        network = create_model("smallnet", 3)
    finally:
        del registry._ENTRIES["smallnet"], sys.modules["smallnet"]
    assert isinstance(network, SegmentationNetwork)
    output = network.train()(torch.randn(2, 3, 61, 83))
    criterion = Criterion(
        default_losses(network), align_corners=False, of_classes=("logits", *network.parts.aux_logits)
    )
    losses = criterion({"logits": output.logits, **output.aux}, torch.randint(0, 3, (2, 61, 83)))
    losses["total"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    deployed = deploy(network)
    assert not hasattr(deployed, "aux")
    assert trace(deployed, (61, 83)).reductions == 1
