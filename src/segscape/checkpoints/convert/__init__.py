"""From the authors' checkpoints to ours and back, one module an origin."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from segscape.checkpoints.convert import crm, dabnet, isdnet, isnet, stdc
from segscape.checkpoints.convert.official import OfficialFormat, unwrap
from segscape.choices import Which
from segscape.registry import model_entry

FORMATS: dict[str, tuple[OfficialFormat, ...]] = {
    **crm.FORMATS,
    **dabnet.FORMATS,
    **isdnet.FORMATS,
    **isnet.FORMATS,
    **stdc.FORMATS,
}
"""The official formats of each network, the one that `to_official` writes by default first."""


def official_formats(name: str) -> tuple[OfficialFormat, ...]:
    """The official formats of a network.

    Raises:
        ValueError: The network is unknown or has none.
    """
    model_entry(name)
    if name not in FORMATS:
        raise ValueError(f"{name} has no official checkpoint format; there is one for {', '.join(sorted(FORMATS))}.")
    return FORMATS[name]


def detect_format(name: str, state_dict: Mapping[str, object], which: Which = "averaged") -> OfficialFormat:
    """The official format that a checkpoint of network `name` has.

    Raises:
        ValueError: The network has no official format, or the checkpoint has none of them.
    """
    official = unwrap(state_dict, which)
    formats = official_formats(name)
    found = next((known for known in formats if known.fits(official)), None)
    if found is None:
        raise ValueError(
            f"The checkpoint has no entry {' or '.join(known.classifier for known in formats)}, so it is not of this "
            f"network; it begins with {', '.join(list(official)[:3])}."
        )
    return found


def convert_checkpoint(
    name: str, state_dict: Mapping[str, object], num_classes: int | None = None, *, which: Which = "averaged"
) -> dict[str, Tensor]:
    """The state dict of our network `name`, from its authors' checkpoint.

    Wrappers such as `{"state_dict": ...}` and prefixes such as `module.` are taken off. Entries that the authors store
    but never use are left out; `leftovers` are what must be kept to get them back.

    Args:
        name: A registered network.
        state_dict: The official state dict, or a dict that wraps it.
        num_classes: K; by default what the checkpoint says.
        which: The weights to take where it holds averaged ones beside the raw ones.

    Returns:
        What `create_model(name, num_classes).load_state_dict` takes, strictly.

    Raises:
        ValueError: The network is unknown or has no official format, or entries are missing, unexpected or of the
            wrong shape; the message names every one of them.

    Examples:
        >>> import torch
        >>> import segscape
        >>> official = torch.load("official.pth", weights_only=True)
        >>> network = segscape.create_model("stdc1_seg", num_classes=19)
        >>> network.load_state_dict(segscape.convert_checkpoint("stdc1_seg", official))
        <All keys matched successfully>
    """
    known = detect_format(name, state_dict, which)
    return known.convert(model_entry(name).create, unwrap(state_dict, which), num_classes)


def num_classes_of(name: str, converted: Mapping[str, Tensor]) -> int:
    """K of a state dict of ours."""
    known = official_formats(name)[0]
    return next(value.shape[0] for key, value in converted.items() if known.official_name(key) == known.classifier)


def leftovers(
    name: str, state_dict: Mapping[str, object], converted: Mapping[str, Tensor], *, which: Which = "averaged"
) -> dict[str, Tensor]:
    """The entries of an official checkpoint that cannot be had back from its conversion alone.

    Args:
        name: A registered network.
        state_dict: The official checkpoint.
        converted: What `convert_checkpoint` made of it.
        which: As it was converted.
    """
    restored = detect_format(name, state_dict, which).restore(converted)
    return {
        key: value
        for key, value in unwrap(state_dict, which).items()
        if key not in restored or restored[key].shape != value.shape or not torch.equal(restored[key], value)
    }


def to_official(
    name: str, state: Mapping[str, Tensor], *, origin: str | None = None, kept: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The authors' state dict, from ours.

    Args:
        name: A registered network.
        state: Our state dict.
        origin: The code base whose names are wanted; by default the first that knows the network.
        kept: The `leftovers` of the conversion that `state` came from. Without them, entries that the authors store
            but never use are missing.

    Raises:
        ValueError: The network has no such official format.
    """
    formats = {known.origin: known for known in official_formats(name)}
    if origin is None:
        origin = next(iter(formats))
    if origin not in formats:
        raise ValueError(f"{name} has no format of {origin}; it has {', '.join(formats)}.")
    return {**formats[origin].restore(state), **(kept or {})}
