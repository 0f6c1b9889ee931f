"""Exported files, each read and run by the library of its format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from segscape.checkpoints.card import WeightsCard
from segscape.export.metadata import CARD_KEY, GRAPH_KEY, SUFFIXES, Format, GraphMetadata, format_of
from segscape.registry import model_entry
from segscape.runtime.base import Runtime
from segscape.runtime.graphs import quiet
from segscape.runtime.onnx import session_options
from segscape.runtime.openvino import openvino_core, openvino_settings

__all__ = ["SUFFIXES", "ExportedGraph", "ExportedRuntime", "load_exported", "open_exported"]

_Run = Callable[[tuple[Tensor, ...]], Tensor]


@dataclass(frozen=True)
class ExportedGraph:
    """An exported file, ready to run.

    Attributes:
        format: Format of the file.
        card: Card of the weights.
        metadata: Metadata of the graph.
        fingerprint: The SHA-256 of the file, and of the `.bin` beside it if there is one, in hexadecimal digits.
        device: The device that it computes on.
        run: Computes the output, on the CPU, from the inputs, on the CPU or on `device`; see
            `segscape.runtime.graphs`.
    """

    format: Format
    card: WeightsCard
    metadata: GraphMetadata
    fingerprint: str
    device: torch.device
    run: _Run


class ExportedRuntime(Runtime):
    """An exported segmentation network as a runtime.

    Args:
        graph: The graph of a network that segments images.
    """

    precision = "fp32"

    def __init__(self, graph: ExportedGraph) -> None:
        self.name = graph.format
        self.device = graph.device
        self.size = graph.metadata.size
        self.gives_labels = graph.metadata.output == "labels"
        self._graph = graph

    def __call__(self, images: Tensor) -> Tensor:
        """See `Runtime`.

        Raises:
            ValueError: The images are smaller than the file takes.
        """
        least = self._graph.metadata.min_size
        if min(images.shape[2:]) < least:
            raise ValueError(
                f"This exported network takes images with sides from {least} pixels on, not of {images.shape[2]} x "
                f"{images.shape[3]}; export it as onnx or openvino, or for a fixed size."
            )
        # A graph for one size takes one image at a time.
        batches = torch.split(images, 1) if self.size is not None else (images,)
        return torch.cat([self._graph.run((batch,)) for batch in batches]).to(self.device)


def load_exported(path: Path, device: str | torch.device | None = None) -> tuple[ExportedRuntime, WeightsCard, str]:
    """Read an exported segmentation network.

    Args:
        path: The file that `segscape export` wrote. PyTorch's may run code as it is opened: take it only from people
            whom you trust.
        device: Where to run, such as `"cpu"` or `"cuda:1"`; by default a GPU where there is one that the format can
            use. OpenVINO computes on the CPU.

    Returns:
        The network, the card of its weights, and the fingerprint of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, was not written by `segscape export`, does not segment images, or cannot run
            on the device.
        ModuleNotFoundError: The library that runs it is not installed.
    """
    graph = open_exported(path, device)
    if model_entry(graph.card.network).task != "segmentation":
        raise ValueError(f"{path} holds {graph.card.network}, which does not segment images.")
    return ExportedRuntime(graph), graph.card, graph.fingerprint


def open_exported(path: Path, device: str | torch.device | None = None) -> ExportedGraph:
    """Read an exported file of any network; see `load_exported`.

    Args:
        path: See `load_exported`.
        device: See `load_exported`.

    Raises:
        FileNotFoundError: See `load_exported`.
        ValueError: The file is damaged, was not written by `segscape export`, or cannot run on the device.
        ModuleNotFoundError: See `load_exported`.
    """
    kind = format_of(path)
    parts = [path, path.with_suffix(".bin")] if kind == "openvino" else [path]
    for part in parts:
        if not part.is_file():
            raise FileNotFoundError(f"There is no file {part}" + (f", which {path} needs." if part != path else "."))
    place = _place(kind, device)
    entries, run = _OPENERS[kind](path, place)
    if CARD_KEY not in entries or GRAPH_KEY not in entries:
        raise ValueError(f"{path} has no Segscape card; make it with `segscape export`.")
    try:
        card, metadata = WeightsCard.from_json(entries[CARD_KEY]), GraphMetadata.from_json(entries[GRAPH_KEY])
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}; make it again with `segscape export`.") from None
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes())
    return ExportedGraph(kind, card, metadata, digest.hexdigest(), place, run)


def _place(kind: Format, device: str | torch.device | None) -> torch.device:
    """Return the device that a file of this format runs on."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() and _runs_on_cuda(kind) else "cpu")
    place = torch.device(device)
    if place.type == "cpu" or (place.type == "cuda" and torch.cuda.is_available() and _runs_on_cuda(kind)):
        return place
    raise ValueError(f"A file of the format {kind} cannot run on {place} here; leave out the device, or give cpu.")


def _runs_on_cuda(kind: Format) -> bool:
    if kind == "onnx":
        import onnxruntime

        return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return kind == "torch"


def _open_onnx(path: Path, device: torch.device) -> tuple[Mapping[str, str], _Run]:
    import onnxruntime

    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": str(device.index or 0)}))
    try:
        session = onnxruntime.InferenceSession(str(path), session_options(), providers=providers)
    except Exception as error:  # its errors have nothing else in common
        raise _unreadable(path, error) from None
    names = [port.name for port in session.get_inputs()]

    def run(inputs: tuple[Tensor, ...]) -> Tensor:
        arrays = (x.cpu().numpy() for x in inputs)
        return torch.from_numpy(session.run(None, dict(zip(names, arrays, strict=True)))[0])

    return session.get_modelmeta().custom_metadata_map, run


def _open_openvino(path: Path, device: torch.device) -> tuple[Mapping[str, str], _Run]:
    try:
        model = openvino_core().read_model(path)
        keys = [key for key in (CARD_KEY, GRAPH_KEY) if model.has_rt_info([key])]
        entries = {key: model.get_rt_info([key]).astype(str) for key in keys}
        request = openvino_core().compile_model(model, "CPU", openvino_settings("fp32")).create_infer_request()
    except RuntimeError as error:
        raise _unreadable(path, error) from None
    # An infer request serves one call at a time.
    lock = Lock()

    def run(inputs: tuple[Tensor, ...]) -> Tensor:
        with lock:
            results = request.infer([x.contiguous().numpy() for x in inputs], share_inputs=True)
            return torch.from_numpy(results[0].copy())

    return entries, run


def _open_torch(path: Path, device: torch.device) -> tuple[Mapping[str, str], _Run]:
    from torch.export.passes import move_to_device_pass

    entries = {CARD_KEY: "", GRAPH_KEY: ""}
    try:
        with quiet():
            program = torch.export.load(path, extra_files=entries)
            module = move_to_device_pass(program, device).module()
    except Exception as error:  # its errors have nothing else in common
        raise _unreadable(path, error) from None

    def run(inputs: tuple[Tensor, ...]) -> Tensor:
        with torch.inference_mode():
            return module(*(x.to(device) for x in inputs)).cpu()

    return {key: value for key, value in entries.items() if value}, run


_OPENERS: dict[Format, Callable[[Path, torch.device], tuple[Mapping[str, str], _Run]]] = {
    "onnx": _open_onnx,
    "openvino": _open_openvino,
    "torch": _open_torch,
}


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
    return ValueError(
        f"{path} cannot be read, it may be cut short or damaged ({reason.rstrip('.!')}); "
        "make it again with `segscape export`."
    )
