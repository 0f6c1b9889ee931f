"""Exported files, written and checked; a file that fails its check is never put in place."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from segscape.checkpoints.card import WeightsCard
from segscape.export.metadata import CARD_KEY, GRAPH_KEY, Format, GraphMetadata, format_of
from segscape.export.read import open_exported
from segscape.export.verify import MOST_DIFFERENT, MOST_ERROR, Verification, verify
from segscape.files import atomic_path, cannot_be_written, written_by_library
from segscape.networks import SegmentationNetwork
from segscape.runtime.deploy import deploy
from segscape.runtime.graphs import (
    Network,
    check_size,
    onnx_model,
    openvino_model,
    quiet,
    torch_program,
    whole_network,
)


def export_network(
    network: Network, card: WeightsCard, path: Path, *, size: tuple[int, int] | None, labels: bool = False
) -> Verification:
    """Write a network as a file that runs without our code, check the file on disk, and put it in place.

    Args:
        network: The network, in evaluation mode, on the CPU.
        card: The card of its weights; stored in the file.
        path: The file, whose suffix sets the format: see `SUFFIXES`. OpenVINO's `.bin` is written beside it.
        size: (height, width) of the images, in pixels; None for any that the network takes.
        labels: Whether upsampling and arg-max are part of the graph, so that it returns labels.

    Returns:
        The comparison of the file with PyTorch.

    Raises:
        ValueError: The suffix is unknown, the network does not take this size or has no labels, or the results of the
            file differ from the network's; then no file is put in place.
        OSError: The file cannot be written.
        ModuleNotFoundError: A library that the format needs is not installed.
    """
    kind = format_of(path)
    if size is not None:
        check_size(network, size)
    whole_network(network, labels=labels)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file.")
    with _atomic_paths(path, kind) as temporary:
        deployed = deploy(network)
        _check_room(path, deployed)
        _write(deployed, card, temporary, path, kind, size=size, labels=labels)
        try:
            verification = verify(open_exported(temporary, "cpu"), network)
        except Exception as error:
            # Engines raise errors of any kind for graphs that they cannot run.
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ValueError(f"{path} was not written: made {kind}, the network does not run ({reason}).") from error
        if not verification.passed:
            limit = f"{1 - MOST_DIFFERENT:.1%} of the labels" if labels else f"an error of {MOST_ERROR:.0e}"
            raise ValueError(f"{path} was not written: {verification}, and the limit is {limit}.")
    return verification


@contextmanager
def _atomic_paths(path: Path, kind: Format) -> Iterator[Path]:
    """Yield a temporary name as `atomic_path` does; OpenVINO's file of weights beside it is put in place too."""
    with atomic_path(path) as temporary:
        if kind != "openvino":
            yield temporary
            return
        weights = temporary.with_suffix(".bin")
        try:
            yield temporary
            # First, for a graph without its weights is no network.
            weights.replace(path.with_suffix(".bin"))
        finally:
            weights.unlink(missing_ok=True)


def _check_room(path: Path, deployed: Network) -> None:
    """Refuse, before a network is traced, a file for whose weights the disk has no room."""
    needed = sum(tensor.nbytes for tensor in deployed.state_dict().values())
    if shutil.disk_usage(path.parent).free < needed:
        raise cannot_be_written(path, f"its weights take {needed / 1e6:.0f} MB")


def _write(
    deployed: Network,
    card: WeightsCard,
    temporary: Path,
    path: Path,
    kind: Format,
    *,
    size: tuple[int, int] | None,
    labels: bool,
) -> None:
    def entries(least: int) -> dict[str, str]:
        metadata = GraphMetadata(
            output="labels" if labels else "logits",
            size=size,
            size_multiple=deployed.size_multiple,
            min_size=least,
            # The logits of a network that refines masks are of the images' size: there is nothing to resize.
            stride=deployed.stride if isinstance(deployed, SegmentationNetwork) else 1,
            align_corners=deployed.align_corners if isinstance(deployed, SegmentationNetwork) else False,
        )
        return {CARD_KEY: card.to_json(), GRAPH_KEY: metadata.to_json()}

    match kind:
        case "onnx":
            import onnx

            model = onnx_model(deployed, size=size, labels=labels)
            onnx.helper.set_model_props(model, entries(deployed.min_size))
            with written_by_library(path):
                onnx.save_model(model, temporary)
        case "openvino":
            import openvino

            graph = openvino_model(deployed, size=size, labels=labels)
            for key, value in entries(deployed.min_size).items():
                graph.set_rt_info(value, [key])
            with written_by_library(path):
                openvino.save_model(graph, temporary, compress_to_fp16=False)
        case "torch":
            program, least = torch_program(deployed, size=size, labels=labels)
            # They are as large as the images, and no reader needs them.
            program.example_inputs = None
            # In memory: where the disk is full, PyTorch's own writing ends the process.
            contents = io.BytesIO()
            with quiet():
                torch.export.save(program, contents, extra_files=entries(deployed.min_size if size else least))
            temporary.write_bytes(contents.getbuffer())
