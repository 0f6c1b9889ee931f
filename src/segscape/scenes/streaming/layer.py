"""One layer of a traced network: what it reads, and how it computes a window of its result.

A layer is given just the values that it reads, as far as the map has them. What it pads at the edges of the whole map
it pads there and nowhere else, so its results are those of the whole map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, fx

from segscape.geometry.receptive_field import ReceptiveField
from segscape.geometry.window import Patch, Window

Convolution = Callable[[Tensor, tuple[int, int]], Tensor]
"""From (1, C, h, w), and the rows and columns of zeros at its edges, to (1, K, h', w')."""
Values = Mapping[fx.Node, Any]
"""Tensors of the nodes that are no maps: parameters, and what is computed from means; or, in place of the weight of a
convolution, a `Convolution`."""
Compute = Callable[[Sequence[Patch], Window, Values, Tensor | None], Tensor]
"""From the patches read, the wanted window and the other values to the values of the window; written into a tensor
(1, C, h, w), where one is given."""


class UnsupportedLayerError(Exception):
    """A layer that cannot be computed window by window; the message says why, as a clause that follows on "for"."""


class Operation(NamedTuple):
    """A call in the graph that makes a map.

    Attributes:
        result: The node of the map.
        call: The node of the call; another one where it gives several results, of which the map is one.
        output: Which of the results, where there are several.
        inputs: The nodes of the maps that it reads; none where vectors are spread over the map.
    """

    result: fx.Node
    call: fx.Node
    output: int | None
    inputs: tuple[fx.Node, ...]

    @property
    def name(self) -> str:
        """The operation's name, such as `conv2d`."""
        return str(self.call.target).removeprefix("aten.").split(".")[0]

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        """What the call gives for some arguments."""
        values = self.call.target(*args, **kwargs)  # type: ignore[operator]
        return values if self.output is None else values[self.output]

    def arguments(self, *defaults: object, first: int = 1) -> list[Any]:
        """The arguments from number `first` on, those at the end that were left out filled in."""
        given = self.call.args[first:]
        return [*given, *defaults[len(given) :]]

    def only_input(self) -> fx.Node:
        """The map that is read where just one may be, as the first argument.

        Raises:
            UnsupportedLayerError: Another argument is a map too.
        """
        if self.inputs != (self.call.args[0],):
            raise UnsupportedLayerError(f"{self.name} takes a map for more than its first argument")
        return self.inputs[0]


@dataclass(frozen=True)
class Layer:
    """A node of the graph that makes a map.

    Attributes:
        node: Its place in the graph.
        inputs: The nodes of the maps that it reads, all of one size; none where a vector is spread over the map.
        rows: What each row of the result reads of their rows.
        cols: The same for the columns.
        compute: What computes it.
        macs: Multiply-accumulates for each pixel of the result.
    """

    node: fx.Node
    inputs: tuple[fx.Node, ...]
    rows: ReceptiveField
    cols: ReceptiveField
    compute: Compute = field(repr=False)
    macs: float = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the whole map."""
        return map_shape(self.node)

    def input_window(self, wanted: Window) -> Window:
        """The part of the inputs that a window of the result is computed from."""
        return Window.of(self.rows.input_interval(wanted.rows), self.cols.input_interval(wanted.cols))


def map_shape(node: fx.Node) -> tuple[int, int, int]:
    """(channels, height, width) of a node's whole map."""
    _, channels, height, width = node.meta["val"].shape
    return channels, height, width


def map_size(node: fx.Node) -> tuple[int, int]:
    """(height, width) of a node's whole map."""
    return map_shape(node)[1:]


def copied(compute: Callable[[Sequence[Patch], Window, Values], Tensor]) -> Compute:
    """`Compute` of an operation that cannot write into a given tensor."""

    def into(patches: Sequence[Patch], window: Window, values: Values, out: Tensor | None) -> Tensor:
        computed = compute(patches, window, values)
        return computed if out is None else out.copy_(computed)

    return into
