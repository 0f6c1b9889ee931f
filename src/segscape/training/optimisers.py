"""Parameter groups, optimisers and learning-rate schedules of the recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from segscape.networks import SegmentationNetwork


@dataclass(frozen=True)
class Schedule:
    """A warm-up and a polynomial decay, or a decay by steps.

    Attributes:
        warmup: `"exponential"`, after which the decay begins (`warmup_poly`); `"linear"`, which multiplies a decay that
            has begun with the first step (`poly_with_floor`); or `"none"`.
        warmup_steps: The steps of the warm-up.
        warmup_ratio: The factor of the learning rate in the first step of the linear warm-up.
        power: The exponent of the decay.
        min_lr: The learning rate that the decay ends at; not with an exponential warm-up, whose decay ends at zero.
        milestones: The steps at which the learning rate falls to a tenth; with any, there is no polynomial decay and no
            warm-up.
    """

    warmup: Literal["none", "linear", "exponential"] = "none"
    warmup_steps: int = 0
    warmup_ratio: float = 0.1
    power: float = 0.9
    min_lr: float = 0.0
    milestones: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.warmup == "exponential" and self.min_lr:
            raise ValueError("An exponential warm-up goes with a decay to zero; leave min_lr out, or warm up linearly.")
        if self.warmup == "none" and self.warmup_steps:
            raise ValueError("There are warmup_steps but no warm-up; set warmup to linear or exponential.")
        if self.milestones and (self.warmup != "none" or self.min_lr):
            raise ValueError("Milestones go without a warm-up and a min_lr; leave out the one or the others.")

    def factor(self, lr: float, max_steps: int) -> Callable[[int], float]:
        """Return the learning-rate factor as a function of the 0-based step.

        Args:
            lr: The learning rate itself, which `min_lr` is compared with.
            max_steps: The steps of the whole run; a longer warm-up ends with it.
        """
        if self.milestones:
            return lambda step: 0.1 ** sum(step >= milestone for milestone in self.milestones)
        warmup_steps = min(self.warmup_steps, max_steps)
        if self.warmup == "exponential":
            return warmup_poly(warmup_steps, max_steps, self.power)
        return poly_with_floor(
            max_steps,
            self.power,
            floor=self.min_lr / lr,
            warmup_steps=warmup_steps,
            warmup_ratio=self.warmup_ratio,
        )


@dataclass(frozen=True)
class OptimiserSettings:
    """A recipe's optimiser and schedule.

    Attributes:
        name: `"sgd"`, `"adam"` or `"adamw"`.
        lr: The learning rate without warm-up and decay.
        momentum: The momentum of SGD, without Nesterov's; unused by the others.
        betas: The decay rates of Adam's and AdamW's averages of the gradient and of its square.
        weight_decay: See `groups`.
        groups: `"one"`: every parameter has the same learning rate and weight decay. `"split"`, STDC-Seg's: only
            convolutions and linear layers decay, not normalisation layers and biases, and the next two settings hold.
        head_lr_factor: The factor of the learning rate of the network's new modules.
        train_backbone_norms: Whether the backbone's own normalisation scales and shifts are trained. The official
            recipe leaves them as pre-trained; without pre-trained weights they should be trained.
        schedule: Warm-up and decay.
    """

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 5e-4
    groups: Literal["split", "one"] = "split"
    head_lr_factor: float = 10.0
    train_backbone_norms: bool = False
    schedule: Schedule = field(default_factory=Schedule)

    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """Build the optimiser over `parameter_groups`."""
        match self.name:
            case "sgd":
                return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum)
            case "adam":
                return torch.optim.Adam(groups, lr=self.lr, betas=self.betas)
            case "adamw":
                return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas)


def parameter_groups(
    network: SegmentationNetwork, settings: OptimiserSettings, *, extra: Iterable[nn.Parameter] = ()
) -> list[dict[str, Any]]:
    """Split the network's parameters into groups of one learning rate and weight decay, each parameter once.

    Args:
        network: Its `parts` determine the groups.
        settings: The recipe.
        extra: Parameters of the losses; they decay at the base learning rate.

    Returns:
        Groups for a torch optimiser: one, or split in this order: base with decay, base without, new with decay, new
        without, extra; empty ones are left out.
    """
    decayed = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.groups == "one":
        return [{"params": [*network.parameters(), *extra], **decayed}]
    rows = [
        {
            "params": parameters,
            "lr": settings.lr * (settings.head_lr_factor if new else 1.0),
            "weight_decay": settings.weight_decay if decay else 0.0,
        }
        for (new, decay), parameters in _split(network, settings).items()
    ]
    rows.append({"params": list(extra), **decayed})
    return [row for row in rows if row["params"]]


def _split(network: SegmentationNetwork, settings: OptimiserSettings) -> dict[tuple[bool, bool], list[nn.Parameter]]:
    """Return the trained parameters by whether they belong to a new module and whether they decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {
        (new, decay): [] for new in (False, True) for decay in (True, False)
    }
    parts = network.parts
    new = {*parts.new, *parts.training_only}
    for name, child in network.named_children():
        frozen_norms = name in parts.backbone and not settings.train_backbone_norms
        for module in child.modules():
            is_norm = isinstance(module, _BatchNorm)
            if is_norm and frozen_norms:
                continue
            for leaf, parameter in module.named_parameters(recurse=False):
                decay = not is_norm and leaf != "bias"
                groups[name in new, decay].append(parameter)
    return groups


