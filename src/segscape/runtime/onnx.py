"""ONNX Runtime on a CPU or an NVIDIA GPU, and TensorRT through it."""

from __future__ import annotations

from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from segscape.choices import Precision
from segscape.runtime.base import Deployed, Runtime, RuntimeUnavailableError
from segscape.runtime.cache import cache_folder, cached
from segscape.runtime.machine import versions

if TYPE_CHECKING:
    import onnxruntime

_MOST_ENGINES = 4
"""The upper bound of TensorRT engines kept at a time; each takes the memory of a network."""
_TENSORRT_FLAGS: dict[Precision, dict[str, str]] = {
    "fp32": {},
    "bf16": {"trt_bf16_enable": "1"},
    "fp16": {"trt_fp16_enable": "1"},
}


class ONNXRuntime(Runtime):
    """The network as an ONNX graph for all sizes, which is cached on disk.

    Args:
        deployed: The network to run.
        precision: fp32 alone.

    Raises:
        RuntimeUnavailableError: ONNX Runtime is not installed, or does not support the device or the precision.
    """

    name = "onnx"

    def __init__(self, deployed: Deployed, *, precision: Precision = "fp32") -> None:
        self.device, self.precision = deployed.device, precision
        if precision != "fp32":
            raise RuntimeUnavailableError(f"The runtime onnx computes in fp32, not in {precision}.")
        provider = "CUDAExecutionProvider" if self.device.type == "cuda" else "CPUExecutionProvider"
        _require_provider(provider, self.name)
        self._deployed = deployed
        self._session = _session(_graph(deployed), [(provider, _place(self.device))])

    def __call__(self, images: Tensor) -> Tensor:
        """See `Runtime`."""
        logits = torch.empty(self._deployed.logits_shape(images), device=self.device)
        _run(self._session, images, logits)
        return logits


class TensorRTRuntime(Runtime):
    """TensorRT engines, one for each shape of images; each takes minutes to build, unless it is cached on disk.

    Args:
        deployed: The network to run, on a GPU.
        precision: fp32, bf16 or fp16.

    Raises:
        RuntimeUnavailableError: ONNX Runtime is missing or has no TensorRT, or it does not support the device or the
            precision.
    """

    name = "tensorrt"

    def __init__(self, deployed: Deployed, *, precision: Precision = "fp32") -> None:
        self.device, self.precision = deployed.device, precision
        if self.device.type != "cuda":
            raise RuntimeUnavailableError(f"The runtime tensorrt computes on an NVIDIA GPU, not on {self.device}.")
        if precision not in _TENSORRT_FLAGS:
            raise RuntimeUnavailableError(
                f"The runtime tensorrt computes in {', '.join(_TENSORRT_FLAGS)}, not in {precision}."
            )
        _require_provider("TensorrtExecutionProvider", self.name)
        self._deployed = deployed
        self._graph = _graph(deployed)
        self._sessions: OrderedDict[torch.Size, onnxruntime.InferenceSession] = OrderedDict()

    def __call__(self, images: Tensor) -> Tensor:
        """See `Runtime`."""
        if images.shape not in self._sessions:
            # The order is that of the last use, so the first engine is the one unused for the longest time.
            if len(self._sessions) == _MOST_ENGINES:
                self._sessions.popitem(last=False)
            self._sessions[images.shape] = self._engine(images.shape)
        self._sessions.move_to_end(images.shape)
        logits = torch.empty(self._deployed.logits_shape(images), device=self.device)
        _run(self._sessions[images.shape], images, logits)
        return logits

    def _engine(self, shape: torch.Size) -> onnxruntime.InferenceSession:
        folder: Path = cache_folder() / "tensorrt" / self._deployed.fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        options = {
            **_place(self.device),
            **_TENSORRT_FLAGS[self.precision],
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
        }
        providers = [("TensorrtExecutionProvider", options), ("CUDAExecutionProvider", _place(self.device))]
        return _session(self._graph, providers, shape=shape)


def _require_provider(provider: str, runtime: str) -> None:
    if find_spec("onnxruntime") is None or find_spec("onnxscript") is None:
        raise RuntimeUnavailableError(
            f"The runtime {runtime} needs ONNX Runtime and what makes its graphs: pip install 'segscape[onnx]'."
        )
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        raise RuntimeUnavailableError(
            f"The runtime {runtime} needs the {provider} of ONNX Runtime, which this one lacks: "
            "pip install onnxruntime-gpu, or choose --runtime torch."
        )


def _graph(deployed: Deployed) -> bytes:
    """Return the content of the network's ONNX file, from the cache where it is there."""

    def make() -> bytes:
        from segscape.runtime.graphs import check_conversion, onnx_model

        graph = onnx_model(deployed.network, size=None).SerializeToString()
        session = _session(graph, [("CPUExecutionProvider", {})])

        def run(images: Tensor) -> Tensor:
            (logits,) = session.run(None, {session.get_inputs()[0].name: images.cpu().numpy()})
            return torch.from_numpy(logits).to(images.device)

        check_conversion(run, deployed.network, "ONNX")
        return graph

    key = {
        "weights": deployed.fingerprint,
        "network": type(deployed.network).__name__,
        "versions": versions("torch", "onnx", "onnxscript"),
    }
    return cached("onnx", key, make)


def _session(
    graph: bytes, providers: list[tuple[str, dict[str, Any]]], *, shape: torch.Size | None = None
) -> onnxruntime.InferenceSession:
    """Create a session for every size, or for one shape (N, 3, H, W) alone."""
    import onnx
    import onnxruntime

    options = session_options()
    if shape is not None:
        dims = onnx.load_model_from_string(graph).graph.input[0].type.tensor_type.shape.dim
        for dim, length in zip(dims, shape, strict=True):
            if dim.dim_param:
                options.add_free_dimension_override_by_name(dim.dim_param, length)
    return onnxruntime.InferenceSession(graph, options, providers=providers)


def session_options() -> onnxruntime.SessionOptions:
    """Return the options of sessions: PyTorch's number of threads, and only errors in the log."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return options


def _run(session: onnxruntime.InferenceSession, images: Tensor, logits: Tensor) -> None:
    """Run a session on the memory of both tensors, so that neither is copied."""
    import numpy as np

    images = images.contiguous()
    # ONNX Runtime computes on a stream of its own, which does not wait for PyTorch's to compute the images.
    if images.device.type == "cuda":
        torch.cuda.current_stream(images.device).synchronize()
    binding = session.io_binding()
    place = (images.device.type, images.device.index or 0, np.float32)
    binding.bind_input(session.get_inputs()[0].name, *place, tuple(images.shape), images.data_ptr())
    binding.bind_output(session.get_outputs()[0].name, *place, tuple(logits.shape), logits.data_ptr())
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()


def _place(device: torch.device) -> dict[str, Any]:
    return {"device_id": str(device.index or 0)} if device.type == "cuda" else {}
