"""One sweep over a block of the scene: rows are pushed through the layers, and maps keep those still to be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, fx

from segscape.geometry.interval import Interval
from segscape.geometry.window import Patch, Window
from segscape.scenes.streaming.graph import Graph
from segscape.scenes.streaming.layer import Values, map_size


class ComputeRows(NamedTuple):
    """Rows of a map that are to be read or computed next.

    Attributes:
        node: The map.
        rows: Which of its rows.
    """

    node: fx.Node
    rows: Interval


class FreeRows(NamedTuple):
    """Rows of a map that no layer will read any more.

    Attributes:
        node: The map.
        before: The first row that is kept.
    """

    node: fx.Node
    before: int


@dataclass(frozen=True)
class Sweep:
    """The computation of one block of the scene in one pass over its rows.

    Attributes:
        graph: The network.
        windows: The window that is needed of each map, sources included, each after those of the maps that it reads.
        sources: The maps that are read instead of computed: the images, and maps kept from earlier sweeps.
    """

    graph: Graph
    windows: Mapping[fx.Node, Window]
    sources: frozenset[fx.Node]

    @classmethod
    def of(cls, graph: Graph, wanted: Mapping[fx.Node, Window], stored: frozenset[fx.Node]) -> Sweep:
        """Return the sweep that computes some windows of maps from the images and the stored maps."""
        windows = dict(wanted)
        # In reverse order all readers of a map have stated the window that they need before the map itself is reached.
        for node in reversed(graph.layers):
            if node not in windows or node in stored:
                continue
            layer = graph.layers[node]
            needed = layer.input_window(windows[node])
            for source in layer.inputs:
                windows[source] = windows[source].union(needed) if source in windows else needed
        ordered = {node: windows[node] for node in (graph.image, *graph.layers) if node in windows}
        return cls(graph, ordered, frozenset(node for node in ordered if node is graph.image or node in stored))

    def events(self, step: float) -> Iterator[ComputeRows | FreeRows]:
        """Yield the events in order: rows are computed, and freed as soon as no layer will read them again.

        Args:
            step: The rows of the sources that are read at a time, as a share of the scene's height.
        """
        done = {node: window.row for node, window in self.windows.items()}
        # Positions are shares of the height, the measure that maps of different sizes have in common.
        shares = [
            (window.row / map_size(node)[0], window.stop_row / map_size(node)[0])
            for node, window in self.windows.items()
            if node in self.sources
        ]
        position, end = min(first for first, _ in shares), max(last for _, last in shares)
        while position < end:
            position = min(position + step, end)
            for node, window in self.windows.items():
                stop = min(self._available(node, position, done), window.stop_row)
                if stop <= done[node]:
                    continue
                yield ComputeRows(node, Interval(done[node], stop))
                done[node] = stop
                read = () if node in self.sources else self.graph.layers[node].inputs
                # The map itself, too: rows that no layer of this sweep reads, such as those of the logits, go at once.
                for freed in {*read, node}:
                    yield FreeRows(freed, self._first_needed(freed, done))

    def run(
        self,
        step: float,
        values: Values,
        read: Callable[[fx.Node], Tensor],
        consumers: Mapping[fx.Node, Sequence[Callable[[Patch], None]]],
    ) -> None:
        """Compute the block.

        Args:
            step: See `events`.
            values: The values of the graph's parameters and of the vectors known by now.
            read: Returns the values (1, C, h, w) of the next window of a source, in the order of `reads`.
            consumers: The functions to call with the new rows of a map, with all columns that are computed of it.
        """
        held: dict[fx.Node, Patch] = {}
        for event in self.events(step):
            if isinstance(event, FreeRows):
                _free(held, event)
                continue
            node = event.node
            window = Window.of(event.rows, self.windows[node].cols)
            # New rows are written below those still held, so that layers read all rows of a map as views of one tensor.
            room = _lengthened(held[node], window) if node in held else None
            out = None if room is None else room.cut(window).values
            if node in self.sources:
                values_read = read(node)
                patch = Patch(values_read if out is None else out.copy_(values_read), window)
            else:
                layer = self.graph.layers[node]
                needed = layer.input_window(window)
                inputs = [held[source].cut(needed) for source in layer.inputs]
                patch = Patch(layer.compute(inputs, window, values, out), window)
            for consume in consumers.get(node, ()):
                consume(patch)
            held[node] = room or patch

    def reads(self, step: float) -> Iterator[tuple[fx.Node, Window]]:
        """Yield the source windows that `run` reads, in order."""
        for event in self.events(step):
            if isinstance(event, ComputeRows) and event.node in self.sources:
                yield event.node, Window.of(event.rows, self.windows[event.node].cols)

    def macs(self) -> int:
        """Return the multiply-accumulates of the sweep."""
        return round(
            sum(
                self.graph.layers[node].macs * math.prod(window.size)
                for node, window in self.windows.items()
                if node not in self.sources
            )
        )

    def _available(self, node: fx.Node, position: float, done: Mapping[fx.Node, int]) -> int:
        """Return how many leading rows of a map can be computed by now."""
        if node in self.sources:
            # Rounded up: else a rounding error in the position could leave out the last row of the window.
            return math.ceil(position * map_size(node)[0])
        layer = self.graph.layers[node]
        return min((layer.rows.available(done[source]) for source in layer.inputs), default=layer.shape[1])

    def _first_needed(self, node: fx.Node, done: Mapping[fx.Node, int]) -> int:
        """Return the first row of a map that is still to be read."""
        # A reader that has computed its whole window needs no more rows.
        starts = [
            layer.rows.first_needed(done[layer.node])
            for layer in self.graph.readers[node]
            if layer.node in self.windows
            and layer.node not in self.sources
            and done[layer.node] < self.windows[layer.node].stop_row
        ]
        return min(starts, default=map_size(node)[0])


def _lengthened(held: Patch, new: Window) -> Patch:
    """Copy the rows that are held into a tensor with room below them for the new ones."""
    window = held.window.union(new)
    shape = 1, held.values.shape[1], *window.size
    values = torch.empty(shape, dtype=held.values.dtype, device=held.values.device, memory_format=torch.channels_last)
    values[:, :, : held.window.height] = held.values
    return Patch(values, window)


def _free(held: dict[fx.Node, Patch], event: FreeRows) -> None:
    patch = held.get(event.node)
    if patch is None or event.before <= patch.window.row:
        return
    if event.before >= patch.window.stop_row:
        del held[event.node]
        return
    rest = patch.cut(Window.of(Interval(event.before, patch.window.stop_row), patch.window.cols))
    if patch.values.untyped_storage().nbytes() > 2 * rest.values.nbytes:
        # A view would keep the memory of the whole patch alive; a remainder this small is copied instead.
        rest = rest._replace(values=rest.values.clone())
    held[event.node] = rest
