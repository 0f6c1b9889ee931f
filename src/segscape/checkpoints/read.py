"""Reading checkpoint files without executing what is in them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_BLOCKED = re.compile(r"GLOBAL (\S+) was not an allowed global")


class _Inert:
    """A placeholder for an object of a class that is not needed: it accepts any state and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_state_dict(path: str | Path) -> Mapping[str, Any]:
    """Read the contents of a `.safetensors` file, or of a file that `torch.save` wrote.

    Objects of other classes than tensors and plain containers, which training frameworks leave in their checkpoints,
    are read as inert placeholders; none of their code runs.

    Args:
        path: The file.

    Returns:
        The mapping in the file, with tensors on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or holds no mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    try:
        contents = load_file(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        reason = next((line for line in lines if "Unpickler error" in line), lines[0])
        raise ValueError(f"{path} cannot be read as a checkpoint: {reason.strip()}") from None
    if not isinstance(contents, Mapping):
        raise ValueError(f"{path} holds a {type(contents).__name__}, not a state dict.")
    return contents


def _read_pickle(path: Path) -> Any:
    placeholders: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
    names: set[str] = set()
    while True:
        try:
            with torch.serialization.safe_globals(placeholders):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            blocked = _BLOCKED.search(str(error))
            # A name that is refused although it has a placeholder would be refused again in every turn.
            if blocked is None or blocked[1] in names:
                raise
            names.add(blocked[1])
            # PyTorch's message omits the module of a builtin.
            full_name = blocked[1] if "." in blocked[1] else f"builtins.{blocked[1]}"
            placeholders.append((type("Inert", (_Inert,), {}), full_name))
