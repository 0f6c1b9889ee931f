"""CRM beside the numbers of its authors' code, case by case: the network, the whole refinement and training.

The weights and inputs of every case are those of `tests/golden/fill.py`; the weights go through `convert_checkpoint`
from the official names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import segscape
from segscape.checkpoints.convert import leftovers, to_official
from segscape.checkpoints.convert.crm import FORMATS
from segscape.losses.refinement import EdgeStrength, RefinementLoss, RefinementWeights
from segscape.networks.crm import CRM, Axis
from tests.golden import fill
from tests.references.common import GOLDEN, Comparison, compare

FOLDER = GOLDEN / "crm"
NAME = "crm_resnet50"
SCALES = (0.125, 0.25, 0.5, 1.0)
BORDER = 32

# The goldens are float32, which rounds otherwise on another processor.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-5}
_GRADIENT_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-5}


@cache
def golden() -> dict[str, Any]:
    return json.loads((FOLDER / "golden.json").read_text())


def official_state(*, raised: float = 0.0) -> dict[str, Tensor]:
    """The official checkpoint that the goldens were made with.

    Args:
        raised: What the last bias is raised by.
    """
    shapes = json.loads((FOLDER / "keys_crm.json").read_text())
    state = {name: torch.from_numpy(value) for name, value in fill.state_dict(shapes).items()}
    state["module.imnet.layers.8.bias"] += raised
    return state


def reference_network(*, raised: float = 0.0) -> CRM:
    """Our network with the weights of the goldens, in evaluation mode; see `official_state`."""
    with torch.device("meta"):
        network = segscape.create_model(NAME)
    network.load_state_dict(segscape.convert_checkpoint(NAME, official_state(raised=raised)), assign=True)
    assert isinstance(network, CRM)
    return network.eval()


def pipeline_network() -> CRM:
    """The network of the golden refinement, whose masks are not all background."""
    return reference_network(raised=1.5)


class PlainStage(NamedTuple):
    """What one stage reads and makes, all with the mirrored border.

    Attributes:
        images: (1, 3, h, w).
        masks: (1, 1, h, w), from -1 to 1.
        features: (1, C, h', w').
        logits: (1, 1, H, W).
        probability: (1, 1, H, W).
    """

    images: Tensor
    masks: Tensor
    features: Tensor
    logits: Tensor
    probability: Tensor


def plain_stages(
    network: CRM, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], *, scales: tuple[float, ...] = SCALES
) -> Iterator[PlainStage]:
    """The authors' refinement as they wrote it: whole images, every point of every stage.

    A residual network, which they do not have, adds to the logits of the stage's mask at its full size.

    Args:
        network: Its weights' type is that of all that follows.
        image: (H, W, 3).
        mask: (H, W).
        scales: Of the stages.
    """
    dtype = network.decoder.last.weight.dtype
    around = (BORDER, BORDER)
    padded = np.pad(image, (around, around, (0, 0)), mode="reflect")
    images = network.normalisation(torch.from_numpy(padded).permute(2, 0, 1)[None].to(dtype))
    coarse = torch.from_numpy(np.pad(mask, (around, around), mode="reflect")).to(dtype)
    masks = ((coarse / 255 - 0.5) / 0.5)[None, None]
    size = (images.shape[2], images.shape[3])
    for scale in scales:
        small = tuple(round(side * scale) for side in size)
        stage_images, stage_masks = (
            F.interpolate(x, size=small, mode="bilinear", align_corners=True) for x in (images, masks)
        )
        with torch.no_grad():
            features = network.features(stage_images, stage_masks)
            logits = network.decoder(features, size)
            if network.residual:
                logits = logits + ((masks + 1) / 2).clamp(0.01, 0.99).logit()
        probability = torch.sigmoid(logits)
        if (masks + 1).sum() < 2:
            probability = torch.zeros_like(probability)
        yield PlainStage(stage_images, stage_masks, features, logits, probability)
        masks = 2 * (probability - 0.5)


def inner(maps: Tensor) -> npt.NDArray[np.floating]:
    """A map (1, 1, H, W) without its mirrored border, (H, W)."""
    return maps[0, 0, BORDER:-BORDER, BORDER:-BORDER].numpy()


def _stored_input(prefix: str, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The golden's image batch and its masks."""
    images = torch.from_numpy(fill.image(f"image{prefix}", (2 if prefix else 1, 3, *shape)))
    masks = fill.labels(f"seg{prefix}", (len(images), *shape), 2, ignore=0)
    return images, torch.from_numpy(masks).float().unsqueeze(1) * 2 - 1


