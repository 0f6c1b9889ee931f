"""ISNet beside the numbers of its authors' code and of the port in MMSegmentation's projects, case by case.

The weights and inputs of every case are those of `tests/golden/fill.py`; the weights go through `convert_checkpoint`
from the official names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import segscape
from segscape.benchmark.cost import network_cost
from segscape.checkpoints.convert import detect_format, leftovers, to_official
from segscape.checkpoints.convert.isnet import FORMATS
from segscape.checkpoints.convert.official import OfficialFormat
from segscape.evaluation.protocols import EvaluationProtocol, mean_score_maps, scaled_tensors
from segscape.losses import Criterion, CrossEntropy, LossTerm
from segscape.networks.isnet import ISNet, ISNetShortcut
from tests.golden import fill
from tests.references import resnest
from tests.references.common import GOLDEN, Comparison, compare

FOLDER = GOLDEN / "isnet"

NETWORKS = {
    "r50_cityscapes": "isnet_resnet50",
    "r101_cityscapes": "isnet_resnet101",
    "r50_ade20k": "isnet_resnet50",
    "r50_lip": "isnet_resnet50_lip",
    "mmseg_r50_cityscapes": "isnet_resnet50",
}
"""The golden files' variants and our names for them."""

AUTHORS = [variant for variant in NETWORKS if not variant.startswith("mmseg")]

# The goldens are float32, which rounds otherwise on another processor; float64 is as far from them everywhere.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-5}
# In float32, rounding puts some of millions of ReLUs on the other side of zero; the gradients here are float64.
GRADIENT_TOLERANCE = 1e-2

_MODULES = {
    "layer1": "backbone.layer1",
    "layer2": "backbone.layer2",
    "layer3": "backbone.layer3",
    "layer4": "backbone.layer4",
    "bottleneck": "reduce",
    "image_level": "image_context",
    "stage1_logits": "stage1",
    "semantic_level": "semantic_context",
    "shortcut": "shortcut",
}
_PARTS = {
    "bottleneck": "reduce",
    "ilc_net": "image_context",
    "slc_net": "semantic_context",
    "decoder_stage1": "stage1",
    "decoder_stage2": "stage2",
    "auxiliary_decoder": "aux",
    "backbone_net": "backbone",
}
_LOSSES = {"loss_aux": "aux", "loss_cls_stage1": "stage1", "loss_cls_stage2": "logits", "loss_total": "total"}


@cache
def golden() -> dict[str, Any]:
    return json.loads((FOLDER / "golden.json").read_text())


def reference(variant: str) -> dict[str, Any]:
    return golden()["variants"][variant]


def official_state(variant: str) -> dict[str, Tensor]:
    """The official checkpoint that the goldens were made with."""
    shapes = json.loads((FOLDER / f"keys_{variant}.json").read_text())
    return {name: torch.from_numpy(value) for name, value in fill.state_dict(shapes).items()}


def reference_network(variant: str) -> ISNet:
    """Our network with the weights of a golden variant, in evaluation mode."""
    name = NETWORKS[variant]
    with torch.device("meta"):
        network = segscape.create_model(name, reference(variant)["config"]["classes"])
    network.load_state_dict(segscape.convert_checkpoint(name, official_state(variant)), assign=True)
    return network.eval()


def port_shortcut_network() -> ISNet:
    """The port's form with a shortcut, which no published checkpoint has: ReLU, a 3x3 fusion, no bias before a norm."""
    network = ISNetShortcut("resnet50", 19)
    replaced = network.stage2.conv.conv
    network.stage2.conv.conv = nn.Conv2d(replaced.in_channels, replaced.out_channels, 3, padding=1, bias=False)
    network.shortcut.conv.bias = None
    official = official_state("mmseg_r50_shortcut")
    names = {ours: _port_format().official_name(ours) for ours in network.state_dict()}
    assert sorted(names.values()) == sorted(official)
    network.load_state_dict({ours: official[name] for ours, name in names.items()})
    return network.eval()


def _port_format() -> OfficialFormat:
    return next(known for known in FORMATS["isnet_resnet50"] if known.origin == "mmsegmentation")


