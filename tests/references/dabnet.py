"""DABNet and its ablations beside the numbers of the authors' code, case by case.

The weights and inputs of every case are those of `tests/golden/fill.py`; the weights go through the conversion from the
official names, and back.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import segscape
from segscape.benchmark.cost import NetworkCost, network_cost
from segscape.checkpoints.convert import to_official
from segscape.checkpoints.convert.dabnet import FORMATS
from segscape.losses import Criterion, CrossEntropy, LossTerm
from segscape.networks import SegmentationOutput
from segscape.networks.dabnet import DABNet, PatchModule, ResNet18, SpatialPath
from segscape.networks.layers import ConvNormAct
from tests.golden import fill
from tests.references.common import GOLDEN, Comparison, compare

FOLDER = GOLDEN / "dabnet"

NETWORKS = {
    "R_P1": "dabnet_resnet18_p1",
    "R_P2": "dabnet_resnet18_p2",
    "R_P4": "dabnet_resnet18_p4",
    "R_P8": "dabnet_resnet18_p8",
    "R_P16": "dabnet_resnet18_p16",
    "E": "dabnet_efficientnet_b1",
    "R_P2_coco": "dabnet_resnet18_p2",
    "E_coco": "dabnet_efficientnet_b1",
    "R_P2_camvid": "dabnet_resnet18_p2",
    "E_camvid": "dabnet_efficientnet_b1",
}
"""The golden files' variants and our names for them."""

ARRAY_TOLERANCE = 1e-5
LOSS_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
NEAR_TIES = 5e-5
"""The share of all pixels whose best classes float32 rounding may exchange."""
STATISTICS_TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
TERMS = {"decode": ("logits", 1.0), "aux_0": ("aux16", 0.4), "aux_1": ("aux32", 0.4)}
"""The official names of the outputs that have a loss, ours and the loss's weight."""


@cache
def golden() -> dict[str, Any]:
    return json.loads((FOLDER / "golden.json").read_text())


@cache
def official_keys(variant: str) -> dict[str, list[int]]:
    return json.loads((FOLDER / f"keys_{variant}.json").read_text())


def filled(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in fill.state_dict(shapes).items()}


def gradient_tolerance(variant: str, dtype: str) -> float:
    if dtype == "float64":
        return 1e-6
    # Float32 rounding, amplified by batch statistics over few positions.
    return 0.05 if variant in ("R_P8", "R_P16") else 0.02


def reference_network(variant: str) -> DABNet:
    """The network of a variant with the weights that its goldens were made with, in evaluation mode."""
    state = segscape.convert_checkpoint(NETWORKS[variant], {"state_dict": filled(official_keys(variant))})
    network = segscape.create_model(NETWORKS[variant], golden()["variants"][variant]["num_classes"])
    network.load_state_dict(state)
    return network.eval()


def _drawn(call: str) -> Tensor:
    """What a recorded call such as "fill.image('image', (1, 3, 128, 192))" draws."""
    name, arguments = call.removeprefix("fill.").split("(", 1)
    return torch.from_numpy(getattr(fill, name)(*ast.literal_eval(f"({arguments}")))


_MODULES = {
    "ctx.stem": "backbone.stem",
    "ctx.blocks.0": "backbone.blocks.0",
    "SIM_0": "patches.0",
    "SIM_3": "patches.3",
    "sp_2": "spatial.out",
    "ffm": "fusion",
    "logits": "head",
}


def evaluation_outputs(label: str, network: DABNet, entry: dict[str, Any], arrays: Any) -> Iterator[Comparison]:
    """Features and logits in evaluation mode, and the logits' statistics at the size of the image."""
    features: dict[str, Tensor] = {}

    def keep(module: nn.Module, inputs: Any, output: Tensor, *, key: str) -> None:
        features[key] = output.clone()

    hooks = [
        network.get_submodule(_MODULES[key]).register_forward_hook(partial(keep, key=key)) for key in entry["arrays"]
    ]
    images = _drawn(entry["input"]["call"])
    with torch.no_grad():
        logits = network(images)
    for hook in hooks:
        hook.remove()
    for key, stored in entry["arrays"].items():
        c, h, w = stored["stride_chw"]
        ours = features[key][:, ::c, ::h, ::w]
        yield compare(f"{label} {key}", ours, arrays[stored.get("npz_key", key)], ARRAY_TOLERANCE)
        yield compare(f"{label} {key} largest", features[key].abs().max(), stored["abs_max"], ARRAY_TOLERANCE)
    full = F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
    expected = entry["full_logits"]
    yield compare(f"{label} full logits mean", full.double().mean(), expected["mean"], ARRAY_TOLERANCE)
    yield compare(f"{label} full logits deviation", full.double().std(), expected["std"], ARRAY_TOLERANCE)
    if expected["argmax_histogram"] is not None:
        counts = full.argmax(1).flatten().bincount(minlength=full.shape[1])
        # Pixels whose two best logits nearly tie may go either way.
        moved = 2 / max(expected["argmax_histogram"])
        yield compare(f"{label} predicted pixels", counts, expected["argmax_histogram"], moved)


