"""A network as a graph of maps, vectors and means over the whole scene, in the order in which they become known."""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from segscape.geometry.interval import Interval
from segscape.geometry.window import Patch
from segscape.scenes.streaming.layer import (
    Convolution,
    Layer,
    Operation,
    UnsupportedLayerError,
    map_size,
)
from segscape.scenes.streaming.rules import SPREADING, layer_of

aten = torch.ops.aten

_MOST_BINS = 256
"""Adaptive pooling into more bins than this is not gathered over the whole scene, but computed window by window."""


class Mean(NamedTuple):
    """Means over a whole map, or over each of the bins that it is divided into.

    Source of the bins: PyTorch's adaptive average pooling; where they do not divide the map evenly they overlap.

    Attributes:
        node: The node of the means.
        source: The node of the map.
        bins: (down, across), the number of bins; (1, 1) for the mean over the whole map.
        divides: Whether the sums are divided by the number of pixels; otherwise the sums themselves are the value.
    """

    node: fx.Node
    source: fx.Node
    bins: tuple[int, int]
    divides: bool

    def sums(self, patch: Patch) -> Tensor:
        """Sum the values of a part of the map that lie in each bin, (C, down, across) float64."""
        # Each bin is summed on its own, as bins may overlap; one outside the patch is an empty slice, whose sum is 0.
        rows, cols = (self._intervals(axis) for axis in (0, 1))
        window = patch.window
        by_row = torch.stack(
            [
                patch.values[0, :, part.slice].sum(1, dtype=torch.float64)
                for part in (row.intersection(window.rows).relative_to(window.rows) for row in rows)
            ],
            dim=1,
        )
        return torch.stack(
            [
                by_row[:, :, part.slice].sum(2)
                for part in (col.intersection(window.cols).relative_to(window.cols) for col in cols)
            ],
            dim=2,
        )

    def value(self, sums: Sequence[float]) -> Tensor:
        """Compute the node's value, float64, from the results of `sums` added up over the whole map and flattened."""
        total = torch.tensor(sums, dtype=torch.float64).reshape(-1, *self.bins)
        if self.divides:
            rows, cols = ([part.length for part in self._intervals(axis)] for axis in (0, 1))
            total /= torch.outer(torch.tensor(rows), torch.tensor(cols))
        return total.reshape(self.node.meta["val"].shape)

    def _intervals(self, axis: int) -> list[Interval]:
        size, count = map_size(self.source)[axis], self.bins[axis]
        return [Interval(place * size // count, -(-(place + 1) * size // count)) for place in range(count)]


@dataclass(frozen=True, eq=False)
class Graph:
    """The graph of a network for images of one size.

    Attributes:
        image: The node of the images.
        output: The node of the logits.
        layers: The layer of every other map, each after the maps that it reads.
        means: The means over whole maps, by their nodes.
        vectors: The nodes that are computed from means and parameters alone, in order.
        levels: For each node the number of reduction passes over the scene after which it can be computed; for a mean
            this includes the pass that gathers it.
        parameters: The values of the nodes of parameters, buffers and constants.
        names: The names of parameters and buffers in the network, by their nodes.
    """

    image: fx.Node
    output: fx.Node
    layers: dict[fx.Node, Layer]
    means: dict[fx.Node, Mean]
    vectors: tuple[fx.Node, ...]
    levels: dict[fx.Node, int]
    parameters: dict[fx.Node, Tensor]
    names: dict[fx.Node, str]

    @property
    def reductions(self) -> int:
        """The number of reduction passes: sweeps over the scene that gather means before the logits are computed."""
        return self.levels[self.output]

    @property
    def dtype(self) -> torch.dtype:
        """The data type of all maps."""
        return self.image.meta["val"].dtype

    @cached_property
    def readers(self) -> Mapping[fx.Node, Sequence[Layer]]:
        """The layers that read each map."""
        readers: dict[fx.Node, list[Layer]] = defaultdict(list)
        for layer in self.layers.values():
            for source in layer.inputs:
                readers[source].append(layer)
        return readers

    def convolved_by(self, convolutions: Mapping[str, Convolution]) -> dict[fx.Node, Convolution]:
        """Return the given convolutions, named as in the network, by the nodes of their weights, for `completed`."""
        weights = {name.removesuffix(".weight"): node for node, name in self.names.items() if name.endswith(".weight")}
        return {node: convolutions[name] for name, node in weights.items() if name in convolutions}

    def completed(self, known: Mapping[fx.Node, Any]) -> dict[fx.Node, Any]:
        """Return the parameters, the given means, and every vector that can be computed from them.

        Args:
            known: The values of means, and the convolutions that replace parameters; see `layer.Values`.
        """
        values: dict[fx.Node, Any] = {**self.parameters, **known}
        for node in self.vectors:
            if all(x in values for x in node.all_input_nodes):
                args, kwargs = map_arg((node.args, node.kwargs), lambda x: values[x])
                values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        return values


def trace(network: nn.Module, size: tuple[int, int]) -> Graph:
    """Trace a network's graph for images of `size` (height, width), without computing or holding any map.

    Args:
        network: In evaluation mode, from normalised images (1, 3, H, W) to logits (1, K, h, w).
        size: In pixels; one that the network accepts.

    Raises:
        UnsupportedLayerError: The network has a layer that reads whole maps in another way than by their mean, or
            PyTorch cannot export its graph.
    """
    parameter = next(network.parameters())
    # A single number expanded to all pixels: an image of any size that takes no memory.
    images = torch.zeros(1, dtype=parameter.dtype, device=parameter.device).expand(1, 3, *size)
    try:
        with torch.no_grad():
            # The empty table keeps every layer one node; the call also replaces in-place operations by functional ones.
            exported = torch.export.export(network, (images,), strict=False).run_decompositions({})
    except Exception as error:
        raise UnsupportedLayerError(f"PyTorch cannot take its graph ({str(error).partition(chr(10))[0]})") from error
    signature = exported.graph_signature
    held = {**dict(network.named_parameters()), **dict(network.named_buffers()), **exported.constants}
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = {**names, **signature.inputs_to_lifted_tensor_constants}
    nodes = list(exported.graph.nodes)
    (image,) = (node for node in nodes if node.name in signature.user_inputs)
    output = nodes[-1].args[0][0]
    # Nodes without a value, such as assertions of a data type, are not part of the network.
    calls = [node for node in nodes if node.op == "call_function" and "val" in node.meta]
    layers, means, vectors, levels = _sorted(image, calls)
    if output not in layers:
        raise UnsupportedLayerError("its logits are no map of the image")
    placeholders = [node for node in nodes if node.op == "placeholder" and node.name in constants]
    return Graph(
        image,
        output,
        layers,
        means,
        vectors,
        levels,
        parameters={node: held[constants[node.name]].detach() for node in placeholders},
        names={node: names[node.name] for node in placeholders if node.name in names},
    )


def _sorted(
    image: fx.Node, calls: Sequence[fx.Node]
) -> tuple[dict[fx.Node, Layer], dict[fx.Node, Mean], tuple[fx.Node, ...], dict[fx.Node, int]]:
    """Sort the calls into the layers, means, vectors and levels of a `Graph`."""
    layers: dict[fx.Node, Layer] = {}
    means: dict[fx.Node, Mean] = {}
    vectors: list[fx.Node] = []
    levels: dict[fx.Node, int] = {image: 0}
    for node in calls:
        levels[node] = max((levels.get(x, 0) for x in node.all_input_nodes), default=0)
        call: fx.Node = node
        output: int | None = None
        if node.target is operator.getitem:
            # The node picks one of several results of a call; its layer runs that call itself.
            call, output = node.args  # type: ignore[assignment]
        maps = tuple(x for x in call.all_input_nodes if x is image or x in layers)
        if not isinstance(node.meta["val"], Tensor) and maps:
            # A call with several results: each of its results that is used has a getitem node of its own.
            continue
        mean = _mean_of(node, maps)
        if mean is not None:
            means[node] = mean
            # A mean is known one reduction pass later than its map, and so is all that is computed from it.
            levels[node] += 1
        elif maps or (node.target in SPREADING and math.prod(node.meta["val"].shape[2:]) > 1):
            layers[node] = layer_of(Operation(node, call, output, maps))
        else:
            vectors.append(node)
    return layers, means, tuple(vectors), levels


def _mean_of(node: fx.Node, maps: Sequence[fx.Node]) -> Mean | None:
    """Return the mean or sum over the rows and columns of a map that a node computes; None if it is neither."""
    if list(maps) != list(node.args[:1]):
        return None
    (source,) = maps
    axes: Any = node.args[1] if len(node.args) > 1 else None
    match node.target:
        case aten.mean.dim | aten.sum.dim_IntList if axes and sorted(axis % 4 for axis in axes) == [2, 3]:
            return Mean(node, source, (1, 1), node.target == aten.mean.dim)
        case aten.adaptive_avg_pool2d.default if math.prod(map_size(node)) <= _MOST_BINS:
            return Mean(node, source, map_size(node), True)
        # A pooling whose window is as large as the map, with neither padding nor a divisor of its own.
        case aten.avg_pool2d.default if axes == [*map_size(source)] and len(node.args) <= 3:
            return Mean(node, source, (1, 1), True)
    return None