def resnest_outputs() -> Iterator[Comparison]:
    """The backbone that no golden has, by its paper, its size, and its official entries beside those of the head."""
    head = json.loads((FOLDER / "keys_r50_cityscapes.json").read_text())
    shapes = {name: shape for name, shape in head.items() if not name.startswith("backbone_net.")}
    shapes |= {f"backbone_net.{name}": shape for name, shape in resnest.shapes().items()}
    official = {name: torch.from_numpy(value) for name, value in fill.state_dict(shapes).items()}
    with torch.device("meta"):
        network = segscape.create_model("isnet_resnest101", 19)
    network.load_state_dict(segscape.convert_checkpoint("isnet_resnest101", official), assign=True)
    # timm's form for ImageNet has a classifier of 2048 x 1000 and 1000 parameters more.
    count = sum(parameter.numel() for parameter in network.backbone.parameters())
    yield compare("parameters of the backbone", count, 48_275_016 - 2_049_000, 0)
    images = torch.from_numpy(fill.image("resnest", (1, 3, 97, 130)))
    inner = {name.removeprefix("backbone_net."): value for name, value in official.items()}
    with torch.no_grad():
        for number, stage in enumerate(resnest.stages(inner, images), start=1):
            ours = network.eval().backbone(images)[number - 1]
            yield compare(f"ResNeSt-101, stage {number}", ours, stage, 1e-5)


def _recorded(network: ISNet, images: Tensor) -> dict[str, Tensor]:
    """The golden arrays of one evaluation forward; the last two also with one key a pixel."""
    features: dict[str, Tensor] = {}

    def keep(key: str, output: Tensor) -> None:
        features[key] = output

    present = dict(network.named_modules())
    handles = [
        present[path].register_forward_hook(lambda module, inputs, output, key=key: keep(key, output))
        for key, path in _MODULES.items()
        if path in present
    ]
    with torch.no_grad():
        keep("logits", network(images))
        for handle in handles:
            handle.remove()
        bottleneck, logits = features["bottleneck"], features["stage1_logits"]
        classes = logits.argmax(1)
        vectors, _ = network.semantic_context.pool(bottleneck, logits, classes)
        keep("class_aggregate", torch.stack([v[:, owner] for v, owner in zip(vectors, classes, strict=True)]))
        # Of this module alone: the norms below it stay in evaluation mode.
        network.semantic_context.training = True
        semantic = network.semantic_context(bottleneck, logits, features["image_level"])
        network.semantic_context.training = False
        keep("semantic_level, one key a pixel", semantic)
        keep("logits, one key a pixel", network.classify(semantic, features["layer1"]))
    return features


def evaluation_outputs(variant: str) -> Iterator[Comparison]:
    """Every stored array; with one key a class and, as the authors' code has it, with one key a pixel."""
    entry = reference(variant)
    network = port_shortcut_network() if variant == "mmseg_r50_shortcut" else reference_network(variant)
    images = torch.from_numpy(fill.image(entry["input"]["name"], tuple(entry["input"]["shape"])))
    with np.load(FOLDER / f"golden_{variant}.npz") as arrays:
        for dtype, tolerance in TOLERANCE.items():
            features = _recorded(network.to(dtype), images.to(dtype))
            case = f"{variant} {dtype}"
            for key, ours in features.items():
                golden_key = key.partition(",")[0]
                if golden_key not in arrays:
                    continue
                steps = tuple(slice(None, None, step) for step in entry["arrays"][golden_key]["step"])
                yield compare(f"{case} {key}", ours[steps], arrays[golden_key], tolerance)
            if arrays["stage1_logits"].shape == features["stage1_logits"].shape:
                classes = features["stage1_logits"].argmax(1)
                yield compare(f"{case} classes", classes, arrays["stage1_logits"].argmax(1), 0.0)


def criterion(*, loss: CrossEntropy, stage1: float = 0.4, stage2: float = 1.0) -> Criterion:
    terms = [LossTerm("logits", loss, stage2), LossTerm("stage1", loss, stage1), LossTerm("aux", loss, 0.4)]
    return Criterion(terms, align_corners=False)


def _training_network(variant: str) -> ISNet:
    network = reference_network(variant).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    return network


def _training_outputs(variant: str, network: ISNet, dtype: torch.dtype) -> tuple[dict[str, Tensor], Tensor]:
    """The outputs of the stored training batch by name, and its labels; gradients in float64 alone."""
    case = reference(variant)["train"]
    images = torch.from_numpy(fill.image(case["input"]["name"], tuple(case["input"]["shape"]))).to(dtype)
    labels = fill.labels(case["labels"]["name"], tuple(case["labels"]["shape"]), case["labels"]["classes"])
    with torch.set_grad_enabled(dtype == torch.float64):
        output = network.to(dtype)(images)
    return {"logits": output.logits, **output.aux}, torch.from_numpy(labels)


def _gradients(
    variant: str, network: ISNet, loss: Tensor, term: str, norms: Mapping[str, float]
) -> Iterator[Comparison]:
    official_name = detect_format(NETWORKS[variant], official_state(variant)).official_name
    parameters = {official_name(ours): parameter for ours, parameter in network.named_parameters()}
    gradients = torch.autograd.grad(loss, [parameters[name] for name in norms], retain_graph=True)
    for (official, norm), gradient in zip(norms.items(), gradients, strict=True):
        name = f"{variant} gradient of {term}, {official}"
        if official == "shortcut.0.bias":
            # Batch normalisation takes it away, so the authors' value is rounding.
            yield Comparison(name, float(gradient.norm()), 1e-6)
        else:
            yield compare(name, gradient.norm(), norm, GRADIENT_TOLERANCE)


