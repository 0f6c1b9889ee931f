"""OpenVINO on the CPU: in float32, in bfloat16 where the CPU has it, and in 8-bit integers."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from segscape.choices import Precision
from segscape.runtime.base import Deployed, Runtime, RuntimeUnavailableError
from segscape.runtime.cache import cached
from segscape.runtime.machine import has_bf16, processor, versions

if TYPE_CHECKING:
    import openvino

_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""The precision of operations for which the model itself does not set one."""


class OpenVINORuntime(Runtime):
    """The network compiled by OpenVINO, once for all sizes; the compiled network is cached on disk.

    Args:
        deployed: The network to compile, on a CPU; int8 needs its calibration images.
        precision: fp32, bf16 or int8.

    Raises:
        RuntimeUnavailableError: OpenVINO is not installed, or does not support the device or the precision.
    """

    name = "openvino"

    def __init__(self, deployed: Deployed, *, precision: Precision = "fp32") -> None:
        _require(precision, deployed.device)
        self.device, self.precision = deployed.device, precision
        self._deployed = deployed
        key = {
            "weights": deployed.fingerprint,
            "network": type(deployed.network).__name__,
            "precision": precision,
            "calibration": deployed.calibration.digest if precision == "int8" and deployed.calibration else None,
            "processor": processor(self.device),
            "threads": torch.get_num_threads(),
            "versions": versions("torch", "openvino", *(["nncf"] if precision == "int8" else [])),
        }
        # OpenVINO reads the weights from these bytes for as long as it runs, so they must be kept alive.
        self._exported = cached("openvino", key, lambda: _compile(deployed, precision))
        compiled = openvino_core().import_model(self._exported, "CPU", openvino_settings(precision))
        self._request = compiled.create_infer_request()
        self._lock = Lock()

    def __call__(self, images: Tensor) -> Tensor:
        """See `Runtime`."""
        import openvino

        # OpenVINO works on the memory of both tensors and does not keep them alive; these variables do.
        images, logits = images.contiguous(), torch.empty(self._deployed.logits_shape(images))
        with self._lock:
            self._request.set_input_tensor(openvino.Tensor(images.numpy(), shared_memory=True))
            self._request.set_output_tensor(openvino.Tensor(logits.numpy(), shared_memory=True))
            self._request.infer()
        return logits


def _require(precision: Precision, device: torch.device) -> None:
    if find_spec("openvino") is None:
        raise RuntimeUnavailableError("The runtime openvino needs OpenVINO: pip install 'segscape[openvino]'.")
    if device.type != "cpu":
        raise RuntimeUnavailableError(f"The runtime openvino computes on the CPU, not on {device}; give --device cpu.")
    if precision not in _HINTS:
        raise RuntimeUnavailableError(f"The runtime openvino computes in {', '.join(_HINTS)}, not in {precision}.")
    if precision == "bf16" and not has_bf16(device):
        raise RuntimeUnavailableError(
            "OpenVINO computes in bf16 only on CPUs that have bf16 arithmetic; this has none."
        )


def _compile(deployed: Deployed, precision: Precision) -> bytes:
    from segscape.runtime.graphs import check_conversion, openvino_model

    model = openvino_model(deployed.network, size=None)
    exact = openvino_core().compile_model(model, "CPU", openvino_settings("fp32"))
    check_conversion(lambda images: torch.from_numpy(exact(images.numpy())[0]), deployed.network, "OpenVINO")
    if precision == "fp32":
        return exact.export_model().getvalue()
    if precision == "int8":
        from segscape.runtime.quantise import quantised

        model = quantised(model, deployed.calibration)
    return openvino_core().compile_model(model, "CPU", openvino_settings(precision)).export_model().getvalue()


def openvino_settings(precision: Precision) -> dict[str, Any]:
    """Return the settings to compile a model with: one image at a time, in PyTorch's number of threads."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
    }


@cache
def openvino_core() -> openvino.Core:
    """Return the one core of this process, which lives as long as the process.

    OpenVINO has signals handled on a stack of its own, which it frees with a core. With several cores, the next Ctrl-C
    or ended child process may find that stack gone, and the process crashes without a message.
    """
    import openvino

    return openvino.Core()
