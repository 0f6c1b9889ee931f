"""ImageNet weights for the parts of a network that start from them: from timm, or from a local checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from segscape.checkpoints.convert import FORMATS
from segscape.checkpoints.convert.official import unwrap
from segscape.checkpoints.read import read_state_dict

TIMM = "timm"
"""The source that stands for a download through timm."""

_TIMM_WEIGHTS = {
    "isnet_resnet50": "resnet50c.gluon_in1k",
    "isnet_resnet101": "resnet101c.gluon_in1k",
    "isnet_resnet50_lip": "resnet50c.gluon_in1k",
    "isnet_resnet101_lip": "resnet101c.gluon_in1k",
    "dabnet_efficientnet_b1": "efficientnet_b1.ft_in1k",
    "crm_resnet50": "resnet50.tv_in1k",
    "crm_resnet18": "resnet18.tv_in1k",
}
"""The networks for whose backbone timm has weights. It has none for ResNet-18 with the deep stem, nor for STDC."""

# Networks that no authors published, with the parts of them that hold a backbone's entries by their own names.
_OWN_PARTS = {"crm_resnet18": ("extractor",)}

# timm's names of the deep stem; ours are those of OpenMMLab's files.
_TIMM_STEM = {"conv1.": "stem.", "bn1.": "stem.7."}


def load_pretrained(network: nn.Module, name: str, part: str, source: str) -> None:
    """Load ImageNet weights into one part of a network.

    Args:
        network: Changed in place.
        name: Its registered name.
        part: The submodule: `"backbone"`, `"shallow"` for ISDNet's shallow branch, or `"extractor"` of CRM, whose
            channel for the mask starts at zero.
        source: A local checkpoint, or `"timm"` to download what the authors' recipe starts from, where timm has it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The network has no such part, timm has no weights for it or cannot be reached, or the checkpoint is
            of another backbone; the message says which entries.
    """
    names_of = _names_in_checkpoint(name, part)
    if source != TIMM and not Path(source).is_file():
        raise FileNotFoundError(
            f"There is no checkpoint {source} for the {part} of {name}; docs/recipes.md says where it comes from, and "
            "--model.pretrained null starts without it."
        )
    found = _from_timm(name) if source == TIMM else unwrap(read_state_dict(Path(source)))
    if "conv1.0.weight" in found:
        found = {_without_timm_stem(key): value for key, value in found.items()}
    module = network.get_submodule(part)
    expected = module.state_dict()
    state, missing = {}, []
    taken: set[str] = set()
    for key, value in expected.items():
        names = names_of(key)
        match = next((given for given in names if given in found), None)
        taken.update(names)
        if match is not None:
            state[key] = _widened(found[match], value)
        elif not key.endswith("num_batches_tracked"):
            missing.append(names[0])
    # Classifiers are left aside; further layers of the same kind are of a deeper backbone. The shallow branch is meant
    # to be a part of one.
    kinds = {given.split(".")[0] for given in taken} if part != "shallow" else set()
    strange = sorted(key for key in found.keys() - taken if key.split(".")[0] in kinds)
    reshaped = sorted(key for key in state if state[key].shape != expected[key].shape)
    if missing or strange or reshaped:
        raise ValueError(
            f"{source} does not fit the {part} of {name}: missing {missing or 'none'}, unexpected {strange or 'none'}, "
            f"of another shape {reshaped or 'none'}."
        )
    with torch.no_grad():
        module.load_state_dict(state, strict=False)


def _names_in_checkpoint(name: str, part: str) -> Callable[[str], list[str]]:
    """The names that an ImageNet checkpoint may have for an entry of a part, from the entry's name in it.

    Raises:
        ValueError: The network has no such part.
    """
    if part in _OWN_PARTS.get(name, ()):
        return lambda key: [key]
    known = FORMATS[name][0] if name in FORMATS else None
    if known is None or part not in known.pretrained:
        parts = ", ".join(_OWN_PARTS.get(name, known.pretrained if known else ())) or "none"
        raise ValueError(f"{name} has no part {part!r} with ImageNet weights; it has {parts}.")

    def names(key: str) -> list[str]:
        official = known.official_name(f"{part}.{key}")
        return [given.removeprefix(known.pretrained[part]) for given in (official, *known.aliases(official))]

    return names


def _from_timm(name: str) -> Mapping[str, Tensor]:
    if name not in _TIMM_WEIGHTS:
        raise ValueError(
            f"timm has no weights for the backbone of {name}; give a local file, or leave it to start from scratch."
        )
    import timm  # seconds to import

    try:
        return timm.create_model(_TIMM_WEIGHTS[name], pretrained=True).state_dict()
    except Exception as error:  # whatever the download, of several libraries, fails with
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"timm's weights {_TIMM_WEIGHTS[name]} cannot be downloaded ({reason}); give a local file instead."
        ) from None


def _without_timm_stem(name: str) -> str:
    prefix = next((prefix for prefix in _TIMM_STEM if name.startswith(prefix)), "")
    return _TIMM_STEM.get(prefix, "") + name.removeprefix(prefix)


def _widened(value: Tensor, like: Tensor) -> Tensor:
    """A kernel of three channels for more: six in ISDNet's shallow branch, a fourth for CRM's mask.

    The six are the three twice over, the fourth is zero, as the authors start.
    """
    if value.ndim == like.ndim == 4 and value.shape[1] == 3:
        if like.shape[1] == 6:
            return torch.cat([value, value], dim=1)
        if like.shape[1] == 4:
            return torch.cat([value, torch.zeros_like(value[:, :1])], dim=1)
    return value