def network_outputs() -> Iterator[Comparison]:
    """Every stored array of one forward: features on the way, two grids, and single points."""
    images, masks = _stored_input("", (96, 128))
    with np.load(FOLDER / "golden_crm.npz") as stored, torch.no_grad():
        for dtype, tolerance in TOLERANCE.items():
            network = reference_network().to(dtype)
            stages = network.extractor(images.to(dtype), masks.to(dtype))
            features = network.fusion(stages)
            points = torch.from_numpy(stored["points"]).double()[0]
            ours = {
                "stem": stages[0][:, ::8, ::3, ::3],
                "layer1": stages[1][:, ::16, ::2, ::2],
                "layer3": stages[2][:, ::32],
                "aspp": features[:, ::16, ::3, ::3],
                "logits_96x128": network(images.to(dtype), masks.to(dtype), size=(96, 128)),
                "logits_150x200": network(images.to(dtype), masks.to(dtype), size=(150, 200)),
                "logits_points": _at_points(network, features, points),
            }
            for name, values in ours.items():
                yield compare(f"CRM {dtype} {name}", values, stored[name], tolerance)


def _at_points(network: CRM, features: Tensor, points: Tensor) -> Tensor:
    """Logits (1, Q, 1) at points (Q, 2): on the diagonal of a grid of all their rows and columns."""
    rows, cols = (Axis.at(points[:, axis], features.shape[2 + axis], side) for axis, side in enumerate((96, 128)))
    grid = network.decoder.decode(network.decoder.project(features), rows, cols)
    return grid[0, 0].diagonal()[None, :, None]


def refinement_stages() -> Iterator[Comparison]:
    """The golden refinement stage by stage, as the authors wrote it: inputs, features and logits."""
    with np.load(FOLDER / "golden_crm_pipeline.npz") as stored:
        image, mask = stored["image"], stored["mask"]
        stages = plain_stages(pipeline_network(), image, mask)
        for scale, stage in zip(SCALES, stages, strict=True):
            image_step, mask_step = (8, 8) if scale == 1 else (4, 2)
            ours = {
                "input_image": stage.images[:, :, ::image_step, ::image_step],
                "input_seg": stage.masks[:, :, ::mask_step, ::mask_step],
                "feature": stage.features[:, ::64, ::4, ::4],
                "logits": stage.logits[:, :, ::2, ::2],
            }
            for name, values in ours.items():
                yield compare(f"CRM stage {scale} {name}", values, stored[f"{name}_{scale}"], 1e-4)


