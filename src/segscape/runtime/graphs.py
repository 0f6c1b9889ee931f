"""Networks as graphs that run without our code: ONNX models, OpenVINO models and programs of `torch.export`.

All of them take `images`, normalised float32 (N, 3, H, W), and return `logits`, float32 (N, K, h, w) at the network's
stride, or `labels`, uint8 (N, H, W). A network that refines masks takes `masks` too, float32 (N, 1, H, W) from -1
outside the object to 1 inside it, and its logits (N, 1, H, W) are of the images' size: one stage of the refinement.

A graph for one size takes one image at a time; a graph for any size takes batches.
"""

from __future__ import annotations

import bisect
import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segscape.networks import RefinementNetwork, SegmentationNetwork

if TYPE_CHECKING:
    import onnx
    import openvino

Network = SegmentationNetwork | RefinementNetwork

_MOST_TRACED_SIDE = 1024
"""The upper bound of the search for the least side at which a network can be traced for any size, in pixels."""
_AMPLE_SIDE = 64
_CHECKED_SIZES = ((96, 160), (255, 382))
_MOST_CONVERSION_ERROR = 0.02
"""The upper bound of the error of a converted network's logits, as a share of the largest; rounding changes the logits
of our most sensitive network by a tenth of it."""
_TELLING = ("No conversion rule", "not support", "Not all", "No ONNX function")
"""Words that mark the lines of converters' reports which name a layer or a size."""
_SIDES = ("height", "width")


class ConversionError(ValueError):
    """A network cannot be converted to another form; the message gives the form and the reason."""


