"""Plans for streaming a scene: which maps are kept between sweeps, and the sizes of blocks and steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import fx

from segscape.geometry.interval import Interval
from segscape.geometry.window import Window
from segscape.scenes.streaming.graph import Graph, Mean
from segscape.scenes.streaming.layer import map_shape, map_size
from segscape.scenes.streaming.sweep import FreeRows, Sweep

_BYTES_PER_VALUE = 4
_STEP_ROWS = (*range(1536, 1024, -128), *range(1024, 256, -64), 256, 192, 128, 96, 64, 32)
"""The candidate numbers of image rows that are read at a time, the cheapest first."""
_STEP_COST_ROWS = 16
"""The estimated fixed cost of a step, in rows that cost as much."""
_MACS_PER_KEPT_BYTE = 80
"""The estimated cost of writing and reading a byte of a kept map, in multiply-accumulates."""
_MOST_KEPT_CANDIDATES = 12
_LEAST_BLOCK_PIXELS = 32 << 20
"""Lower bound of the pixels of a block when a scene is cut into several rows of blocks. An interrupted run repeats its
unfinished blocks, and ones smaller than this are quickly computed again."""
_MOST_BLOCK_OVERHEAD = 1.03
"""Upper bound of the work with several rows of blocks, relative to the work with one row of blocks."""
_MOST_PARTS = 64
_SOURCES_AHEAD = 2
"""Pieces of a source held ahead of the sweep: one waits to be used, and the one after it is being read."""
_STEADY_STEPS = 4
"""The number of steps beyond the halo of a block after which the memory in use no longer grows."""


class TooLittleMemoryError(ValueError):
    """Not even the smallest blocks and steps fit into the memory.

    Args:
        needed: Bytes that they would take.
        memory: Bytes that are available.
    """

    def __init__(self, needed: float, memory: int) -> None:
        super().__init__(
            f"This scene takes at least {math.ceil(needed / 2**20)} MiB beside the program itself, and there are "
            f"{max(memory, 0) >> 20} MiB; raise --max-memory."
        )


@dataclass(frozen=True)
class StreamingPlan:
    """The plan by which a scene is streamed.

    Attributes:
        graph: The network for the padded scene.
        kept: The maps that are written in one sweep and read in later ones.
        parts: (down, across), the number of blocks.
        rows: The number of image rows that are read at a time.
        memory: Estimated bytes that computing a block takes.
        macs: Multiply-accumulates of all sweeps over all blocks.
    """

    graph: Graph
    kept: tuple[fx.Node, ...]
    parts: tuple[int, int]
    rows: int
    memory: int
    macs: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the padded scene, in pixels."""
        return map_size(self.graph.image)

    @property
    def storage(self) -> int:
        """The size of the kept maps in bytes; each is stored in a file of its own."""
        return sum(math.prod(map_shape(node)) for node in self.kept) * _BYTES_PER_VALUE

    @property
    def sweeps(self) -> int:
        """The number of sweeps: the reduction passes, and one for the logits."""
        return self.graph.reductions + 1

    @property
    def image_reads(self) -> int:
        """The number of sweeps that read the image."""
        return sum(self.graph.image in self.sweep(number, self.blocks()[0]).windows for number in range(self.sweeps))

    @property
    def macs_per_pixel(self) -> float:
        """Multiply-accumulates per image pixel when the network runs over the whole scene at once."""
        layers = self.graph.layers
        return sum(layer.macs * math.prod(map_size(node)) for node, layer in layers.items()) / math.prod(self.size)

    @property
    def halo(self) -> int:
        """The largest halo in pixels: how far beyond one of its own edges a block reads the image."""
        most = 0
        for number, block in itertools.product(range(self.sweeps), self.blocks()):
            read = self.sweep(number, block).windows.get(self.graph.image)
            own = self.own(block, self.size)
            for inner, outer in () if read is None else ((own.rows, read.rows), (own.cols, read.cols)):
                most = max(most, inner.start - outer.start, outer.stop - inner.stop)
        return most

    @property
    def step(self) -> float:
        """The number of rows read at a time, as a share of the scene's height."""
        return self.rows / self.size[0]

    def blocks(self) -> list[tuple[int, int]]:
        """Return the places (down, across) of all blocks, row by row."""
        down, across = self.parts
        return list(itertools.product(range(down), range(across)))

    def own(self, block: tuple[int, int], size: tuple[int, int]) -> Window:
        """Return a block's own part of a map of `size` (height, width); these parts cover the map once."""
        rows, cols = (_share(place, parts, side) for place, parts, side in zip(block, self.parts, size, strict=True))
        return Window.of(rows, cols)

    def means(self, number: int) -> list[Mean]:
        """Return the means that a sweep gathers."""
        return [mean for node, mean in self.graph.means.items() if self.graph.levels[node] == number + 1]

    def written(self, number: int) -> tuple[fx.Node, ...]:
        """Return the maps that a sweep writes."""
        return tuple(node for node in self.kept if self.graph.levels[node] == number)

    def sweep(self, number: int, block: tuple[int, int]) -> Sweep:
        """Return sweep `number`, counted from 0, over a block."""
        graph = self.graph
        targets = [*(mean.source for mean in self.means(number)), *self.written(number)]
        targets += [graph.output] if number == graph.reductions else []
        wanted = {node: self.own(block, map_size(node)) for node in targets}
        return Sweep.of(graph, wanted, frozenset(node for node in self.kept if graph.levels[node] < number))