def warmup_poly(warmup_steps: int, max_steps: int, power: float) -> Callable[[int], float]:
    """Return the learning-rate factor by 0-based step, a function: exponential from 0.001 to 1, then polynomial to 0.

    Args:
        warmup_steps: The step at which the factor reaches 1.
        max_steps: The step at which it reaches 0.
        power: The exponent of the decay.
    """

    def factor(step: int) -> float:
        if step <= warmup_steps and warmup_steps > 0:
            return 1e-3 * 1000.0 ** (step / warmup_steps)
        return max(1 - (step - warmup_steps) / max(max_steps - warmup_steps, 1), 0.0) ** power

    return factor


def poly_with_floor(
    max_steps: int, power: float, *, floor: float, warmup_steps: int = 0, warmup_ratio: float = 0.1
) -> Callable[[int], float]:
    """Return the learning-rate factor by 0-based step, a function: polynomial from 1 to a floor, as in MMSegmentation.

    Args:
        max_steps: The step at which the floor is reached.
        power: The exponent of the decay.
        floor: The factor at the end of the decay.
        warmup_steps: The number of first steps, in which the factor is also multiplied by a number that rises linearly
            to 1.
        warmup_ratio: That number at the first step.
    """

    def factor(step: int) -> float:
        decay = (1 - floor) * max(1 - step / max(max_steps, 1), 0.0) ** power + floor
        if step < warmup_steps:
            decay *= 1 - (1 - step / warmup_steps) * (1 - warmup_ratio)
        return decay

    return factor


def averaging(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """Return the update of an exponential moving average of weights whose decay grows from a small value.

    After n steps the average keeps (1 + n) / (10 + n) of itself, at most `decay`: a run far shorter than
    1 / (1 - decay) steps would otherwise end near the weights that it began with.

    Args:
        decay: The largest share that the average keeps of itself at a step, from 0 to 1.

    Returns:
        The function that updates averaged tensors in place, given them, the current ones of the same types, and n:
        `multi_avg_fn` of `torch.optim.swa_utils.AveragedModel`. Integers, such as counts of batches, are copied.

    Raises:
        ValueError: The decay is not from 0 to 1.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"The decay of an average of weights is from 0 to 1, not {decay}.")

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], steps: Tensor) -> None:
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - kept)
        else:
            torch._foreach_copy_(averaged, current)

    return update
