"""The shape of a network's logits and the memory that it needs for an image size, found without computing values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class DryRun(NamedTuple):
    """The properties of a network for one image size that are known beforehand.

    Attributes:
        logits: (K, h, w), the shape of the logits of one image.
        nbytes: The largest number of bytes of the maps held at a time, the image included, the parameters not.
    """

    logits: tuple[int, int, int]
    nbytes: int


def dry_run(network: nn.Module, size: tuple[int, int]) -> DryRun:
    """Run a network on the shape of an image, without values.

    Args:
        network: In evaluation mode; it is not changed.
        size: (height, width) of one image, in pixels; a size that the network takes.
    """
    held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    like = next(network.parameters())
    # Not on the device "meta": attention there creates the matrix of all pixels by all pixels, which no device holds.
    with torch.no_grad(), FakeTensorMode() as mode:
        shapes: dict[str, Tensor] = {name: mode.from_tensor(value) for name, value in held.items()}
        with _Watch() as watch:
            logits = functional_call(network, shapes, torch.empty(1, 3, *size, dtype=like.dtype, device=like.device))
    return DryRun((logits.shape[1], logits.shape[2], logits.shape[3]), watch.most)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode that records the most bytes of all tensors that are alive after any operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        # By storage, so that views count once; the references are weak, so that counting keeps nothing alive.
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._alive[StorageWeakRef(storage)] = storage.nbytes()  # type: ignore[no-untyped-call]
        expired = [held for held in self._alive if held.expired()]  # type: ignore[no-untyped-call]
        for held in expired:
            del self._alive[held]
        self.most = max(self.most, sum(self._alive.values()))
        return made
