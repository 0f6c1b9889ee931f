"""PyTorch on a CPU, with 3 x 3 convolutions by Winograd's algorithm, which needs a quarter of the multiplications."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from segscape.choices import Precision
from segscape.runtime import fused
from segscape.runtime.base import Deployed, Runtime, RuntimeUnavailableError


class WinogradRuntime(Runtime):
    """The network layer by layer, with wide 3 x 3 convolutions of stride 1 by Winograd's algorithm.

    Args:
        deployed: The network to run; it is left as it is.
        precision: fp32 alone.

    Attributes:
        layers: The layers with Winograd's algorithm, by the names of the network's convolutions.

    Raises:
        RuntimeUnavailableError: The network is not on a CPU, PyTorch comes without MKL,
            or the precision is another.
    """

    name = "winograd"
    precision: Precision = "fp32"

    def __init__(self, deployed: Deployed, *, precision: Precision = "fp32") -> None:
        self.device = deployed.device
        if self.device.type != "cpu" or precision != "fp32":
            raise RuntimeUnavailableError(
                "The runtime winograd computes on the CPU in fp32 alone; give --device cpu without --precision, or "
                "choose --runtime auto."
            )
        from segscape.runtime.winograd.layers import use_winograd
        from segscape.runtime.winograd.native import AVAILABLE

        if not AVAILABLE:
            raise RuntimeUnavailableError(
                "The runtime winograd needs a PyTorch with Intel's MKL, as it is on Linux for x86-64; choose "
                "--runtime torch."
            )
        self._network = copy.deepcopy(deployed.network)
        # Winograd's form first: `fuse` takes the convolutions that are left.
        self.layers = use_winograd(self._network)
        if fused.AVAILABLE:
            fused.fuse(self._network)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """See `Runtime`."""
        return self._network(images.float())
