"""Runtimes by their names."""

from __future__ import annotations

from segscape.choices import Precision
from segscape.runtime.base import Deployed, Runtime, RuntimeUnavailableError
from segscape.runtime.compiled import CompiledRuntime
from segscape.runtime.eager import EagerRuntime
from segscape.runtime.graphs import ConversionError
from segscape.runtime.onnx import ONNXRuntime, TensorRTRuntime
from segscape.runtime.openvino import OpenVINORuntime
from segscape.runtime.winograd.runtime import WinogradRuntime

_RUNTIMES = {
    runtime.name: runtime
    for runtime in (EagerRuntime, WinogradRuntime, CompiledRuntime, OpenVINORuntime, ONNXRuntime, TensorRTRuntime)
}
RUNTIME_NAMES = tuple(_RUNTIMES)


def create_runtime(name: str, deployed: Deployed, *, precision: Precision = "fp32") -> Runtime:
    """Create a runtime by its name.

    Args:
        name: One of `RUNTIME_NAMES`.
        deployed: The network to run.
        precision: The precision to compute in.

    Raises:
        ValueError: There is no runtime of this name.
        RuntimeUnavailableError: It is not available here, or not in this precision; the message gives the reason.
    """
    if name not in _RUNTIMES:
        raise ValueError(f"There is no runtime {name!r}; the names are auto, {', '.join(_RUNTIMES)}.")
    try:
        return _RUNTIMES[name](deployed, precision=precision)
    except ConversionError as error:
        raise RuntimeUnavailableError(f"The runtime {name} cannot be had: {error} Choose --runtime torch.") from error