def refinement() -> Iterator[Comparison]:
    """The golden refinement by `Refiner`: the probabilities of every stage and the last stage's 8-bit mask."""
    refiner = segscape.Refiner(pipeline_network(), "cpu")
    with np.load(FOLDER / "golden_crm_pipeline.npz") as stored:
        image, mask = stored["image"], stored["mask"]
        for scale, probability in refiner.stages(image, mask):
            expected = 1 / (1 + np.exp(-stored[f"logits_{scale}"][0, 0].astype(np.float64)))
            name = f"CRM stage {scale} probability"
            yield compare(
                name, probability[::2, ::2], expected[BORDER // 2 : -BORDER // 2, BORDER // 2 : -BORDER // 2], 1e-5
            )
        refined = refiner.refine(image, mask)
        levels = np.floor(255 * refined.probability).astype(int)
        difference = np.abs(levels - stored["mask_png_1.0"])
        yield Comparison("CRM refined mask, levels", float(difference.max()), 1.0)
        # The authors cut decimals off, which rounding decides where a value is near a whole number.
        yield Comparison("CRM refined mask, share of levels that differ", float((difference > 0).mean()), 1e-3)


def training_losses() -> Iterator[Comparison]:
    """Every loss, both totals, gradient norms, running statistics and counts of one training forward."""
    expected = golden()["variants"]["crm"]["training"]
    truth = torch.from_numpy(fill.labels("labels-train", (2, 96, 128), 2, ignore=0)).unsqueeze(1)
    images, masks = _stored_input("-train", (96, 128))
    for dtype, tolerance in TOLERANCE.items():
        network = reference_network().train().to(dtype)
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        logits = network(images.to(dtype), masks.to(dtype), size=(96, 128))
        losses = RefinementLoss().to(dtype)(logits, truth.to(dtype))
        values = expected[f"values_{str(dtype).removeprefix('torch.')}"]
        for key in ("ce_loss", "l1_loss", "l2_loss", "grad_loss", "total_loss"):
            if key in values:
                ours = losses[key.removesuffix("_loss")].detach()
                yield compare(f"CRM training {dtype} {key}", ours, values[key], tolerance)
        yield from _gradients(network, losses, dtype, values["grad_norms"])
        if dtype == torch.float32:
            yield from _training_details(network, logits.detach(), masks, truth, values, tolerance)


def _gradients(
    network: CRM, losses: dict[str, Tensor], dtype: torch.dtype, norms: dict[str, dict[str, float]]
) -> Iterator[Comparison]:
    official = {f"module.{FORMATS[NAME][0].official_name(ours)}": value for ours, value in network.named_parameters()}
    for loss, expected in norms.items():
        weights = [official[name] for name in expected]
        gradients = torch.autograd.grad(losses[loss.removesuffix("_loss")], weights, retain_graph=True)
        for (name, norm), gradient in zip(expected.items(), gradients, strict=True):
            yield compare(f"CRM gradient {dtype} of {loss}, {name}", gradient.norm(), norm, _GRADIENT_TOLERANCE[dtype])


def _training_details(
    network: CRM, logits: Tensor, masks: Tensor, truth: Tensor, values: dict[str, Any], tolerance: float
) -> Iterator[Comparison]:
    other = RefinementLoss(RefinementWeights(ce=0.0, l1=1.0, l2=1.0, grad=5.0))(logits, truth.float())
    yield compare("CRM training total by default", other["total"], values["total_loss_cli_defaults"], tolerance)
    yield compare("CRM training logits", logits[0, 0, 40, :8], values["logits_sample"], tolerance)
    buffers = {f"module.{FORMATS[NAME][0].official_name(ours)}": value for ours, value in network.named_buffers()}
    for name, norm in values["running_stats_after"].items():
        yield compare(f"CRM statistics {name}", buffers[name].norm(), norm, tolerance)
    inside = truth > 0
    for prefix, suffix, chosen in (("orig", "", masks > 0), ("new", "_224", logits > 0)):
        for letter, count in (("i", (chosen & inside).sum()), ("u", (chosen | inside).sum())):
            yield compare(
                f"CRM training IoU, {prefix} {letter}", count, values["iou"][f"iou/{prefix}_{letter}{suffix}"], 0
            )
    edges = EdgeStrength()
    for name, maps in (("gt", truth.float()), ("pred", torch.sigmoid(logits))):
        yield compare(f"CRM edge strength {name}", edges(maps).mean(), values["sobel_mean"][name], tolerance)


def round_trip() -> Iterator[Comparison]:
    """Official names and values -> ours -> official; the unused stage is told apart and given back."""
    official = official_state()
    converted = segscape.convert_checkpoint(NAME, official)
    unused = leftovers(NAME, official, converted)
    yield compare("CRM entries", len(official), 367, 0.0)
    yield compare("CRM entries left over beside layer4", sum("feats.layer4." not in key for key in unused), 0, 0.0)
    restored = to_official(NAME, converted, origin="CRM")
    theirs = {key.removeprefix("module."): value for key, value in official.items()}
    kept = {key for key in theirs if "feats.layer4." not in key}
    restored = {key.removeprefix("module."): value for key, value in restored.items()}
    changed = [key for key in kept if not torch.equal(restored.get(key, torch.empty(0)), theirs[key])]
    yield compare("CRM entries changed", len(changed) + len(restored.keys() - theirs.keys()), 0, 0.0)


def costs() -> Iterator[Comparison]:
    """Parameters, and the multiply-accumulates of every part at every stage of the stored sizes."""
    with torch.device("meta"):
        network = segscape.create_model(NAME).eval()
    assert isinstance(network, CRM)
    stored = golden()["cost"]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    yield compare("CRM parameters", parameters, stored["params"]["total"] - stored["params"]["layer4_unused"], 0.0)
    decoder = 4 * sum(layer.weight.numel() for layer in network.decoder.modules() if isinstance(layer, nn.Linear))
    cases = [(size, case) for size, case in stored.items() if "stages" in case]
    for size, case in cases:
        for stage in case["stages"]:
            where = f"{size}, stage {stage['scale']}"
            extractor, fusion = _macs(network, *stage["input"])
            # Stored with one decimal.
            for part, macs in (("extractor", extractor), ("aspp", fusion), ("decoder", decoder * case["queries"])):
                error = abs(macs / 1e9 - stage[f"{part}_gmac"])
                yield Comparison(f"CRM multiply-accumulates of {part}, {where}", error, 0.06)


def _macs(network: CRM, height: int, width: int) -> tuple[int, int]:
    """Multiply-accumulates of the extractor and of the fusion, counted without computing anything."""
    counts = []
    images, masks = (torch.empty(1, channels, height, width, device="meta") for channels in (3, 1))
    with FlopCounterMode(display=False) as counter:
        stages = network.extractor(images, masks)
        counts.append(counter.get_total_flops() // 2)
        network.fusion(stages)
        counts.append(counter.get_total_flops() // 2 - counts[0])
    return counts[0], counts[1]


def every_comparison() -> Iterator[Comparison]:
    yield from network_outputs()
    yield from refinement_stages()
    yield from refinement()
    yield from training_losses()
    yield from round_trip()
    yield from costs()
