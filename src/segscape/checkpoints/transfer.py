"""Transfer of weights to a network that differs, for instance in the number of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TransferReport:
    """The outcome of a transfer, by the names of the entries.

    Attributes:
        loaded: Entries that were loaded.
        reshaped: Entries that stay fresh because their shape differs, such as those of a classifier for another number
            of classes.
        fresh: Entries of the network that the state dict does not have.
        unused: Entries of the state dict that the network does not have.
    """

    loaded: tuple[str, ...]
    reshaped: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} entries loaded"]
        for names, what in (
            (self.reshaped, "of another shape and left fresh"),
            (self.fresh, "not in the weights and left fresh"),
            (self.unused, "of the weights not used"),
        ):
            if names:
                more = ", ..." if len(names) > 6 else ""
                parts.append(f"{len(names)} {what} ({', '.join(names[:6])}{more})")
        return "; ".join(parts)


def transfer(network: nn.Module, state: Mapping[str, Tensor]) -> TransferReport:
    """Load every entry of `state` that `network` has in the same shape, and leave the rest as it is.

    Args:
        network: Changed in place.
        state: The state dict to take from.

    Raises:
        ValueError: Nothing fits.
    """
    expected = network.state_dict()
    shared = state.keys() & expected.keys()
    loaded = {key: state[key] for key in shared if state[key].shape == expected[key].shape}
    if not loaded:
        raise ValueError("None of the weights' entries fits the network.")
    with torch.no_grad():
        network.load_state_dict(loaded, strict=False)
    return TransferReport(
        loaded=tuple(sorted(loaded)),
        reshaped=tuple(sorted(shared - loaded.keys())),
        fresh=tuple(sorted(expected.keys() - state.keys())),
        unused=tuple(sorted(state.keys() - expected.keys())),
    )