class LabelNetwork(nn.Module):
    """A network followed by the resizing of its logits to the images' size and their arg-max."""

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Compute labels: normalised images (N, 3, H, W) -> labels (N, H, W) uint8."""
        logits = F.interpolate(
            self.network(images),
            size=images.shape[-2:],
            mode="bilinear",
            align_corners=self.network.align_corners,
        )
        return logits.argmax(dim=1).to(torch.uint8)


class StageNetwork(nn.Module):
    """One stage of a network that refines masks, at the images' own size."""

    def __init__(self, network: RefinementNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Compute logits: normalised images (N, 3, H, W), masks (N, 1, H, W) from -1 to 1 -> logits (N, 1, H, W)."""
        return self.network(images, masks, size=(images.shape[-2], images.shape[-1]))


def least_traced_side(network: Network) -> int:
    """Return the least side of the images that a program of the network for any size takes, in pixels.

    The tracer assumes that an axis of length 1 always has this length. The result is therefore the least side at which
    every map whose size depends on the images' size has more than one row and more than one column.

    Raises:
        ValueError: There is no such side up to 1024 pixels.
    """
    sides = [side for side in range(1, _MOST_TRACED_SIDE + 1) if network.fitting_size(side, side) == (side, side)]
    # Maps do not shrink when the images grow, so every side above a sufficient one suffices too: bisection applies.
    found = bisect.bisect_left(sides, True, key=lambda side: _can_vary(network, side))
    if found == len(sides):
        raise ValueError(
            f"The network does not run on images of up to {_MOST_TRACED_SIDE} pixels as on larger ones, so its graph "
            "cannot be taken for any size; export it for one, with --size HEIGHTxWIDTH."
        )
    return sides[found]


def _can_vary(network: Network, side: int) -> bool:
    """Return whether, for images of `side`, every map that grows with the images has more than one row and column."""
    # The shapes at twice the side distinguish axes that grow with the images from those that always have length 1.
    larger = network.fitting_size(2 * side, 2 * side)[0]
    try:
        shapes, others = (_shapes(network, length) for length in (side, larger))
    except Exception:
        # A network may refuse images in any way, such as by a pooling whose window is larger than its map.
        return False
    pairs = zip(shapes, others, strict=False)
    return len(shapes) == len(others) and not any(
        length == 1 < other for shape, grown in pairs for length, other in zip(shape, grown, strict=False)
    )


class _RecordedShapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that records the shape of each tensor that is computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        self.shapes += [result.shape for result in tree_leaves(results) if isinstance(result, Tensor)]
        return results


def _shapes(network: Network, side: int) -> list[torch.Size]:
    """Return the shapes of all tensors that the network computes for images of `side`, without computing them."""
    with FakeTensorMode(allow_non_fake_inputs=True), _RecordedShapes() as recorded, torch.no_grad():
        whole_network(network)(*_examples(network, 2, side, side))
    return recorded.shapes


def whole_network(network: Network, *, labels: bool = False) -> nn.Module:
    """Return the module that a graph of the network is traced from.

    Args:
        network: The network, which the result shares.
        labels: See `onnx_model`.

    Raises:
        ValueError: Labels are wanted of a network that refines masks, or of more than 256 classes.
    """
    if isinstance(network, RefinementNetwork):
        if labels:
            raise ValueError("A network that refines masks has no labels; export its logits.")
        return StageNetwork(network)
    return LabelNetwork(network) if labels else network


def onnx_model(network: Network, *, size: tuple[int, int] | None, labels: bool = False) -> onnx.ModelProto:
    """Convert a network to an ONNX model.

    Args:
        network: The network, in evaluation mode, with parameters in float32; best as `segscape.runtime.deploy.deploy`
            returns it.
        size: (height, width) of the images, in pixels; None for any that the network takes.
        labels: Whether the graph resizes the logits to the images' size, bilinearly in the network's convention, and
            returns their arg-max; otherwise it returns the logits.

    Returns:
        The model, with the parameters inside; see the module's documentation for its inputs and its output.

    Raises:
        ModuleNotFoundError: onnx or onnxscript is not installed.
        ConversionError: ONNX has no form for one of its layers.
        ValueError: The network does not take this size, or has no labels.
    """
    import onnxscript  # noqa: F401 - PyTorch's exporter needs it, but would report that late

    program, least = torch_program(network, size=size, labels=labels)
    with quiet(), _converting("ONNX"):
        made: Any = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=_input_names(network),
            output_names=[_output_name(labels)],
            dynamic_shapes=_dynamic_shapes(network, least) if size is None else None,
        )
    return made.model_proto


def openvino_model(network: Network, *, size: tuple[int, int] | None, labels: bool = False) -> openvino.Model:
    """Convert a network to an OpenVINO model.

    Args:
        network: See `onnx_model`.
        size: See `onnx_model`.
        labels: See `onnx_model`.

    Returns:
        The model in float32, not compiled; see the module's documentation for its inputs and its output.

    Raises:
        ModuleNotFoundError: OpenVINO is not installed.
        ConversionError: OpenVINO has no form for one of its layers.
        ValueError: See `onnx_model`.
    """
    import openvino

    module = _prepared(network, size=size, labels=labels, sizes_vary=True)
    # The tracer runs the network, so a graph for any size is traced on small images; its shapes are set afterwards.
    height, width = size or 2 * (least_traced_side(network),)
    with quiet(), _converting("OpenVINO"), torch.no_grad():
        model = openvino.convert_model(module, example_input=_examples(network, 1, height, width))
    batch, height, width = (1, *size) if size else (-1, -1, -1)
    shapes = [openvino.PartialShape([batch, channels, height, width]) for channels in _channels(network)]
    model.reshape(dict(zip(model.inputs, shapes, strict=True)))
    for port, name in zip([*model.inputs, *model.outputs], [*_input_names(network), _output_name(labels)], strict=True):
        port.get_tensor().set_names({name})
    return model


def torch_program(
    network: Network, *, size: tuple[int, int] | None, labels: bool = False
) -> tuple[ExportedProgram, int]:
    """Convert a network to a program of `torch.export`.

    Args:
        network: See `onnx_model`.
        size: See `onnx_model`.
        labels: See `onnx_model`.

    Returns:
        The program, and the least side of the images that it takes, in pixels.

    Raises:
        ConversionError: PyTorch cannot trace its graph, or not for any size.
        ValueError: See `onnx_model`.
    """
    module = _prepared(network, size=size, labels=labels, sizes_vary=size is None)
    least = least_traced_side(network)
    try:
        program = _traced(module, network, size=size, least=least)
    except ConversionError:
        # Some layers distinguish more cases on small maps than on large ones, so larger images are tried too.
        larger = network.fitting_size(*2 * (max(_AMPLE_SIDE, least),))[0]
        if size is not None or larger == least:
            raise
        program, least = _traced(module, network, size=None, least=larger), larger
    for node in program.graph.nodes:
        # It holds the paths of our code on this machine.
        node.meta.pop("stack_trace", None)
    return program, least if size is None else min(size)


def _traced(module: nn.Module, network: Network, *, size: tuple[int, int] | None, least: int) -> ExportedProgram:
    multiple = network.size_multiple
    # The tracer assumes that lengths which are equal or 1 always are: hence sides that differ, and a batch of two.
    shape = (1, *size) if size else (2, least + multiple, least + 2 * multiple)
    shapes = _dynamic_shapes(network, least) if size is None else None
    with quiet(), _converting("a graph of PyTorch's", for_any_size=size is None), torch.no_grad():
        return torch.export.export(module, _examples(network, *shape), dynamic_shapes=shapes)


def check_conversion(run: Callable[[Tensor], Tensor], network: SegmentationNetwork, form: str) -> None:
    """Refuse a converted network whose logits differ from those of the network itself.

    Args:
        run: Runs the converted network, from images (N, 3, H, W) on the network's device to logits.
        network: The network that was converted.
        form: The form that it was converted to, for the message.

    Raises:
        ConversionError: The logits differ by more than rounding explains, or the converted network fails.
    """
    device = next(network.parameters()).device
    least = least_traced_side(network)
    for sides in _CHECKED_SIZES:
        size = network.fitting_size(*(max(side, least) for side in sides))
        images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
        with torch.inference_mode():
            expected = network(images)
            with _converting(form):
                found = run(images)
        error = float((found - expected).abs().max() / expected.abs().max())
        # Not `error >= ...`, which is false for NaN.
        if not error < _MOST_CONVERSION_ERROR:
            raise ConversionError(f"The network made {form} computes other logits, off by {error:.0%} of the largest.")


def check_size(network: Network, size: tuple[int, int]) -> None:
    """Refuse a size that a network does not take.

    Args:
        network: The network.
        size: (height, width) of the images, in pixels.

    Raises:
        ValueError: The network does not take the size; the message names the next one that it takes.
    """
    fitting = network.fitting_size(*size)
    if size != fitting:
        raise ValueError(
            f"The network takes images with sides of at least {network.min_size} pixels that are multiples of "
            f"{network.size_multiple}, not {size[0]}x{size[1]}; the next size is {fitting[0]}x{fitting[1]} "
            "(height x width)."
        )


def _prepared(network: Network, *, size: tuple[int, int] | None, labels: bool, sizes_vary: bool) -> nn.Module:
    """Copy a network to the CPU and return the module to trace; where sizes vary, it takes even and odd ones."""
    if size is not None:
        check_size(network, size)
    copied = copy.deepcopy(network).cpu()
    copied.prepare_export(sizes_vary=sizes_vary)
    return whole_network(copied, labels=labels)


def _examples(network: Network, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(batch, channels, height, width) for channels in _channels(network))


def _channels(network: Network) -> tuple[int, ...]:
    """Return the number of channels of each input."""
    return (3, 1) if isinstance(network, RefinementNetwork) else (3,)


def _dynamic_shapes(network: Network, least: int) -> Any:
    """Return which axes of every argument vary, and how."""
    # As multiples of a `Dim`, the sides are known to the tracer as divisible by `size_multiple`.
    multiple = network.size_multiple
    first = least // multiple
    height, width = (Dim(name, min=first) if multiple == 1 else multiple * Dim(name, min=first) for name in _SIDES)
    axes = {0: Dim("batch"), 2: height, 3: width}
    return (axes,) * len(_input_names(network))


def _input_names(network: Network) -> list[str]:
    return ["images", "masks"] if isinstance(network, RefinementNetwork) else ["images"]


def _output_name(labels: bool) -> str:
    return "labels" if labels else "logits"


@contextmanager
def _converting(form: str, *, for_any_size: bool = False) -> Iterator[None]:
    """Raise every error of a converter as a `ConversionError` with the reason in one sentence."""
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = [line.strip(" -.") for line in str(cause).splitlines()]
        # Reports are long, and name what cannot be converted somewhere inside.
        telling = [line for line in lines if any(words in line for words in _TELLING)]
        reason = next(iter([*telling, *filter(None, lines)]), type(cause).__name__)
        remedy = " for any size; a file for one size may do, with --size HEIGHTxWIDTH" if for_any_size else ""
        raise ConversionError(f"The network cannot be made {form}{remedy} ({reason}).") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings and messages of the tracers and readers of graphs; errors are raised as usual."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [log.level for log in loggers]
    try:
        for log in loggers:
            log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