def training_losses(
    label: str, network: DABNet, entry: dict[str, Any], dtype: str, official_name: Callable[[str], str]
) -> Iterator[Comparison]:
    """Every loss term, the right pixels, gradient norms and the running statistics after one forward pass."""
    expected = entry["training"][dtype]
    for module in network.train().modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    images = _drawn(entry["training"]["image"]).to(getattr(torch, dtype))
    labels = _drawn(entry["training"]["labels"])
    terms = [LossTerm(ours, CrossEntropy(mean_over="all"), weight) for ours, weight in TERMS.values()]
    criterion = Criterion(terms, align_corners=network.align_corners)
    output = network(images)
    assert isinstance(output, SegmentationOutput)
    outputs = {"logits": output.logits, **output.aux}
    losses = criterion(outputs, labels)
    for official, (ours, weight) in TERMS.items():
        value, reference = weight * losses[ours].detach(), expected[f"{official}.loss_ce"]
        yield compare(f"{label} {dtype} loss {official}", value, reference, LOSS_TOLERANCE[dtype])
        resized = F.interpolate(outputs[ours].detach(), labels.shape[-2:], mode="bilinear", align_corners=False)
        accuracy = 100 * (resized.argmax(1) == labels).double().mean()
        # In float32 a near tie may go either way.
        moved = 100 * NEAR_TIES / expected[f"{official}.acc_seg"] if dtype == "float32" else 1e-6
        yield compare(f"{label} {dtype} right pixels {official}", accuracy, expected[f"{official}.acc_seg"], moved)
    yield compare(f"{label} {dtype} total", losses["total"].detach(), expected["total_loss"], LOSS_TOLERANCE[dtype])

    parameters = {official_name(ours): parameter for ours, parameter in network.named_parameters()}
    for official, ours in {"decode.loss_ce": "logits", "total_loss": "total"}.items():
        norms = expected[f"grad_l2_of_{official}"]
        gradients = torch.autograd.grad(losses[ours], [parameters[name] for name in norms], retain_graph=True)
        for gradient, (name, norm) in zip(gradients, norms.items(), strict=True):
            tolerance = gradient_tolerance(label, dtype)
            yield compare(f"{label} {dtype} gradient of {official}, {name}", gradient.norm(), norm, tolerance)

    buffers = {official_name(ours): value for ours, value in network.named_buffers()}
    for name, reference in expected["after_one_forward"].items():
        value = buffers[name.removesuffix("_l2")].to(torch.float64).norm()
        yield compare(f"{label} {dtype} statistics {name}", value, reference, STATISTICS_TOLERANCE[dtype])


def costs(
    label: str, network: DABNet, cost: Callable[[tuple[int, int]], NetworkCost], entry: dict[str, Any]
) -> Iterator[Comparison]:
    """Parameters with and without training heads, and multiply-accumulates at every size.

    Args:
        label: Of the comparisons.
        network: Counted whole.
        cost: From (height, width) to the cost of inference.
        entry: The golden's.
    """
    total = sum(parameter.numel() for parameter in network.parameters())
    yield compare(f"{label} parameters", total, entry["parameters"]["total"], 0.0)
    for key, expected in entry["multiply_accumulates"].items():
        height, width = map(int, key.split(" ")[0].split("x"))
        ours = cost((height, width))
        without_heads = entry["parameters"]["without_auxiliary_heads"]
        yield compare(f"{label} parameters at inference", ours.parameters, without_heads, 0.0)
        yield compare(f"{label} multiply-accumulates at {height}x{width}", ours.authors_macs, expected, 0.0)


def variant_comparisons(variant: str) -> Iterator[Comparison]:
    """All that is known of one variant, on one set of weights."""
    entry = golden()["variants"][variant]
    name, num_classes = NETWORKS[variant], entry["num_classes"]
    official = filled(official_keys(variant))
    converted = segscape.convert_checkpoint(name, {"state_dict": official})
    yield compare(f"{variant} entries", len(converted), entry["state_dict_entries"], 0.0)
    restored = to_official(name, converted)
    different = official.keys() ^ restored.keys() | {key for key in official if not official[key].equal(restored[key])}
    yield compare(f"{variant} entries that do not come back", len(different), 0, 0.0)
    del official, restored

    network = segscape.create_model(name, num_classes)
    network.load_state_dict(converted)
    with np.load(FOLDER / f"golden_{variant}.npz") as arrays:
        yield from evaluation_outputs(variant, network.eval(), entry, arrays)
    for dtype in ("float32", "float64"):
        network.load_state_dict(converted)
        network.to(getattr(torch, dtype))
        yield from training_losses(variant, network, entry, dtype, FORMATS[name][0].official_name)
    yield from costs(variant, network, lambda size: network_cost(name, num_classes=num_classes, size=size), entry)


