"""One sweep over a block of the scene: rows are pushed through the layers, each keeps what is still to be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, fx

from segscape.geometry.interval import Patch, Span
from segscape.scenes.streaming.graph import Graph
from segscape.scenes.streaming.layers import Values


class Area(NamedTuple):
    """A rectangle of a map.

    Attributes:
        rows: Its rows.
        cols: Its columns.
    """

    rows: Span
    cols: Span


class Made(NamedTuple):
    """Rows of a map that are to be read or computed now.

    Attributes:
        node: The map.
        rows: Which of its rows.
    """

    node: fx.Node
    rows: Span


class Dropped(NamedTuple):
    """Rows of a map that nobody will read any more.

    Attributes:
        node: The map.
        start: The first row that is kept.
    """

    node: fx.Node
    start: int


@dataclass(frozen=True)
class Sweep:
    """What is computed of a block of the scene in one go.

    Attributes:
        graph: The network.
        areas: What is needed of each map, sources included, in an order in which each follows what it reads.
        sources: The maps that are read instead of computed: the images, and maps kept from earlier sweeps.
    """

    graph: Graph
    areas: Mapping[fx.Node, Area]
    sources: frozenset[fx.Node]

    @classmethod
    def of(cls, graph: Graph, wanted: Mapping[fx.Node, Area], stored: frozenset[fx.Node]) -> Sweep:
        """The sweep that computes some areas of maps from the images and the stored maps."""
        areas = dict(wanted)
        for node in reversed(graph.layers):
            if node not in areas or node in stored:
                continue
            layer = graph.layers[node]
            rows, cols = areas[node]
            area = Area(layer.rows.hull(rows), layer.cols.hull(cols))
            for source in layer.inputs:
                areas[source] = _joined(areas[source], area) if source in areas else area
        ordered = {node: areas[node] for node in (graph.image, *graph.layers) if node in areas}
        return cls(graph, ordered, frozenset(node for node in ordered if node is graph.image or node in stored))

    def events(self, step: float) -> Iterator[Made | Dropped]:
        """What happens, in order: rows made, and rows dropped as soon as nobody will read them.

        Args:
            step: How far the sources are read at a time, as a share of the scene's height.
        """
        done = {node: area.rows.start for node, area in self.areas.items()}
        spans = [self.areas[node].rows for node in self.sources]
        position = min(span.start / span.total for span in spans)
        end = max(span.stop / span.total for span in spans)
        while position < end:
            position = min(position + step, end)
            for node, area in self.areas.items():
                stop = min(self._ready(node, position, done), area.rows.stop)
                if stop <= done[node]:
                    continue
                yield Made(node, Span(done[node], stop, area.rows.total))
                done[node] = stop
                for freed in {*self._read(node), node}:
                    yield Dropped(freed, self._kept_from(freed, done))

    def run(
        self,
        step: float,
        values: Values,
        read: Callable[[fx.Node], Tensor],
        takers: Mapping[fx.Node, Sequence[Callable[[Patch], None]]],
    ) -> None:
        """Compute the block.

        Args:
            step: See `events`.
            values: Of the graph's parameters and of the vectors known by now.
            read: Gives the values (1, C, h, w) of the next area of a source, in the order of `reads`.
            takers: Those that are given the new rows of a map, with all columns that are computed of it.
        """
        held: dict[fx.Node, Patch] = {}
        for event in self.events(step):
            if isinstance(event, Dropped):
                _drop(held, event)
                continue
            node, rows = event
            room = _lengthened(held[node], rows) if node in held else None
            out = None if room is None else room.cut(rows, room.cols).values
            made = _written(read(node), out) if node in self.sources else self._computed(event, held, values, out)
            patch = Patch(made, rows, self.areas[node].cols)
            for take in takers.get(node, ()):
                take(patch)
            held[node] = room or patch

    def reads(self, step: float) -> Iterator[tuple[fx.Node, Area]]:
        """What `run` reads, in order."""
        for event in self.events(step):
            if isinstance(event, Made) and event.node in self.sources:
                yield event.node, Area(event.rows, self.areas[event.node].cols)

    def macs(self) -> int:
        """Multiply-accumulates of the sweep."""
        return sum(
            self.graph.layers[node].macs * area.rows.length * area.cols.length
            for node, area in self.areas.items()
            if node not in self.sources
        )

    def _computed(self, event: Made, held: Mapping[fx.Node, Patch], values: Values, out: Tensor | None) -> Tensor:
        node, rows = event
        layer = self.graph.layers[node]
        cols = self.areas[node].cols
        read = layer.rows.hull(rows), layer.cols.hull(cols)
        return layer.compute([held[source].cut(*read) for source in layer.inputs], rows, cols, values, out)

    def _ready(self, node: fx.Node, position: float, done: Mapping[fx.Node, int]) -> int:
        """How many leading rows of a map can be made by now."""
        if node in self.sources:
            return math.ceil(position * self.areas[node].rows.total)
        layer = self.graph.layers[node]
        if not layer.inputs:
            return layer.rows.lines
        return min(layer.rows.ready(done[source]) for source in layer.inputs)

    def _read(self, node: fx.Node) -> tuple[fx.Node, ...]:
        return () if node in self.sources else self.graph.layers[node].inputs

    def _kept_from(self, node: fx.Node, done: Mapping[fx.Node, int]) -> int:
        """The first row of a map that is still to be read."""
        starts = [
            layer.rows.read_from(done[layer.node])
            for layer in self.graph.readers(node)
            if layer.node in self.areas
            and layer.node not in self.sources
            and done[layer.node] < self.areas[layer.node].rows.stop
        ]
        return min(starts, default=self.areas[node].rows.total)


def _joined(first: Area, second: Area) -> Area:
    return Area(first.rows.union(second.rows), first.cols.union(second.cols))


def _written(values: Tensor, out: Tensor | None) -> Tensor:
    return values if out is None else out.copy_(values)


def _lengthened(held: Patch, new: Span) -> Patch:
    """The rows that are held, with room below them for the new ones."""
    rows = Span(held.rows.start, new.stop, new.total)
    _, channels, height, width = held.values.shape
    shape = 1, channels, rows.length, width
    values = torch.empty(shape, dtype=held.values.dtype, device=held.values.device, memory_format=torch.channels_last)
    values[:, :, :height] = held.values
    return Patch(values, rows, held.cols)


def _drop(held: dict[fx.Node, Patch], event: Dropped) -> None:
    patch = held.get(event.node)
    if patch is None or event.start <= patch.rows.start:
        return
    if event.start >= patch.rows.stop:
        del held[event.node]
        return
    rest = patch.cut(patch.rows._replace(start=event.start), patch.cols)
    if patch.values.untyped_storage().nbytes() > 2 * rest.values.nbytes:
        # A view would keep the whole patch alive.
        rest = rest._replace(values=rest.values.clone())
    held[event.node] = rest
