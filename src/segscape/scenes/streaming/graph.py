"""A network as a graph of maps, vectors and means over the whole scene, in the order in which they become known."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from segscape.scenes.streaming.layers import Convolution, Layer, UnsupportedLayerError, layer_of, map_shape

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Graph:
    """A network for images of one size.

    Attributes:
        image: The node of the images.
        output: The node of the logits.
        layers: Of every other map, in an order in which each follows what it reads.
        means: The nodes of the means over whole maps, by the maps' nodes.
        vectors: The nodes that are computed from means and parameters alone, in order.
        levels: For each map or mean how many rounds of gathering means it waits for; a mean counts its own round.
        parameters: The values of the parameters' and buffers' nodes.
        names: Of these in the network.
    """

    image: fx.Node
    output: fx.Node
    layers: dict[fx.Node, Layer]
    means: dict[fx.Node, fx.Node]
    vectors: tuple[fx.Node, ...]
    levels: dict[fx.Node, int]
    parameters: dict[fx.Node, Tensor]
    names: dict[fx.Node, str]

    @property
    def rounds(self) -> int:
        """How many rounds of gathering means there are before the logits can be computed."""
        return self.levels[self.output]

    @property
    def dtype(self) -> torch.dtype:
        """Of all maps."""
        return self.image.meta["val"].dtype

    def readers(self, node: fx.Node) -> Iterator[Layer]:
        """The layers that read a map."""
        return (self.layers[user] for user in node.users if user in self.layers)

    def convolved_by(self, convolutions: Mapping[str, Convolution]) -> dict[fx.Node, Convolution]:
        """What stands for the weights of some convolutions, given by their names in the network, for `completed`."""
        weights = {name.removesuffix(".weight"): node for node, name in self.names.items() if name.endswith(".weight")}
        return {node: convolutions[name] for name, node in weights.items() if name in convolutions}

    def completed(self, known: Mapping[fx.Node, Any]) -> dict[fx.Node, Any]:
        """The parameters, the given means, and every vector that can be computed from them.

        Args:
            known: Values of means, and of parameters that others stand for; see `layers.Values`.
        """
        values: dict[fx.Node, Any] = {**self.parameters, **known}
        for node in self.vectors:
            if all(x in values for x in node.all_input_nodes):
                args, kwargs = map_arg((node.args, node.kwargs), lambda x: values[x])
                values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        return values


def trace(network: nn.Module, size: tuple[int, int]) -> Graph:
    """The graph of a network for images of `size` (height, width); nothing is computed and no map is held.

    Args:
        network: In evaluation mode, from normalised images (1, 3, H, W) to logits (1, K, h, w).
        size: In pixels; one that the network takes.

    Raises:
        UnsupportedLayerError: The network has a layer that reads whole maps in another way than by their mean.
    """
    shapes = copy.deepcopy(network).to("meta")
    images = torch.empty(1, 3, *size, dtype=next(shapes.parameters()).dtype, device="meta")
    with torch.no_grad():
        # Without decompositions every layer stays one node; what changes its input in place no longer does.
        exported = torch.export.export(shapes, (images,), strict=False).run_decompositions({})
    signature = exported.graph_signature
    held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    nodes = list(exported.graph.nodes)
    named = {node: names[node.name] for node in nodes if node.op == "placeholder" and node.name in names}
    (image,) = (node for node in nodes if node.name in signature.user_inputs)
    layers, means, vectors, levels = _sorted(image, (node for node in nodes if node.op == "call_function"))
    parameters = {node: held[name].detach() for node, name in named.items()}
    return Graph(image, nodes[-1].args[0][0], layers, means, vectors, levels, parameters, named)


def _sorted(
    image: fx.Node, nodes: Iterable[fx.Node]
) -> tuple[dict[fx.Node, Layer], dict[fx.Node, fx.Node], tuple[fx.Node, ...], dict[fx.Node, int]]:
    """The nodes told apart: layers, means, vectors and levels of a `Graph`."""
    layers: dict[fx.Node, Layer] = {}
    means: dict[fx.Node, fx.Node] = {}
    vectors: list[fx.Node] = []
    levels: dict[fx.Node, int] = {image: 0}
    for node in nodes:
        maps = [x for x in node.all_input_nodes if x is image or x in layers]
        level = max((levels.get(x, 0) for x in node.all_input_nodes), default=0)
        if maps and node.target == aten.mean.dim:
            _check_mean(node)
            means[maps[0]] = node
            levels[node] = level + 1
            continue
        levels[node] = level
        if maps or (
            node.target == aten.expand.default and node.meta["val"].dim() == 4 and max(map_shape(node)[1:]) > 1
        ):
            layers[node] = layer_of(node, maps)
        else:
            vectors.append(node)
    return layers, means, tuple(vectors), levels


def _check_mean(node: fx.Node) -> None:
    axes: Any
    _, axes, *keeps = node.args
    if sorted(axis % 4 for axis in axes) != [2, 3] or keeps != [True]:
        raise UnsupportedLayerError("a mean over something else than a whole map")
