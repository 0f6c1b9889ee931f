"""STDC, STDC-Seg and BiSeSTDC beside the numbers of their authors' code, case by case.

The weights and inputs of every case are those of `tests/golden/fill.py`; the weights go through `convert_checkpoint`
from the official names.
"""

from __future__ import annotations

import json
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
from segscape.checkpoints.convert.stdc import FORMATS
from segscape.evaluation.protocols import EvaluationProtocol, mean_score_maps, scaled_tensors
from segscape.losses import Criterion, DetailLoss, LossTerm, OhemCrossEntropy
from segscape.metrics import ConfusionMatrix, scores
from segscape.training.optimisers import warmup_poly
from tests.golden import fill
from tests.references.common import GOLDEN, Comparison, compare

FOLDER = GOLDEN / "bisestdc"

NETWORKS = {
    "bisestdc": "bisestdc",
    "bisestdc2": "bisestdc2",
    "stdc1": "stdc1_seg",
    "stdc2": "stdc2_seg",
    "cls_stdc1": "stdc1",
    "cls_stdc2": "stdc2",
}
"""The golden files' variants and our names for them."""

COUNTED = ["bisestdc", "stdc1", "stdc2"]
SEGMENTATION = [variant for variant in NETWORKS if not variant.startswith("cls")]

ARRAY_TOLERANCE = 2e-5
LOSS_TOLERANCE = {"float32": 5e-6, "float64": 1e-6}
GRADIENT_TOLERANCE = {"float32": 1e-2, "float64": 1e-5}


@cache
def golden() -> dict[str, Any]:
    return json.loads((FOLDER / "golden.json").read_text())


@cache
def official_keys(variant: str) -> dict[str, list[int]]:
    return json.loads((FOLDER / f"keys_{variant}.json").read_text())


def official_state(variant: str) -> dict[str, Tensor]:
    """The official checkpoint that the goldens were made with: aliases hold the value of the entry they repeat."""
    canonical = FORMATS[NETWORKS[variant]][0].canonical
    shapes = official_keys(variant)
    return {name: torch.from_numpy(fill.fill(canonical(name), tuple(shape))) for name, shape in shapes.items()}


def num_classes(variant: str) -> int:
    return 1000 if variant.startswith("cls") else 19


def reference_network(variant: str) -> nn.Module:
    name = NETWORKS[variant]
    network = segscape.create_model(name, num_classes(variant))
    network.load_state_dict(segscape.convert_checkpoint(name, official_state(variant)))
    return network.eval()


def _subsampled(array: Tensor, text: str) -> Tensor:
    """Apply a subsampling such as "[:, 0::8, 3::4, 3::4]"."""
    slices = []
    for part in text.strip("[]").split(","):
        start, *_, step = (part.strip().split(":") + [""])[:3] if part.strip() != ":" else ("", "")
        slices.append(slice(int(start or 0), None, int(step or 1)))
    return array[tuple(slices)]


_MODULES = {
    "feat4": "backbone.stage4",
    "feat8": "backbone.stage8",
    "feat16": "backbone.stage16",
    "feat32": "backbone.stage32",
    "avg": "context.average",
    "arm32": "context.refine.32",
    "head32": "context.smooth.32",
    "head16": "context.smooth.16",
    "head8": "context.smooth.8",
    "sp": "spatial",
    "sp_fuse": "spatial_fusion",
    "fuse": "fusion",
}
_FROM_CONTEXT = {"aux8": "head8", "aux16": "head16", "aux32": "head32"}


