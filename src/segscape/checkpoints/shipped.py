"""The weights files that ship with the package, and the cards of any: what can be known of weights without PyTorch."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from safetensors import SafetensorError, safe_open

from segscape.checkpoints.card import METADATA_KEY, WeightsCard
from segscape.figures import figures, networks
from segscape.messages import proposal

ADVICE = "a weights file is made by `segscape fit` or `segscape convert`"
"""The end of what is said of files that are none."""


def _shipped() -> dict[str, Path]:
    folder = Path(str(files("segscape"))) / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def list_weights() -> list[str]:
    """Return the names of the weights that ship with the package, as `<network>.<data set>`.

    Examples:
        >>> import segscape
        >>> segscape.list_weights()[-1]
        'scapenet_lite0.street'
    """
    return list(_shipped())


def find_weights(name_or_path: str | Path, *, task: str | None = None) -> Path:
    """Return the path of a weights file, given by a name from `list_weights` or by a path.

    Args:
        name_or_path: The name or the path.
        task: What networks of the names in the message are for, such as `refinement`; by default anything.

    Raises:
        FileNotFoundError: There is no such name or file; the message lists the names.
    """
    shipped = _shipped()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if path.is_file():
        return path
    suiting = [
        name for name, card in figures()["weights"].items() if task in (None, networks()[card["network"]]["task"])
    ]
    hint = proposal(str(name_or_path), suiting, f"give the path of a file, or a name: {', '.join(suiting)}.")
    raise FileNotFoundError(f"There are no weights {name_or_path}; {hint}")


def read_card(path: Path) -> WeightsCard:
    """Read the card of a weights file, without its tensors.

    Raises:
        ValueError: The file is damaged or has no card.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a weights file ({error}); {ADVICE}.") from None
    if METADATA_KEY not in metadata:
        raise ValueError(f"{path} has no Segscape card; {ADVICE}.")
    try:
        return WeightsCard.from_json(metadata[METADATA_KEY])
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}; {ADVICE}.") from None
