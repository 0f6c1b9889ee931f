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
_FILLED = re.compile(r"(?P<kind>SETITEM|lists).*_Inert(?P<number>\d+)", re.DOTALL)
_MOST_CLASSES = 1000
"""The number of foreign classes above which a file is no checkpoint, but one that is made to take long."""


class _Inert:
    """A placeholder for an object of a class that is not needed: it accepts any state and items and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _InertDict:
    """A placeholder for a class of dictionaries: the loader puts items into plain ones only."""

    def __new__(cls, *args: Any, **kwargs: Any) -> dict[Any, Any]:  # type: ignore[misc]
        return {}


class _InertList:
    """A placeholder for a class of lists or queues: the loader appends to plain lists only."""

    def __new__(cls, *args: Any, **kwargs: Any) -> list[Any]:  # type: ignore[misc]
        return []


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
        # Torch's advice stands before the reason, and its further reading after.
        reason = str(error).partition("WeightsUnpickler error:")[2] or str(error) or type(error).__name__
        raise ValueError(f"{path} cannot be read as a checkpoint: {reason.strip().splitlines()[0]}") from None
    if not isinstance(contents, Mapping):
        raise ValueError(f"{path} holds a {type(contents).__name__}, not a state dict.")
    return contents


def _read_pickle(path: Path) -> Any:
    """Read a file of `torch.save`, with a placeholder for every class that torch does not allow."""
    names = list(_foreign_classes(path))
    kinds: dict[int, type] = {}
    while True:
        if len(names) > _MOST_CLASSES:
            raise ValueError(f"it names more than {_MOST_CLASSES} classes of other packages, which no checkpoint does")
        placeholders: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (type(f"_Inert{number}", (kinds.get(number, _Inert),), {}), name) for number, name in enumerate(names)
        ]
        try:
            with torch.serialization.safe_globals(placeholders):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            blocked, filled = _BLOCKED.search(str(error)), _FILLED.search(str(error))
            # One that is in the way although it has its placeholder would be in the way again in every turn.
            if filled is not None and int(filled["number"]) not in kinds:
                kinds[int(filled["number"])] = _InertList if filled["kind"] == "lists" else _InertDict
                continue
            # PyTorch's message omits the module of a builtin.
            name = "" if blocked is None else blocked[1] if "." in blocked[1] else f"builtins.{blocked[1]}"
            if not name or name in names:
                raise
            names.append(name)


def _foreign_classes(path: Path) -> set[str]:
    """Return the names of the classes in a file that torch does not allow; none for the format before PyTorch 1.6."""
    try:
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # what is wrong with the file is said when it is read
        return set()
