"""Runtimes by their names."""

from __future__ import annotations

from segscape.runtime.base import Deployed, Precision, Runtime, RuntimeUnavailableError
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
    """A network made ready to run.

    Args:
        name: One of `RUNTIME_NAMES`.
        deployed: What to run.
        precision: The numbers to compute with.

    Raises:
        ValueError: There is no such runtime.
        RuntimeUnavailableError: It cannot be had here, or not in this precision; the message says why.
    """
    if name not in _RUNTIMES:
        raise ValueError(f"There is no runtime {name!r}; the names are auto, {', '.join(_RUNTIMES)}.")
    try:
        return _RUNTIMES[name](deployed, precision=precision)
    except ConversionError as error:
        raise RuntimeUnavailableError(f"The runtime {name} cannot be had: {error} Choose --runtime torch.") from error
