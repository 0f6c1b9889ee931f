"""One layer of a traced network: its receptive field, and how it computes a window of its result.

A layer is given exactly the values that it reads, as far as they lie within the map. It adds padding at the edges of
the whole map and nowhere else, so its results are those of the whole map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, fx

from segscape.geometry.receptive_field import ReceptiveField
from segscape.geometry.window import Patch, Window

Convolution = Callable[[Tensor, tuple[int, int]], Tensor]
"""A convolution of (1, C, h, w), padded with (rows, columns) of zeros at both ends, to (1, K, h', w')."""
Values = Mapping[fx.Node, Any]
"""The values of the nodes that are not maps: tensors of parameters and of vectors that are computed from means; or a
`Convolution`, in place of the weight of a convolution."""
Compute = Callable[[Sequence[Patch], Window, Values, Tensor | None], Tensor]
"""The computation of a window of a layer's result from the patches that it reads, the window and the other values. The
result (1, C, h, w) is written into the last argument, where that is a tensor."""


class UnsupportedLayerError(Exception):
    """A layer that cannot be computed window by window; the message is the reason, as a clause to follow "for"."""


class Operation(NamedTuple):
    """A call in the graph that computes a map.

    Attributes:
        result: The node of the map.
        call: The node of the call; not that of the map where the call returns several results.
        output: The index of the map among these results; None where there is only one.
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
        """Run the call with some arguments and return the map."""
        values = self.call.target(*args, **kwargs)  # type: ignore[operator]
        return values if self.output is None else values[self.output]

    def arguments(self, *defaults: object, first: int = 1) -> list[Any]:
        """Return the arguments from number `first` on, with defaults for those that were left out at the end."""
        given = self.call.args[first:]
        return [*given, *defaults[len(given) :]]

    def only_input(self) -> fx.Node:
        """Return the map that is read, which must be the first argument and the only map.

        Raises:
            UnsupportedLayerError: Another argument is a map too.
        """
        if self.inputs != (self.call.args[0],):
            raise UnsupportedLayerError(f"{self.name} takes a map for more than its first argument")
        return self.inputs[0]


@dataclass(frozen=True)
class Layer:
    """A node of the graph that computes a map.

    Attributes:
        node: The node of the map.
        inputs: The nodes of the maps that it reads, all of one size; none where a vector is spread over the map.
        rows: The receptive field along the rows: which rows of the inputs each row of the result reads.
        cols: The receptive field along the columns.
        compute: Computes a window of the map.
        macs: Multiply-accumulates per pixel of the result.
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
        """Return the part of the inputs from which a window of the result is computed."""
        return Window.of(self.rows.input_interval(wanted.rows), self.cols.input_interval(wanted.cols))


def map_shape(node: fx.Node) -> tuple[int, int, int]:
    """Return (channels, height, width) of a node's whole map."""
    _, channels, height, width = node.meta["val"].shape
    return channels, height, width


def map_size(node: fx.Node) -> tuple[int, int]:
    """Return (height, width) of a node's whole map."""
    return map_shape(node)[1:]


def copied(compute: Callable[[Sequence[Patch], Window, Values], Tensor]) -> Compute:
    """Turn a computation that cannot write into a given tensor into a `Compute`, by copying its result there."""

    def into(patches: Sequence[Patch], window: Window, values: Values, out: Tensor | None) -> Tensor:
        computed = compute(patches, window, values)
        return computed if out is None else out.copy_(computed)

    return into
