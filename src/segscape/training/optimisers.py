"""Parameter groups and the learning-rate schedule of the STDC-Seg recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from segscape.networks import SegmentationNetwork


@dataclass(frozen=True)
class OptimiserSettings:
    """A recipe's optimiser and schedule.

    Attributes:
        name: `"sgd"` or `"adamw"`.
        lr: The learning rate after the warm-up.
        momentum: Of SGD, without Nesterov's; unused by AdamW.
        weight_decay: Of convolutions and linear layers; normalisation layers and biases have none.
        head_lr_factor: What the learning rate of the network's new modules is multiplied by.
        train_backbone_norms: Whether the backbone's own normalisation scales and shifts are trained. The official
            recipe leaves them as pre-trained; without pre-trained weights they should be trained.
        warmup_steps: Steps of the exponential warm-up from a thousandth of the learning rate.
        power: Of the polynomial decay to zero after it.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    head_lr_factor: float = 10.0
    train_backbone_norms: bool = False
    warmup_steps: int = 1000
    power: float = 0.9

    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser over `parameter_groups`."""
        if self.name == "sgd":
            return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum)
        return torch.optim.AdamW(groups, lr=self.lr)


def parameter_groups(
    network: SegmentationNetwork, settings: OptimiserSettings, *, extra: Iterable[nn.Parameter] = ()
) -> list[dict[str, Any]]:
    """The network's parameters in groups of one learning rate and weight decay, each once.

    Args:
        network: Its `new_modules` and `backbone_modules` tell the groups apart.
        settings: The recipe.
        extra: Parameters of the losses; they decay at the base learning rate.

    Returns:
        Groups for a torch optimiser, in this order: base with decay, base without, new with decay, new without, extra;
        empty ones are left out.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {
        (new, decay): [] for new in (False, True) for decay in (True, False)
    }
    for name, child in network.named_children():
        frozen_norms = name in network.backbone_modules and not settings.train_backbone_norms
        for module in child.modules():
            is_norm = isinstance(module, _BatchNorm)
            if is_norm and frozen_norms:
                continue
            for leaf, parameter in module.named_parameters(recurse=False):
                decay = not is_norm and leaf != "bias"
                groups[name in network.new_modules, decay].append(parameter)
    rows = [
        {
            "params": parameters,
            "lr": settings.lr * (settings.head_lr_factor if new else 1.0),
            "weight_decay": settings.weight_decay if decay else 0.0,
        }
        for (new, decay), parameters in groups.items()
    ]
    rows.append({"params": list(extra), "lr": settings.lr, "weight_decay": settings.weight_decay})
    return [row for row in rows if row["params"]]


def warmup_poly(warmup_steps: int, max_steps: int, power: float) -> Callable[[int], float]:
    """The factor of the learning rate by 0-based step: exponential from 0.001 to 1, then polynomial to 0.

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
