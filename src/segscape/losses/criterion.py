"""A recipe's losses, composed: which loss acts on which output of a network, with which weight."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from segscape.losses.unions import join_unions


@dataclass
class LossTerm:
    """One loss on one output, or on several together.

    Attributes:
        output: `"logits"`, or the name of an auxiliary output; a list for a loss that takes several.
        loss: Returns a scalar, or several by name. Called with the outputs, resized to the labels (N, C, H, W), and the
            labels (N, H, W).
        weight: The factor of this term in the total.
        stride: Every how many pixels, across and down, a label is compared. Auxiliary outputs are coarse, and a label
            in each of their cells teaches them as much as every label, in less time.
        supervised: Off for a loss that takes no labels: it gets the outputs alone, as they are.
    """

    output: str | list[str]
    loss: nn.Module
    weight: float = 1.0
    stride: int = 1
    supervised: bool = True

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs; the first one names the term."""
        return [self.output] if isinstance(self.output, str) else self.output


class Criterion(nn.Module):
    """The weighted sum of several losses.

    Args:
        terms: The losses of a recipe.
        align_corners: How the outputs are resized, bilinearly, to the labels.
        unions: What labels beyond the K classes stand for, see `segscape.losses.unions.join_unions`.
        of_classes: The names of the outputs that are logits of the K classes, for whose losses unions are joined.
    """

    def __init__(
        self,
        terms: Sequence[LossTerm],
        *,
        align_corners: bool,
        unions: Sequence[tuple[int, ...]] = (),
        of_classes: Collection[str] = ("logits",),
    ) -> None:
        super().__init__()
        self.terms = list(terms)
        self.losses = nn.ModuleList(term.loss for term in terms)
        self.align_corners = align_corners
        self.unions = tuple(unions)
        self.of_classes = of_classes

    def forward(self, outputs: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            outputs: The network's logits and auxiliary outputs by name, each (N, C, h, w).
            labels: (N, H, W) int64: class indices, unions beyond them, and the ignore index.

        Returns:
            Each term before its weight, under its (first) output's name or the loss's own names, and the weighted
            `total`.

        Raises:
            ValueError: A term acts on an output that the network does not have.
        """
        named: dict[str, Tensor] = {}
        resized: dict[str, Tensor] = {}
        compared: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        total = labels.new_zeros((), dtype=outputs["logits"].dtype)
        for term in self.terms:
            missing = [name for name in term.outputs if name not in outputs]
            if missing:
                raise ValueError(f"The network has no output {missing[0]!r} for a loss; it has {', '.join(outputs)}.")
            if term.supervised:
                for name in term.outputs:
                    # An output of several losses is resized for all of them at once.
                    if name not in resized:
                        resized[name] = F.interpolate(
                            outputs[name], size=labels.shape[-2:], mode="bilinear", align_corners=self.align_corners
                        )
                    if (name, term.stride) not in compared:
                        compared[name, term.stride] = self._compared(name, resized[name], labels, term.stride)
                pairs = [compared[name, term.stride] for name in term.outputs]
                result = term.loss(*(values for values, _ in pairs), pairs[0][1])
            else:
                result = term.loss(*(outputs[name] for name in term.outputs))
            parts = result if isinstance(result, dict) else {term.outputs[0]: result}
            named.update(parts)
            total = total + term.weight * sum(parts.values())
        return {**named, "total": total}

    def _compared(self, name: str, output: Tensor, labels: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """A resized output and the labels, both at a stride and without unions."""
        # Of both the same pixels. An output resized to fewer pixels would be half of one off, and thin things with it.
        output, labels = (x[..., stride // 2 :: stride, stride // 2 :: stride] for x in (output, labels))
        if self.unions and name in self.of_classes:
            return join_unions(output, labels, self.unions)
        return output, labels
