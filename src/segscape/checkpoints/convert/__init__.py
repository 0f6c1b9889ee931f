"""From the authors' checkpoints to ours, one module an origin."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from segscape.checkpoints.convert import stdc
from segscape.checkpoints.convert.official import OfficialFormat
from segscape.registry import model_entry

_FORMATS: dict[str, OfficialFormat] = {**stdc.FORMATS}


def convert_checkpoint(
    name: str, state_dict: Mapping[str, object], num_classes: int | None = None
) -> dict[str, Tensor]:
    """The state dict of our network `name`, from its authors' checkpoint.

    A wrapper such as `{"state_dict": ...}` and `module.` prefixes
    are taken off. Entries that the authors store but never use are left out.

    Args:
        name: A registered network.
        state_dict: The official state dict, or a dict that wraps it.
        num_classes: K; by default what the checkpoint says.

    Returns:
        What `create_model(name, num_classes).load_state_dict` takes, strictly.

    Raises:
        ValueError: The network is unknown or has no official format, or entries are missing, unexpected or of the
            wrong shape; the message names every one of them.
    """
    entry = model_entry(name)
    if name not in _FORMATS:
        raise ValueError(f"{name} has no official checkpoint format; there is one for {', '.join(sorted(_FORMATS))}.")
    return _FORMATS[name].convert(entry.build, state_dict, num_classes)