def evaluation_outputs(variant: str) -> Iterator[Comparison]:
    """Logits, intermediate features and auxiliary maps in evaluation mode."""
    entry = golden()["variants"][variant]
    network = reference_network(variant)
    features: dict[str, Tensor] = {}
    for key, path in {**_MODULES, "conv_last": "conv_last"}.items():
        if any(name == path for name, _ in network.named_modules()):

            def keep(module: nn.Module, inputs: Any, output: Tensor, key: str = key) -> None:
                features[key] = output

            network.get_submodule(path).register_forward_hook(keep)
    images = torch.from_numpy(fill.image(entry["input"]["name"], tuple(entry["input"]["shape"])))
    with torch.no_grad():
        features["logits"] = features["class_logits"] = network(images)
        if variant in SEGMENTATION:
            features["logits_full"] = F.interpolate(
                features["logits"], images.shape[-2:], mode="bilinear", align_corners=True
            )
            for head, source in _FROM_CONTEXT.items():
                if hasattr(network, head):
                    features[head] = network.get_submodule(head)(features[source])
            features["detail"] = network.detail(features.get("sp_fuse", features["feat8"]))
    with np.load(FOLDER / f"golden_{variant}.npz") as arrays:
        for key in arrays.files:
            if not key.startswith("eval_logits"):
                ours = _subsampled(features[key], entry["arrays"][key].get("subsample", "[:]"))
                yield compare(f"{variant} {key}", ours, arrays[key], ARRAY_TOLERANCE)


def evaluation_protocol(variant: str) -> Iterator[Comparison]:
    """The official evaluation at scales 0.5 and 0.75: logits, IoU of each class, mIoU, right pixels."""
    entry = golden()["variants"][variant]["evaluation"]
    network = reference_network(variant)
    shape = tuple(entry["image_shape"])
    images = torch.from_numpy(fill.image(entry["image"], shape))
    labels = torch.from_numpy(fill.labels(entry["labels"], (shape[0], *shape[2:]), 19))
    for key, expected in entry["results"].items():
        scale = float(key.removeprefix("scale"))
        with torch.no_grad():
            views = scaled_tensors(images, (scale,), align_corners=True)
            logits = mean_score_maps(EvaluationProtocol(), network, views, images.shape[-2:])
        with np.load(FOLDER / f"golden_{variant}.npz") as arrays:
            stored = arrays[f"eval_logits_{key}"]
        text = golden()["variants"][variant]["arrays"][f"eval_logits_{key}"]["subsample"]
        yield compare(f"{variant} {key} logits", _subsampled(logits, text), stored, ARRAY_TOLERANCE)
        confusion = ConfusionMatrix(19)
        confusion.update(logits.argmax(1), labels)
        counts = confusion.compute()
        # A pixel whose two best logits nearly tie may go either way.
        moved = expected["pixels_with_top2_margin_below_1e_4"] / expected["correct_pixels"]
        yield compare(f"{variant} {key} right pixels", counts.diagonal().sum(), expected["correct_pixels"], moved)
        yield compare(f"{variant} {key} counted pixels", counts.sum(), expected["counted_pixels"], 0.0)
        yield compare(f"{variant} {key} IoU", np.nan_to_num(scores(counts).iou), expected["iou"], moved)
        yield compare(f"{variant} {key} mIoU", scores(counts).miou, expected["miou"], moved)


def training_criterion(variant: str) -> Criterion:
    reference = golden()["variants"][variant]["training"]
    heads = [name for name in ("aux8", "aux16", "aux32") if name in reference["float32"]["terms"]]
    weights = reference["float32"]["weights"]
    ohem = OhemCrossEntropy(reference["n_min"], reference["thresh"])
    terms = [LossTerm("logits", ohem), *(LossTerm(name, ohem, weights[name]) for name in heads)]
    return Criterion([*terms, LossTerm("detail", DetailLoss())], align_corners=True)