def training_losses(variant: str) -> Iterator[Comparison]:
    """Every loss term, the total, gradient norms and running statistics after one forward."""
    network = _training_network(variant)
    expected = reference(variant)["train"]["losses"]
    official_name = FORMATS[NETWORKS[variant]][0].official_name
    for dtype, tolerance in TOLERANCE.items():
        losses = criterion(loss=CrossEntropy())(*_training_outputs(variant, network, dtype))
        for term, value in {**expected["unweighted"], "loss_total": expected["weighted"]["loss_total"]}.items():
            yield compare(f"{variant} {dtype} {term}", losses[_LOSSES[term]].detach(), value, tolerance)
        if dtype == torch.float32:
            buffers = {official_name(ours): value for ours, value in network.named_buffers()}
            for official, norm in expected["buffer_norm_after_one_forward"].items():
                yield compare(f"{variant} statistics {official}", buffers[official].norm(), norm, tolerance)
    for term in ("loss_cls_stage2", "total_loss"):
        loss = losses["total" if term == "total_loss" else "logits"]
        yield from _gradients(variant, network, loss, term, expected[f"grad_norm_of_{term}"])


def port_training_losses() -> Iterator[Comparison]:
    """The port's losses: plain, and as configured, over all pixels and with the two stages' weights exchanged."""
    variant = "mmseg_r50_cityscapes"
    expected = reference(variant)["train"]["losses"]
    configured = expected["port_as_configured"]
    network = _training_network(variant)
    for dtype, tolerance in TOLERANCE.items():
        outputs, labels = _training_outputs(variant, network, dtype)
        plain = criterion(loss=CrossEntropy())(outputs, labels)
        for term, output in {"stage1": "stage1", "stage2": "logits", "aux": "aux"}.items():
            value = expected["unweighted_mean_over_valid_pixels"][term]
            yield compare(f"{variant} {dtype} {term}", plain[output].detach(), value, tolerance)
        over_all = criterion(loss=CrossEntropy(mean_over="all"), stage1=1.0, stage2=0.4)(outputs, labels)
        weighted = {
            "decode.loss_o": over_all["stage1"],
            "decode.loss_d": 0.4 * over_all["logits"],
            "aux.loss_ce": 0.4 * over_all["aux"],
        }
        for key, ours in weighted.items():
            yield compare(f"{variant} {dtype} {key}", ours.detach(), configured[key], tolerance)
        total = sum(configured[key] for key in weighted)
        yield compare(f"{variant} {dtype} total as configured", over_all["total"].detach(), total, tolerance)
    for key, output in (("decode.acc_seg", "logits"), ("aux.acc_seg", "aux")):
        resized = F.interpolate(outputs[output].detach(), labels.shape[1:], mode="bilinear", align_corners=False)
        right = 100.0 * (resized.argmax(1) == labels)[labels != 255].double().mean()
        # Of about 1,200 right pixels, the two best logits of some nearly tie.
        yield compare(f"{variant} {key}", right, configured[key], 3e-3)
    norms = expected["grad_norm_of_stage2_unweighted"]
    yield from _gradients(variant, network, plain["logits"], "stage2", norms)


def round_trip(variant: str) -> Iterator[Comparison]:
    """Official names and values -> ours -> official, nothing left over."""
    name, official = NETWORKS[variant], official_state(variant)
    converted = segscape.convert_checkpoint(name, official)
    restored = to_official(name, converted, origin=detect_format(name, official).origin)
    yield compare(f"{variant} entries", len(converted), len(official), 0.0)
    yield compare(f"{variant} entries left over", len(leftovers(name, official, converted)), 0, 0.0)
    differing = [key for key, value in official.items() if not torch.equal(restored.get(key, torch.empty(0)), value)]
    yield compare(f"{variant} entries changed", len(differing) + len(restored.keys() - official.keys()), 0, 0.0)


def port_names() -> Iterator[Comparison]:
    """The two formats' names of each entry, as the port's own table pairs them."""
    table = json.loads((FOLDER / "mapping_ssseg_to_mmseg.json").read_text())
    authors, port = FORMATS["isnet_resnet50"]
    with torch.device("meta"):
        entries = segscape.create_model("isnet_resnet50", 19).state_dict()
    pairs = {authors.official_name(ours): port.official_name(ours) for ours in entries}
    expected = dict(table["names"])
    for ours in pairs:
        for prefix, replacement in table["prefix"].items():
            if ours.startswith(prefix):
                expected[ours] = replacement + ours.removeprefix(prefix)
    yield Comparison("names in the authors' code and in the port", float(pairs != expected), 0.0)


