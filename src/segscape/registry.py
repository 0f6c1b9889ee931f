"""The registry of all networks: a registered function's name is the network's name."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from segscape.messages import proposal

if TYPE_CHECKING:
    from torch import nn

NetworkTask = Literal["segmentation", "refinement", "classification"]
Builder = TypeVar("Builder", bound="Callable[..., nn.Module]")


@dataclass(frozen=True)
class ModelEntry:
    """The registry's entry for a network.

    Attributes:
        name: The network's name, equal to the name of its function.
        build: `build(num_classes=K)` returns the network with fresh weights; `build()` one that refines masks.
        task: The task that the network solves on images (N, 3, H, W).
    """

    name: str
    build: Callable[..., nn.Module]
    task: NetworkTask

    def create(self, num_classes: int) -> nn.Module:
        """Create the network with fresh weights for K classes; for one that refines masks, K is 1, the object.

        Raises:
            ValueError: The network does not support K classes.
        """
        if self.task != "refinement":
            return self.build(num_classes=num_classes)
        if num_classes != 1:
            raise ValueError(f"{self.name} refines the mask of one object; it has no {num_classes} classes.")
        return self.build()


_ENTRIES: dict[str, ModelEntry] = {}


def register_model(*, task: NetworkTask = "segmentation") -> Callable[[Builder], Builder]:
    """Register the decorated function under its own name.

    Args:
        task: The network's task.

    Returns:
        A decorator that returns the function unchanged.
    """

    def register(build: Builder) -> Builder:
        name = build.__name__
        assert name not in _ENTRIES, f"{name} is registered twice"
        _ENTRIES[name] = ModelEntry(name, build, task)
        return build

    return register


def list_models(pattern: str = "*", *, task: NetworkTask = "segmentation") -> list[str]:
    """Return the sorted names of the registered networks.

    Args:
        pattern: A shell pattern such as `"stdc*"`.
        task: Only networks of this task; those that refine masks are `"refinement"`, the ImageNet forms of the
            backbones `"classification"`.

    Examples:
        >>> import segscape
        >>> segscape.list_models("stdc*")
        ['stdc1_seg', 'stdc2_seg']
        >>> "crm_resnet50" in segscape.list_models(task="refinement")
        True
    """
    return sorted(name for name, entry in _ENTRIES.items() if entry.task == task and fnmatch.fnmatchcase(name, pattern))


def model_entry(name: str) -> ModelEntry:
    """Return the registry's entry for `name`.

    Raises:
        ValueError: No network has this name; the message gives the nearest names.
    """
    if name in _ENTRIES:
        return _ENTRIES[name]
    names = f"the names are {', '.join(sorted(_ENTRIES))}."
    raise ValueError(f"There is no network named {name!r}; {proposal(name, _ENTRIES, names)}")
