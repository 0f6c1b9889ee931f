"""Weights files: safetensors files that hold their card as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from segscape.checkpoints.card import METADATA_KEY, WeightsCard
from segscape.checkpoints.shipped import ADVICE, find_weights, read_card
from segscape.files import atomic_path
from segscape.networks import SegmentationNetwork
from segscape.registry import model_entry

_LEFTOVER = "official:"
"""Prefix of the official entries that a weights file keeps beside our state dict."""


def read_weights(path: Path) -> tuple[WeightsCard, dict[str, Tensor]]:
    """Read a weights file's card and its tensors, those of a floating-point type as float32.

    Raises:
        ValueError: The file is damaged or has no card.
    """
    card = read_card(path)
    try:
        with safe_open(path, framework="pt") as file:
            wanted = [key for key in file.keys() if not key.startswith(_LEFTOVER)]  # noqa: SIM118
            state = {key: file.get_tensor(key) for key in wanted}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a weights file ({error}); {ADVICE}.") from None
    check_finite(path, state)
    return card, {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse weights of which some are no numbers.

    Args:
        path: The file that they are of, for the message.
        state: The tensors, by name.

    Raises:
        ValueError: Some are infinite or NaN.
    """
    numbers = {key: value for key, value in state.items() if value.is_floating_point()}
    # All at once: hundreds of small operations would each wait for all threads.
    if not numbers or torch.isfinite(torch.cat([value.flatten() for value in numbers.values()])).all():
        return
    key = next(key for key, value in numbers.items() if not torch.isfinite(value).all())
    raise ValueError(
        f"{path} cannot be used: its entry {key} holds values that are no numbers, as after a training that diverged; "
        "use an earlier checkpoint, or fetch the file again."
    )


def read_leftovers(path: Path) -> dict[str, Tensor]:
    """Read the official entries that a converted weights file keeps, by their official names; see `write_weights`.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            kept = [key for key in file.keys() if key.startswith(_LEFTOVER)]  # noqa: SIM118
            return {key.removeprefix(_LEFTOVER): file.get_tensor(key) for key in kept}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a weights file ({error}).") from None


def write_weights(
    path: Path, card: WeightsCard, state: Mapping[str, Tensor], *, leftovers: Mapping[str, Tensor] | None = None
) -> None:
    """Write a weights file; it appears whole or not at all.

    Args:
        path: The file, with the suffix `.safetensors`.
        card: Stored in the file's metadata.
        state: The network's state dict, in any floating-point types; the training heads may be left out.
        leftovers: Official entries that the network does not have, kept so that the official file can be restored.
    """
    kept = {f"{_LEFTOVER}{key}": value for key, value in (leftovers or {}).items()}
    # Cloned because safetensors refuses tensors that share memory.
    contiguous = {key: value.detach().cpu().clone().contiguous() for key, value in {**state, **kept}.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(contiguous, metadata={METADATA_KEY: card.to_json()}))


def inference_state(network: SegmentationNetwork) -> dict[str, Tensor]:
    """Return the network's state dict without the heads that only training uses."""
    heads = tuple(f"{name}." for name in network.parts.training_only)
    return {key: value for key, value in network.state_dict().items() if not key.startswith(heads)}


def create_model(name: str, num_classes: int | None = None, weights: str | Path | None = None) -> nn.Module:
    """Create a network by its registered name, in evaluation mode.

    Args:
        name: One of `list_models()`.
        num_classes: K; may be omitted with `weights`, whose card holds it, and for networks that refine masks.
        weights: A name from `list_weights()` or a weights file. Training heads that the file does not hold keep their
            fresh weights.

    Returns:
        A module from normalised images (N, 3, H, W) to logits (N, K, h, w); see `SegmentationNetwork`. One that refines
        masks is called with them and a size as well; see `RefinementNetwork`.

    Raises:
        FileNotFoundError: There are no such weights.
        ValueError: The name is unknown, the weights are of another network or number of classes, or they do not fit.

    Examples:
        >>> import torch
        >>> import segscape
        >>> network = segscape.create_model("stdc1_seg", num_classes=19)
        >>> with torch.inference_mode():
        ...     network(torch.zeros(1, 3, 64, 128)).shape
        torch.Size([1, 19, 8, 16])
        >>> trained = segscape.create_model("scapenet_lite0", weights="scapenet_lite0.street")
    """
    entry = model_entry(name)
    if weights is None:
        if num_classes is None and entry.task != "refinement":
            raise ValueError(f"create_model({name!r}) needs num_classes, or weights that tell it.")
        return entry.create(num_classes or 1).eval()
    path = find_weights(weights)
    card, state = read_weights(path)
    if card.network != name:
        raise ValueError(f"{path} holds weights of {card.network}, not of {name}.")
    if num_classes not in (None, card.num_classes):
        raise ValueError(f"{path} holds weights for {card.num_classes} classes, not for {num_classes}.")
    network = entry.create(card.num_classes).eval()
    load_inference_state(network, state, source=path)
    return network


def load_inference_state(network: nn.Module, state: Mapping[str, Tensor], *, source: Path) -> None:
    """Load a state dict strictly, except for training heads of which it has no entry.

    Raises:
        ValueError: Entries are missing, unexpected or of the wrong shape; the message names `source` and the entries.
    """
    expected = network.state_dict()
    heads = network.parts.training_only if isinstance(network, SegmentationNetwork) else ()
    optional = tuple(f"{name}." for name in heads if not any(key.startswith(f"{name}.") for key in state))
    missing = sorted(key for key in expected.keys() - state.keys() if not (optional and key.startswith(optional)))
    unexpected = sorted(state.keys() - expected.keys())
    shapes = sorted(key for key in expected.keys() & state.keys() if expected[key].shape != state[key].shape)
    if missing or unexpected or shapes:
        raise ValueError(
            f"{source} does not fit the network: missing {missing or 'none'}, unexpected {unexpected or 'none'}, "
            f"of another shape {shapes or 'none'}."
        )
    with torch.no_grad():
        network.load_state_dict(dict(state), strict=False)
