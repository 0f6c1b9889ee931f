"""A recipe's losses, composed: which loss acts on which output of a network, with which weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class LossTerm:
    """One loss on one output.

    Attributes:
        output: `"logits"`, or the name of an auxiliary output.
        loss: Called with the output, resized to the labels (N, C, H, W), and the labels (N, H, W); returns a scalar,
            or several by name.
        weight: The factor of this term in the total.
    """

    output: str
    loss: nn.Module
    weight: float = 1.0


class Criterion(nn.Module):
    """The weighted sum of several losses.

    Args:
        terms: The losses of a recipe.
        align_corners: How the outputs are resized, bilinearly, to the labels.
    """

    def __init__(self, terms: Sequence[LossTerm], *, align_corners: bool) -> None:
        super().__init__()
        self.outputs = [term.output for term in terms]
        self.weights = [term.weight for term in terms]
        self.losses = nn.ModuleList(term.loss for term in terms)
        self.align_corners = align_corners

    def forward(self, outputs: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            outputs: The network's logits and auxiliary outputs by name, each (N, C, h, w).
            labels: (N, H, W) int64.

        Returns:
            Each term before its weight, under the output's name or the loss's own names, and the weighted `total`.

        Raises:
            ValueError: A term acts on an output that the network does not have.
        """
        terms: dict[str, Tensor] = {}
        total = labels.new_zeros((), dtype=outputs["logits"].dtype)
        for name, weight, loss in zip(self.outputs, self.weights, self.losses, strict=True):
            if name not in outputs:
                raise ValueError(f"The network has no output {name!r} for a loss; it has {', '.join(outputs)}.")
            resized = F.interpolate(
                outputs[name], size=labels.shape[-2:], mode="bilinear", align_corners=self.align_corners
            )
            result = loss(resized, labels)
            named = result if isinstance(result, dict) else {name: result}
            terms.update(named)
            total = total + weight * sum(named.values())
        return {**terms, "total": total}
