"""ISDNet beside the numbers of its authors' code, case by case.

The weights and inputs of every case are those of `tests/golden/fill.py`; the weights go through `convert_checkpoint`
from the official names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import segscape
from segscape.benchmark.cost import network_cost
from segscape.checkpoints.convert import leftovers, to_official
from segscape.checkpoints.convert.isdnet import FORMATS
from segscape.losses import Criterion, CrossEntropy, LossTerm, ReconstructionLoss, StructureLoss
from segscape.networks.isdnet import ISDNet
from tests.golden import fill
from tests.references.common import GOLDEN, Comparison, compare

FOLDER = GOLDEN / "isdnet"
NAME = "isdnet_resnet18"

VARIANTS = ["deepglobe", "inria", "cityscapes", "deepglobe_odd"]
CHECKPOINTS = ["deepglobe", "inria", "cityscapes"]

ARRAY_TOLERANCE = 2e-5
LOSS_TOLERANCE = 5e-6
GRADIENT_TOLERANCE = {"float32": 5e-3, "float64": 1e-8}
MOVED_PIXELS = {"float32": 8, "float64": 2}
"""How many pixels of a training batch, whose two best logits nearly tie, may go the other way."""


@cache
def golden() -> dict[str, Any]:
    return json.loads((FOLDER / "golden.json").read_text())


def official_state(variant: str) -> dict[str, Tensor]:
    """The official checkpoint that the goldens were made with: aliases hold the value of the entry they repeat."""
    shapes = json.loads((FOLDER / golden()["variants"][variant]["keys"]).read_text())
    aliases = golden()["weights"]["alias_map"]
    return {name: torch.from_numpy(fill.fill(aliases.get(name, name), tuple(shape))) for name, shape in shapes.items()}


def reference_network(variant: str) -> ISDNet:
    network = segscape.create_model(NAME, golden()["variants"][variant]["classes"])
    network.load_state_dict(segscape.convert_checkpoint(NAME, official_state(variant)))
    assert isinstance(network, ISDNet)
    return network.eval()


_MODULES = {
    "deep_layer3": "backbone.layer3",
    "deep_feat": "aspp",
    "laplacian": "pyramid",
    "shallow8": "shallow.stage8",
    "shallow16": "shallow.stage16",
    "s_att16": "fuse16.spatial.project",
    "c_att16": "fuse16.context.project",
    "fused16": "fuse16.smooth",
    "fused8": "fuse8.smooth",
    "logits": "head",
}


def evaluation_outputs(variant: str) -> Iterator[Comparison]:
    """Logits and intermediate features in evaluation mode."""
    entry = golden()["variants"][variant]
    network = reference_network(variant)
    outputs: dict[str, Tensor] = {}
    for key, path in _MODULES.items():

        def keep(module: nn.Module, inputs: Any, output: Tensor, key: str = key) -> None:
            outputs[key] = output

        network.get_submodule(path).register_forward_hook(keep)
    network.backbone.register_forward_pre_hook(lambda module, inputs: outputs.update(deep_input=inputs[0]))
    with torch.no_grad():
        network(torch.from_numpy(fill.image(entry["input"]["name"], tuple(entry["input"]["shape"]))))
    with np.load(FOLDER / entry["npz"]) as arrays:
        assert set(arrays.files) == set(entry["arrays"])
        for key in arrays.files:
            steps = [int(step) for step in re.findall(r"::(\d+)", entry["arrays"][key]["subsample"])] or [1]
            ours = outputs[key][tuple(slice(None, None, step) for step in steps)]
            yield compare(f"{variant} {key}", ours, arrays[key], ARRAY_TOLERANCE)


def training_criterion() -> Criterion:
    """The published recipe."""
    cross_entropy = CrossEntropy(mean_over="all")
    terms = [
        LossTerm("logits", cross_entropy),
        LossTerm("deep", cross_entropy),
        LossTerm("context8", cross_entropy),
        LossTerm("context16", cross_entropy),
        LossTerm("layer3", cross_entropy, 0.4),
        LossTerm(["reconstruction", "high_frequencies"], ReconstructionLoss(), 0.1, supervised=False),
        LossTerm(["deep_features", "reconstruction_features"], StructureLoss(), supervised=False),
    ]
    return Criterion(terms, align_corners=False)


_TERMS = {
    "refine.loss_seg": ("logits", 1.0),
    "decode.loss_seg": ("deep", 1.0),
    "aux_1.loss_seg": ("context8", 1.0),
    "aux_2.loss_seg": ("context16", 1.0),
    "aux.loss_seg": ("layer3", 0.4),
    "aux_3.recon_losses": ("reconstruction", 0.1),
    "aux_4.fa_loss": ("structure", 1.0),
    "loss": ("total", 1.0),
}
"""The official names of the losses, and ours with the weight that the official values contain."""


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    """Right pixels in percent of all, ignored ones included."""
    resized = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    return 100 * (resized.argmax(1) == labels).double().mean().item()


def training_losses(variant: str, dtype: str) -> Iterator[Comparison]:
    """Every loss term, the total, the share of right pixels and the gradient norms that are stored."""
    reference = golden()["variants"][variant]["train"]
    network = reference_network(variant).to(getattr(torch, dtype)).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    shape = tuple(reference["image_shape"])
    images = torch.from_numpy(fill.image(reference["image_name"], shape)).to(getattr(torch, dtype))
    labels = torch.from_numpy(fill.labels(reference["labels_name"], (shape[0], *shape[2:]), **reference["labels_args"]))
    output = network(images)
    outputs = {"logits": output.logits, **output.aux}
    ours = training_criterion()(outputs, labels)
    losses = {official: weight * ours[name] for official, (name, weight) in _TERMS.items()}
    for official, value in reference["losses"].items():
        label = f"{variant} {dtype} {official}"
        if official.endswith("acc_seg"):
            logits = outputs[_TERMS[official.replace("acc_seg", "loss_seg")][0]]
            moved = 100 * MOVED_PIXELS[dtype] / labels.numel() / value
            yield compare(label, _accuracy(logits.detach(), labels), value, moved)
        else:
            yield compare(label, losses[official].detach(), value, LOSS_TOLERANCE)
    parameters = {FORMATS[NAME][0].official_name(ours): value for ours, value in network.named_parameters()}
    aliases = golden()["weights"]["alias_map"]
    stored = reference["grad_norms" if dtype == "float32" else "grad_norms_float64"]
    for term, norms in stored.items():
        wanted = [parameters[aliases.get(official, official)] for official in norms]
        loss = losses["loss" if term == "total loss" else term]
        gradients = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        for (official, norm), gradient in zip(norms.items(), gradients, strict=True):
            assert (gradient is None) == (norm is None), official
            if gradient is not None:
                label = f"{variant} {dtype} gradient of {term}, {official}"
                yield compare(label, gradient.norm(), norm, GRADIENT_TOLERANCE[dtype])


def entries(variant: str) -> Iterator[Comparison]:
    """The official checkpoint to ours and back, its number of entries, and its parameters by part."""
    entry = golden()["variants"][variant]
    official = official_state(variant)
    converted = segscape.convert_checkpoint(NAME, official)
    restored = to_official(NAME, converted)
    lost = len(leftovers(NAME, official, converted)) + len(restored.keys() ^ official.keys())
    yield compare(f"{variant} entries lost on the way there and back", lost, 0, 0.0)
    yield compare(f"{variant} entries", len(restored), entry["state_dict_entries"], 0.0)
    network = reference_network(variant)
    sizes = {FORMATS[NAME][0].official_name(name): value.numel() for name, value in network.named_parameters()}
    yield compare(f"{variant} parameters", sum(sizes.values()), entry["parameters"], 0.0)
    for part, number in entry["parameters_by_part"].items():
        ours = sum(size for name, size in sizes.items() if name.startswith(part))
        yield compare(f"{variant} parameters of {part}", ours, number, 0.0)


def costs() -> Iterator[Comparison]:
    """Parameters without training heads, and multiply-accumulates at every size, in units of 100,000."""
    for key, reference in golden()["multiply_accumulates"].items():
        variant, _, size = key.partition("_")
        height, width = (int(side) for side in size.split("x"))
        official = round(reference["total_gmac"] * 1e4)
        if variant == "r50":
            cost = network_cost("isdnet_resnet50", num_classes=7, size=(height, width))
            yield compare(f"{key} multiply-accumulates", round(cost.authors_macs / 1e5), official, 0.0)
            continue
        entry = golden()["variants"][variant]
        cost = network_cost(NAME, num_classes=entry["classes"], size=(height, width))
        # The authors' count holds the deep branch's own classifier, which evaluation does not need.
        expected = entry["parameters_used_at_inference"] - (128 + 1) * entry["classes"]
        yield compare(f"{key} parameters at inference", cost.parameters, expected, 0.0)
        yield compare(f"{key} multiply-accumulates", round(cost.authors_macs / 1e5), official, 0.0)


def resnet50_form() -> Iterator[Comparison]:
    """The form on ResNet-50, of which the authors publish nothing but the code: its size and its entries."""
    entry = golden()["r50_variant"]
    with torch.device("meta"):
        network = segscape.create_model("isdnet_resnet50", 7)
    yield compare("ResNet-50 parameters", sum(p.numel() for p in network.parameters()), entry["parameters"], 0.0)
    official = to_official("isdnet_resnet50", network.state_dict())
    yield compare("ResNet-50 entries", len(official), entry["state_dict_entries"], 0.0)
    reduction = {name: list(value.shape) for name, value in official.items() if ".reduce." in name}
    assert reduction["refine_head.reduce.conv1.weight"] == [128, 512, 1, 1]
    assert {name.rsplit(".", 1)[0] for name in reduction} == {"refine_head.reduce.conv1", "refine_head.reduce.bn1"}


def every_comparison() -> Iterator[Comparison]:
    yield from costs()
    yield from resnet50_form()
    for variant in CHECKPOINTS:
        yield from entries(variant)
    for variant in VARIANTS:
        yield from evaluation_outputs(variant)
        for dtype in ("float32", "float64"):
            yield from training_losses(variant, dtype)