def training_losses(variant: str, dtype: str) -> Iterator[Comparison]:
    """Every loss term, the total, gradient norms of each and running statistics after one forward."""
    reference = golden()["variants"][variant]["training"]
    expected = reference[dtype]
    network = reference_network(variant).to(getattr(torch, dtype)).train()
    criterion = training_criterion(variant)
    shape = tuple(reference["shape"])
    images = torch.from_numpy(fill.image(reference["image"], shape)).to(getattr(torch, dtype))
    labels = torch.from_numpy(fill.labels(reference["labels"], (shape[0], *shape[2:]), 19))
    output = network(images)
    losses = criterion({"logits": output.logits, **output.aux}, labels)
    losses["main"] = losses.pop("logits")
    for term, value in {**expected["terms"], "total": expected["total"]}.items():
        yield compare(f"{variant} {dtype} loss {term}", losses[term].detach(), value, LOSS_TOLERANCE[dtype])
    names = {
        FORMATS[NETWORKS[variant]][0].official_name(ours): parameter for ours, parameter in network.named_parameters()
    }
    for term, norms in expected["grad_norm"].items():
        network.zero_grad()
        losses[term].backward(retain_graph=True)
        for official, norm in norms.items():
            gradient = names[official].grad
            # The official scale's gradient carries a sign, which its norm does not show.
            value = 0.0 if gradient is None else float(gradient.norm())
            yield compare(
                f"{variant} {dtype} gradient of {term}, {official}", value, norm or 0.0, GRADIENT_TOLERANCE[dtype]
            )
    buffers = {FORMATS[NETWORKS[variant]][0].official_name(ours): value for ours, value in network.named_buffers()}
    for official, norm in expected.get("running_stat_norm_after", {}).items():
        yield compare(f"{variant} {dtype} statistics {official}", float(buffers[official].norm()), norm, 1e-5)


def ohem_units() -> Iterator[Comparison]:
    """OHEM cross entropy and its gradient, in both of its branches."""
    unit = golden()["units"]["unit_ohem"]
    labels = torch.from_numpy(fill.labels("ohem", (2, 32, 48), 19))
    base = torch.from_numpy(fill.image("ohem", (2, 19, 32, 48)))
    for case in unit["cases"]:
        logits = (base + case["gain"] * F.one_hot(labels, 19).permute(0, 3, 1, 2)).requires_grad_()
        loss = OhemCrossEntropy(case["n_min"], unit["thresh"])(logits, labels)
        loss.backward()
        name = f"OHEM gain {case['gain']:g} n_min {case['n_min']}"
        yield compare(f"{name} loss", loss.detach(), case["loss"], LOSS_TOLERANCE["float32"])
        yield compare(f"{name} gradient", logits.grad.norm(), case["grad_norm"], 1e-5)


def detail_units() -> Iterator[Comparison]:
    """Detail loss, its edges and its gradient, for the fusion kernels that the official decay passes through."""
    unit = golden()["units"]["unit_detail"]
    labels = torch.from_numpy(fill.labels("detail", (2, 60, 108), 19, block=5))
    loss = DetailLoss(learned_fusion=True)
    with np.load(FOLDER / "golden_units.npz") as arrays:
        yield compare("detail target", loss.target(labels).detach(), arrays["target"], 0.0)
        yield compare("detail target, fixed kernel", DetailLoss().target(labels), arrays["target"], 0.0)
    for case in unit["cases"]:
        loss.fusion.data = torch.tensor(case["kernel"]).reshape(1, 3, 1, 1)
        logits = torch.from_numpy(fill.image("detail", (2, 1, 15, 27))).requires_grad_()
        terms = loss(F.interpolate(logits, (60, 108), mode="bilinear", align_corners=True), labels)
        sum(terms.values()).backward()
        name = f"detail kernel {case['kernel'][0]:g}"
        yield compare(f"{name} edge pixels", loss.target(labels).sum().detach(), case["edge_pixels"], 0.0)
        for term in ("bce", "dice"):
            yield compare(f"{name} {term}", terms[term].detach(), case[term], LOSS_TOLERANCE["float32"])
        yield compare(f"{name} gradient", logits.grad.norm(), case["grad_norm_of_sum_wrt_logits"], 1e-5)
    yield compare(
        "detail gradient of the kernel", loss.fusion.grad.flatten(), unit["fuse_kernel_gradient_initial"], 0.0
    )


