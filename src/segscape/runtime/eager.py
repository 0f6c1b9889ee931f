"""PyTorch layer by layer: it needs no other package, starts at once, and is the reference for every other runtime.

On a CPU a convolution and the activation behind it are one call, and wide maps inside a block are computed band by
band, never as a whole.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from segscape.choices import Precision
from segscape.runtime.base import Deployed, Runtime
from segscape.runtime.fused import AVAILABLE, fuse
from segscape.runtime.machine import require_float_precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class EagerRuntime(Runtime):
    """The deployed network itself, or a copy of it in lower precision.

    Args:
        deployed: The network to run; it is left as it is.
        precision: fp32, bf16, or on a GPU fp16.

    Raises:
        RuntimeUnavailableError: The device does not compute in this precision.
    """

    name = "torch"

    def __init__(self, deployed: Deployed, *, precision: Precision = "fp32") -> None:
        self.device = deployed.device
        require_float_precision(self.name, precision, self.device)
        self.precision = precision
        self._dtype = DTYPES[precision]
        network = deployed.network
        if precision != "fp32":
            network = copy.deepcopy(network).to(self._dtype)
        if self.device.type == "cpu" and AVAILABLE:
            # `fuse` changes modules in place, so it gets copies of them that share the weights.
            shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
            network = copy.deepcopy(network, shared)
            fuse(network)
        self._network = network

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """See `Runtime`."""
        return self._network(images.to(self._dtype)).float()