def plan_streaming(graph: Graph, *, memory: int, storage: int) -> StreamingPlan:
    """Find the plan of least work within the given memory.

    Args:
        graph: The network for the padded scene.
        memory: Bytes available for the computation.
        storage: Bytes available for the files of the kept maps.

    Raises:
        TooLittleMemoryError: Not even the smallest blocks and steps fit.
    """
    kept = _kept(graph, storage)
    width = map_shape(graph.image)[2]
    best: StreamingPlan | None = None
    least = smallest = math.inf
    for across in itertools.takewhile(lambda parts: width / parts >= _STEP_ROWS[-1], _parts()):
        draft = StreamingPlan(graph, kept, (_down(graph, kept, across), across), 0, 0, 0)
        macs = _macs(draft)
        if macs > least:
            # A plan's cost is never below its work, and more columns of blocks add work as a rule, for their halos.
            break
        for rows in _STEP_ROWS:
            plan = replace(draft, rows=rows, memory=_peak(draft, rows), macs=macs)
            smallest = min(smallest, plan.memory)
            cost = macs * (1 + _STEP_COST_ROWS / rows)
            if plan.memory <= memory and cost < least:
                best, least = plan, cost
    if best is None:
        raise TooLittleMemoryError(smallest, memory)
    return best


def _share(place: int, parts: int, size: int) -> Interval:
    return Interval(size * place // parts, size * (place + 1) // parts)


def _parts() -> Iterator[int]:
    return itertools.chain(range(1, 8), range(8, _MOST_PARTS + 1, 4))


def _kept(graph: Graph, storage: int) -> tuple[fx.Node, ...]:
    """Choose the maps to keep: of those that wait for a mean, the ones that save the most work for their bytes."""
    waiting = [node for node in graph.layers if _waits(graph, node)][:_MOST_KEPT_CANDIDATES]
    # Every subset of the candidates is priced, 2 ** 12 at most; of equal prices the smallest subset wins.
    choices = itertools.chain.from_iterable(itertools.combinations(waiting, n) for n in range(len(waiting) + 1))
    return min(choices, key=lambda kept: _price(graph, kept, storage))


def _waits(graph: Graph, node: fx.Node) -> bool:
    """Return whether a layer that reads the map must wait for a mean which is gathered after the map is known."""
    return any(graph.levels[layer.node] > graph.levels[node] for layer in graph.readers[node])


def _price(graph: Graph, kept: Sequence[fx.Node], storage: int) -> float:
    """Return the cost of all sweeps, in multiply-accumulates, when some maps are kept; infinite beyond `storage`."""
    stored = sum(math.prod(map_shape(node)) for node in kept) * _BYTES_PER_VALUE
    if stored > storage:
        return math.inf
    macs = 0.0
    for number in range(graph.reductions + 1):
        # The targets and sources of `StreamingPlan.sweep`, but over the whole scene as one block, without halos.
        known = {node for node in kept if graph.levels[node] < number}
        targets = [mean.source for mean in graph.means.values() if graph.levels[mean.node] == number + 1]
        targets += [node for node in kept if graph.levels[node] == number]
        targets += [graph.output] if number == graph.reductions else []
        macs += sum(graph.layers[node].macs * math.prod(map_size(node)) for node in _ancestors(graph, targets, known))
    return macs + stored * _MACS_PER_KEPT_BYTE


def _ancestors(graph: Graph, targets: Iterable[fx.Node], known: set[fx.Node]) -> set[fx.Node]:
    """Return the maps that have to be computed for some targets when some maps are known."""
    found: set[fx.Node] = set()
    open_ = [node for node in targets if node not in known]
    while open_:
        node = open_.pop()
        if node in found or node is graph.image or node in known:
            continue
        found.add(node)
        open_ += graph.layers[node].inputs
    return found


def _down(graph: Graph, kept: tuple[fx.Node, ...], across: int) -> int:
    """Return the number of rows of blocks: as many as the limits on overhead and on the size of blocks allow."""
    most = max(math.prod(map_size(graph.image)) // across // _LEAST_BLOCK_PIXELS, 1)
    drafts = (StreamingPlan(graph, kept, (down, across), 0, 0, 0) for down in range(1, most + 1))
    # This takes the draft of one row of blocks; those that remain in the generator begin with two.
    whole = _macs(next(drafts))
    return 1 + sum(1 for _ in itertools.takewhile(lambda draft: _macs(draft) <= _MOST_BLOCK_OVERHEAD * whole, drafts))


def _macs(plan: StreamingPlan) -> int:
    return sum(plan.sweep(number, block).macs() for number in range(plan.sweeps) for block in plan.blocks())


def _peak(plan: StreamingPlan, rows: int) -> int:
    """Estimate the most bytes held while a block is computed."""
    step = rows / plan.size[0]
    # A block in the middle of the scene has a halo on every side. More rows than it takes to reach the peak of memory
    # would only lengthen the estimate.
    down = max(plan.parts[0], round(1 / (_STEADY_STEPS * step)), 1)
    draft = replace(plan, parts=(down, plan.parts[1]), rows=rows)
    block = (down // 2, plan.parts[1] // 2)
    return max(held_bytes(draft.sweep(number, block), step) for number in range(plan.sweeps))


def held_bytes(sweep: Sweep, step: float) -> int:
    """Estimate the most bytes that a sweep holds, including the current layer's result and what is read ahead."""
    graph = sweep.graph
    per_row = {node: map_shape(node)[0] * window.width * _BYTES_PER_VALUE for node, window in sweep.windows.items()}
    # Of each map the rows [first, stop) that are held; none at the start.
    held: Mapping[fx.Node, list[int]] = {node: [window.row, window.row] for node, window in sweep.windows.items()}
    total = most = ahead = 0
    for event in sweep.events(step):
        rows = held[event.node]
        before = rows[1] - rows[0]
        if isinstance(event, FreeRows):
            rows[0] = min(max(rows[0], event.before), rows[1])
        else:
            rows[1] = event.rows.stop
            # Twice: many layers compute new rows in a tensor of their own, then copy them to the rows that are held.
            working = 2 * event.rows.length * per_row[event.node]
            if event.node in sweep.sources:
                ahead = max(ahead, _SOURCES_AHEAD * event.rows.length * per_row[event.node])
            else:
                layer = graph.layers[event.node]
                cols = layer.cols.input_interval(sweep.windows[event.node].cols)
                # Inputs cut to fewer columns than are held are not contiguous, so layers copy them.
                copied = [source for source in layer.inputs if cols != sweep.windows[source].cols]
                working += sum(layer.rows.input_interval(event.rows).length * per_row[source] for source in copied)
            most = max(most, total + working)
        total += (rows[1] - rows[0] - before) * per_row[event.node]
    return most + ahead
