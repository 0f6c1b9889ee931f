"""What every runtime promises: a batch of images in, logits out."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import CodeType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from segscape.networks import SegmentationNetwork

_AMPLE = (256, 256)
Precision = Literal["fp32", "bf16", "fp16", "int8"]


class Runtime(ABC):
    """One network made ready to run by one engine.

    Attributes:
        name: The engine's, as `--runtime` takes it.
        precision: The numbers that the network's layers compute with.
        device: Where images come in and logits go out.
        size: The only (height, width) of images it takes, in pixels; nothing where every size does that the network
            takes.
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
            (N, K, h, w) float32 on `device`; the caller's to keep.
        """


class RuntimeUnavailableError(ValueError):
    """A runtime cannot be had here, be it for a missing package, the device or the precision."""


@dataclass(frozen=True)
class Calibration:
    """Images that show an int8 network the range of what each layer gives.

    Attributes:
        images: Functions that each give one batch (N, 3, H, W) float32, normalised, of a size that the network takes.
        digest: Tells these images from all others.
    """

    images: Sequence[Callable[[], Tensor]]
    digest: str


def _settings(module: nn.Module) -> dict[str, Any]:
    """A module's own attributes that are plain values."""
    return {
        name: value
        for name, value in sorted(vars(module).items())
        if isinstance(value, bool | int | float | str | tuple | None) and name != "training" and name[0] != "_"
    }


def _update_with_code(digest: hashlib._Hash, code: CodeType) -> None:
    """Add what a function does: two networks of the same weights may compute different things with them."""
    digest.update(code.co_code + repr((code.co_names, code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _update_with_code(digest, constant)
        else:
            digest.update(repr(constant).encode())


@dataclass(frozen=True)
class Deployed:
    """A network that engines are made from.

    Attributes:
        network: As `segscape.runtime.deploy.deploy` returns it, on the device where it is to run.
        calibration: What int8 is made with.
    """

    network: SegmentationNetwork
    calibration: Calibration | None = None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the weights and of what is computed with them, in hexadecimal digits."""
        digest = hashlib.sha256()
        for name, value in self.network.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().data)
        for name, module in self.network.named_modules():
            digest.update(f"{name}: {type(module).__qualname__} {_settings(module)}".encode())
            _update_with_code(digest, type(module).forward.__code__)
        return digest.hexdigest()

    def logits_shape(self, images: Tensor) -> tuple[int, int, int, int]:
        """The shape (N, K, h, w) of what the network gives for images (N, 3, H, W)."""
        count, _, height, width = images.shape
        stride = self.network.stride
        return count, self.num_classes, -(-height // stride), -(-width // stride)

    @cached_property
    def num_classes(self) -> int:
        """K, the number of classes."""
        # Nothing is computed, and the size is one at which no layer lacks pixels.
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            images = torch.empty(1, 3, *self.network.fitting_size(*_AMPLE), device=self.device)
            return self.network(images).shape[1]