def costs(variant: str) -> Iterator[Comparison]:
    """Parameters, and multiply-accumulates at every stored size."""
    entry = reference(variant)
    num_classes = entry["config"]["classes"]
    with torch.device("meta"):
        network = segscape.create_model(NETWORKS[variant], num_classes)
    assert isinstance(network, ISNet)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    yield compare(f"{variant} parameters", parameters, entry["parameters"], 0.0)
    for size, expected in entry["macs"].items():
        height, width = map(int, size.split("x"))
        cost = network_cost(NETWORKS[variant], num_classes=num_classes, size=(height, width))
        yield compare(f"{variant} inference parameters", cost.parameters, entry["parameters_without_auxiliary"], 0.0)
        yield compare(f"{variant} multiply-accumulates at {size}", cost.authors_macs, expected, 0.0)


def costs_of_parts() -> Iterator[Comparison]:
    """Parameters and multiply-accumulates of each part of the head."""
    with torch.device("meta"):
        network = segscape.create_model("isnet_resnet50", 19).eval()
    for part, expected in golden()["parameters_by_module_19_classes_r50"].items():
        parameters = sum(parameter.numel() for parameter in network.get_submodule(_PARTS[part]).parameters())
        yield compare(f"parameters of {part}", parameters, expected, 0.0)
    for size, expected in golden()["context_head_macs"].items():
        if size == "note":
            continue
        height, width = map(int, size.split("x"))
        layer4, features, logits = (
            torch.empty(1, channels, height, width, device="meta") for channels in (2048, 512, 19)
        )
        calls = {
            "bottleneck": lambda x=layer4: network.reduce(x),
            "image_level": lambda x=features: network.image_context(x),
            "semantic_level": lambda x=features, z=logits: network.semantic_context(x, z, x),
            "decoder_stage1": lambda x=features: network.stage1(x),
            "decoder_stage2_19": lambda x=features: network.stage2(x),
        }
        for part, call in calls.items():
            with FlopCounterMode(display=False) as counter:
                call()
            macs = counter.get_total_flops() // 2
            if part == "semantic_level":
                macs += network.skipped_macs(8 * height, 8 * width)
            yield compare(f"multiply-accumulates of {part} at {size}", macs, expected[part], 0.0)


_SCALES_AND_FLIP: dict[str, Any] = {"scales": (0.75, 1.0, 1.6), "flip": True, "two_steps": False}
_WINDOWS: dict[str, Any] = {"window": (64, 128), "stride": (43, 43)}
PROTOCOLS = {
    "slide_logits": EvaluationProtocol(**_WINDOWS),
    "slide_probs": EvaluationProtocol(**_WINDOWS, softmax="network"),
    "tta_whole_logits": EvaluationProtocol(**_SCALES_AND_FLIP),
    "tta_whole_probs": EvaluationProtocol(**_SCALES_AND_FLIP, softmax="network"),
    "lip_flip_logits": EvaluationProtocol(flip=True, two_steps=False),
}
"""The authors' evaluation of one image, by the name of its golden."""


_evaluated_network = cache(reference_network)


def evaluation_protocol(name: str) -> Iterator[Comparison]:
    """What windows, scales and mirrors make of one image."""
    entry = golden()["inference"]["arrays"][name]
    network = _evaluated_network(entry["variant"])
    image = torch.from_numpy(fill.image(entry["input"]["name"], tuple(entry["input"]["shape"])))
    views = scaled_tensors(image, PROTOCOLS[name].scales, align_corners=network.align_corners)
    size = tuple(entry["full_shape"][2:])
    with torch.inference_mode():
        maps = mean_score_maps(PROTOCOLS[name], network, views, size, flip_pairs=entry.get("swapped_pairs", []))
    ours = maps.numpy()[tuple(slice(None, None, step) for step in entry["step"])]
    with np.load(FOLDER / "golden_inference.npz") as arrays:
        stored = arrays[name]
    yield compare(f"evaluation {name}", ours, stored, 1e-4)
    yield compare(f"evaluation {name}, pixels decided otherwise", (ours.argmax(1) != stored.argmax(1)).sum(), 0, 0.0)


def every_comparison() -> Iterator[Comparison]:
    yield from resnest_outputs()
    for variant in (*NETWORKS, "mmseg_r50_shortcut"):
        yield from evaluation_outputs(variant)
    for variant in AUTHORS:
        yield from training_losses(variant)
        yield from costs(variant)
    yield from port_training_losses()
    yield from costs_of_parts()
    for variant in NETWORKS:
        yield from round_trip(variant)
    yield from port_names()
    for name in PROTOCOLS:
        yield from evaluation_protocol(name)
