"""PyTorch's own compiler: CUDA graphs on a GPU, fused loops on a CPU."""

from __future__ import annotations

import copy
import os
import shutil

import torch
from torch import Tensor

from segscape.choices import Precision
from segscape.runtime.base import Deployed, Runtime, RuntimeUnavailableError
from segscape.runtime.eager import DTYPES
from segscape.runtime.machine import require_float_precision

_COMPILERS = ("g++", "clang++", "c++", "cl")


class CompiledRuntime(Runtime):
    """The network compiled by `torch.compile`, at the first image of each size.

    Args:
        deployed: The network to compile; it is left as it is.
        precision: fp32, bf16, or on a GPU fp16.

    Raises:
        RuntimeUnavailableError: There is no C++ compiler, or the device does not compute in this precision.
    """

    name = "compile"

    def __init__(self, deployed: Deployed, *, precision: Precision = "fp32") -> None:
        self.device = deployed.device
        require_float_precision(self.name, precision, self.device)
        if not any(shutil.which(compiler) for compiler in (os.environ.get("CXX", ""), *_COMPILERS)):
            raise RuntimeUnavailableError(
                "The runtime compile needs a C++ compiler such as g++, and this machine has none; install one, or "
                "choose --runtime torch."
            )
        self.precision = precision
        self._dtype = DTYPES[precision]
        network = copy.deepcopy(deployed.network).to(self._dtype)
        if self.device.type == "cuda":
            self._network = torch.compile(network, mode="reduce-overhead")
        else:
            # Constant weights can be packed for the convolutions beforehand.
            self._network = torch.compile(network, options={"freezing": True})

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """See `Runtime`."""
        logits = self._network(images.to(self._dtype))
        # The next replay of a CUDA graph overwrites its results, so the caller gets a copy.
        return logits.to(torch.float32, copy=True)