def norm_units() -> Iterator[Comparison]:
    """The in-place norm, negative scales included, as ordinary batch normalisation with |weight| + 1e-5."""
    values = {key: torch.from_numpy(fill.image(f"abn.{key}", (8,))) for key in ("w", "b", "m", "v")}
    x = torch.from_numpy(fill.image("abn.x", (3, 8, 5, 7))).requires_grad_()
    norm = nn.BatchNorm2d(8)
    scale = values["w"].abs() + 1e-5
    norm.load_state_dict(
        {"weight": scale, "bias": values["b"], "running_mean": values["m"], "running_var": values["v"].abs() + 0.5},
        strict=False,
    )
    with np.load(FOLDER / "golden_units.npz") as arrays:
        yield compare("norm evaluated", norm.eval()(x).detach(), arrays["abn_eval"], ARRAY_TOLERANCE)
        trained = norm.train()(x)
        trained.backward(torch.from_numpy(fill.image("abn.g", (3, 8, 5, 7))))
        yield compare("norm trained", trained.detach(), arrays["abn_train"], ARRAY_TOLERANCE)
        yield compare("norm input gradient", x.grad, arrays["abn_dx"], ARRAY_TOLERANCE)
        signed = norm.weight.grad * values["w"].sign()
        yield compare("norm scale gradient", signed, arrays["abn_dweight"], ARRAY_TOLERANCE)
        yield compare("norm shift gradient", norm.bias.grad, arrays["abn_dbias"], ARRAY_TOLERANCE)
        yield compare("norm running mean", norm.running_mean, arrays["abn_running_mean"], ARRAY_TOLERANCE)
        yield compare("norm running variance", norm.running_var, arrays["abn_running_var"], ARRAY_TOLERANCE)


def schedule_units() -> Iterator[Comparison]:
    """Learning rates of the official schedules."""
    for total, rates in golden()["units"]["unit_lr"].items():
        factor = warmup_poly(1000, int(total), 0.9)
        ours = [0.01 * factor(int(step)) for step in rates]
        for value, (step, rate) in zip(ours, rates.items(), strict=True):
            yield compare(f"learning rate at {step} of {total}", value, rate, 1e-5)


def round_trip(variant: str) -> Iterator[Comparison]:
    """Official names and values -> ours -> official."""
    name, official = NETWORKS[variant], official_state(variant)
    converted = segscape.convert_checkpoint(name, official)
    restored = to_official(name, converted, kept=leftovers(name, official, converted))
    differing = [key for key, value in official.items() if not torch.equal(restored.get(key, torch.empty(0)), value)]
    yield compare(f"{variant} entries changed", len(differing) + len(restored.keys() - official.keys()), 0, 0.0)


def costs(variant: str) -> Iterator[Comparison]:
    """Parameters without training heads, and multiply-accumulates at every size that was counted."""
    entry = golden()["variants"][variant]
    for size, counted in entry.get("macs", {}).items():
        height, width = (int(side) for side in size.split("x"))
        cost = network_cost(NETWORKS[variant], num_classes=num_classes(variant), size=(height, width))
        yield compare(f"{variant} parameters", cost.parameters, entry["parameters"]["inference_only"], 0.0)
        yield compare(f"{variant} multiply-accumulates, {size}", cost.authors_macs, counted["inference_only"], 0.0)


def every_comparison() -> Iterator[Comparison]:
    for units in (ohem_units, detail_units, norm_units, schedule_units):
        yield from units()
    for variant in NETWORKS:
        yield from round_trip(variant)
        yield from evaluation_outputs(variant)
    for variant in COUNTED:
        yield from costs(variant)
    for variant in SEGMENTATION:
        if "evaluation" in golden()["variants"][variant]:
            yield from evaluation_protocol(variant)
        for dtype in ("float32", "float64"):
            yield from training_losses(variant, dtype)