class _ChannelSummary(nn.Module):
    """A patch's pixels as channels, without their mean."""

    def __init__(self, in_channels: int, out_channels: int, patch: int) -> None:
        super().__init__()
        self.unshuffle = nn.PixelUnshuffle(patch)
        self.channel = ConvNormAct(in_channels * patch**2, out_channels, 3, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel(self.unshuffle(x))


class _MeanSummary(nn.Module):
    """The mean of a patch's pixels alone."""

    def __init__(self, in_channels: int, out_channels: int, patch: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(patch)
        self.channel = ConvNormAct(in_channels, out_channels, 3, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel(self.pool(x))


class _NoSpatialPath(nn.Module):
    """The context at stride 8 in place of a spatial path."""

    def forward(self, images: Tensor, x2: Tensor, x4: Tensor, x8: Tensor) -> Tensor:
        return x8


class _BiSeNetSpatialPath(nn.Module):
    """BiSeNet's: from the image alone."""

    def __init__(self) -> None:
        super().__init__()
        self.image = ConvNormAct(3, 64, 7, stride=2)
        self.down = ConvNormAct(64, 64, 3, stride=2)
        self.out = ConvNormAct(64, 64, 3, stride=2)
        self.expand = ConvNormAct(64, 128, 1)

    def forward(self, images: Tensor, x2: Tensor, x4: Tensor, x8: Tensor) -> Tensor:
        return self.expand(self.out(self.down(self.image(images))))


def ablation_network(name: str, num_classes: int = 19) -> DABNet:
    """An ablation of R_P2, made of its building blocks."""
    backbone = ResNet18()
    shapes = list(zip(backbone.stage_channels[1:], (32, 64, 64, 64), strict=True))
    patches: list[nn.Module] = [PatchModule(channels, hidden, 2) for channels, hidden in shapes]
    summary = {"channel": _ChannelSummary, "spatial": _MeanSummary}.get(name)
    if summary is not None:
        for module, (channels, hidden) in zip(patches, shapes, strict=True):
            module.low = summary(channels, hidden, 2)
    without_patches = ("cgsp_only", "no_spatial_path", "bisenetv1_baseline")
    kept = {"hfa_stage0": 1, "hfa_stage01": 2, "hfa_stage012": 3, **dict.fromkeys(without_patches, 0)}.get(name, 4)
    patches[kept:] = [nn.Identity() for _ in patches[kept:]]
    spatial: nn.Module = SpatialPath(backbone.stage_channels[:3])
    if name in ("hfa_only", "no_spatial_path"):
        spatial = _NoSpatialPath()
    elif name == "bisenetv1_baseline":
        spatial = _BiSeNetSpatialPath()
    return DABNet(backbone, patches, spatial, num_classes=num_classes, size_multiple=64)


def ablation_keys(name: str) -> dict[str, list[int]]:
    """The official entries of an ablation, stored as what differs from R_P2."""
    difference = json.loads((FOLDER / "keys_ablations.json").read_text())[name]
    removed = tuple(f"{prefix}." for prefix in difference["removed_prefixes"])
    kept = {key: shape for key, shape in official_keys("R_P2").items() if not key.startswith(removed)}
    return {**kept, **difference["changed"], **difference["added"]}


def _ablation_cost(name: str, size: tuple[int, int]) -> NetworkCost:
    with torch.device("meta"):
        network = ablation_network(name).eval()
        images = torch.empty(1, 3, *size)
    for head in network.parts.training_only:
        delattr(network, head)
    with FlopCounterMode(display=False) as counter:
        network(images)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    macs = counter.get_total_flops() // 2
    return NetworkCost(parameters=parameters, macs=macs, authors_macs=macs, stride=network.stride)


def ablation_comparisons(name: str) -> Iterator[Comparison]:
    """All that is known of one ablation."""
    entry = golden()["ablations"][name]
    official = filled(ablation_keys(name))
    known = FORMATS["dabnet_resnet18_p2"][0]

    def official_name(ours: str) -> str:
        return known.official_name(ours).replace("spatial.expand.", "backbone.sp_3.")

    network = ablation_network(name)
    state = {ours: official.pop(official_name(ours)) for ours in network.state_dict()}
    yield compare(f"{name} entries", len(state), entry["state_dict_entries"], 0.0)
    yield compare(f"{name} entries without a place", len(official), 0, 0.0)
    network.load_state_dict(state)
    with np.load(FOLDER / "golden_ablations.npz") as arrays:
        yield from evaluation_outputs(name, network.eval(), entry, arrays)
    yield from training_losses(name, network, entry, "float32", official_name)
    yield from costs(name, network, partial(_ablation_cost, name), entry)


def every_comparison() -> Iterator[Comparison]:
    for variant in NETWORKS:
        yield from variant_comparisons(variant)
    for name in golden()["ablations"]:
        yield from ablation_comparisons(name)
