"""The interface of all runtimes: a batch of images in, logits out."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from segscape.choices import Precision
from segscape.networks import SegmentationNetwork

_AMPLE = (256, 256)


class Runtime(ABC):
    """A network prepared to run on one engine.

    Attributes:
        name: Name of the engine, as `--runtime` takes it.
        precision: The precision that the network's layers compute in.
        device: The device of the images and of the logits.
        size: The only (height, width) of images that it takes, in pixels; None where it takes every size that the
            network does.
        gives_labels: Whether a call returns labels (N, H, W) uint8 of the images' size instead of logits.
    """

    name: str
    precision: Precision
    device: torch.device
    size: tuple[int, int] | None = None
    gives_labels: bool = False

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Run the network.

        Args:
            images: (N, 3, H, W) float32, normalised, on `device`, of a size that the network takes.

        Returns:
            Logits (N, K, h, w) float32, or labels, on `device`; later calls do not overwrite them.
        """


class RuntimeUnavailableError(ValueError):
    """A runtime is not available here, because of a missing package, the device or the precision."""


@dataclass(frozen=True)
class Calibration:
    """Images on which the range of each layer's results is measured for an int8 network.

    Attributes:
        images: Functions that each return one batch (N, 3, H, W) float32, normalised, of a size that the network takes.
        digest: Digest that distinguishes these images from all others.
    """

    images: Sequence[Callable[[], Tensor]]
    digest: str


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return a module's own attributes that are plain values."""
    return {
        name: value
        for name, value in sorted(vars(module).items())
        if isinstance(value, bool | int | float | str | tuple | None) and name != "training" and name[0] != "_"
    }


def _update_with_code(digest: hashlib._Hash, code: CodeType) -> None:
    """Add a function's code to a digest: two networks with the same weights may compute different things with them."""
    digest.update(code.co_code + repr((code.co_names, code.co_varnames)).encode())
    # The first constant may be the docstring, which changes nothing.
    for constant in code.co_consts[1:] if isinstance(code.co_consts[0], str) else code.co_consts:
        if isinstance(constant, CodeType):
            _update_with_code(digest, constant)
        else:
            digest.update(repr(constant).encode())


@dataclass(frozen=True)
class Deployed:
    """A network that runtimes are created from.

    Attributes:
        network: The network as `segscape.runtime.deploy.deploy` returns it, on the device where it is to run.
        calibration: The images that int8 needs.
    """

    network: SegmentationNetwork
    calibration: Calibration | None = None

    @property
    def device(self) -> torch.device:
        """The device of the network's parameters."""
        return next(self.network.parameters()).device

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the weights and of the settings and code that compute with them, in hexadecimal digits."""
        digest = hashlib.sha256()
        for name, value in self.network.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().data)
        for name, module in self.network.named_modules():
            digest.update(f"{name}: {type(module).__qualname__} {_settings(module)}".encode())
            _update_with_code(digest, type(module).forward.__code__)
        return digest.hexdigest()

    def logits_shape(self, images: Tensor) -> tuple[int, int, int, int]:
        """Return the shape (N, K, h, w) of the network's logits for images (N, 3, H, W)."""
        count, _, height, width = images.shape
        stride = self.network.stride
        return count, self.num_classes, -(-height // stride), -(-width // stride)

    @cached_property
    def num_classes(self) -> int:
        """K, the number of classes."""
        # Fake tensors have shapes alone, so nothing is computed; the size is large enough for every layer.
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            images = torch.empty(1, 3, *self.network.fitting_size(*_AMPLE), device=self.device)
            return self.network(images).shape[1]
