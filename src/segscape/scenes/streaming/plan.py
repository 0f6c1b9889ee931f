"""How a scene is streamed: which maps are kept between sweeps, and how large the pieces are that are held at a time."""

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
"""Rows of the image that are read at a time, the best first."""
_STEP_COST_ROWS = 16
"""A step is taken to cost as much as so many rows more."""
_MACS_PER_KEPT_BYTE = 80
"""What a byte of a kept map is taken to cost, written and read, in multiply-accumulates."""
_MOST_KEPT_CANDIDATES = 12
_LEAST_BLOCK_PIXELS = 32 << 20
"""Smaller blocks are lost sooner than they are made good: they are what an interrupted run starts from again."""
_MOST_BLOCK_OVERHEAD = 1.03
"""How much more work the cut into blocks may make."""
_MOST_PARTS = 64
_SOURCES_AHEAD = 2
"""What is read next waits, and the one after is being read."""
_STEADY_STEPS = 4
"""After so many steps beyond what surrounds a block the same amount of memory is held again and again."""


class TooLittleMemoryError(ValueError):
    """Not even the smallest pieces fit into the memory.

    Args:
        needed: Bytes that they would take.
        memory: Bytes that there are.
    """

    def __init__(self, needed: float, memory: int) -> None:
        super().__init__(
            f"This scene takes at least {math.ceil(needed / 2**20)} MiB beside the program itself, and there are "
            f"{max(memory, 0) >> 20} MiB; raise --max-memory."
        )


@dataclass(frozen=True)
class StreamingPlan:
    """How a scene is streamed.

    Attributes:
        graph: The network for the padded scene.
        kept: The maps that are written in one sweep and read in later ones.
        parts: (down, across), the number of blocks.
        rows: How many rows of the image are read at a time.
        memory: Bytes that a block takes, estimated.
        macs: Multiply-accumulates of all sweeps and blocks.
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
        """Bytes of the kept maps, in a file each."""
        return sum(math.prod(map_shape(node)) for node in self.kept) * _BYTES_PER_VALUE

    @property
    def sweeps(self) -> int:
        """How many sweeps there are: the reduction passes, and one for the logits."""
        return self.graph.reductions + 1

    @property
    def image_reads(self) -> int:
        """How many of the sweeps read the image."""
        return sum(self.graph.image in self.sweep(number, self.blocks()[0]).windows for number in range(self.sweeps))

    @property
    def macs_per_pixel(self) -> float:
        """Multiply-accumulates of the network for the whole scene at once, for each of its pixels."""
        layers = self.graph.layers
        return sum(layer.macs * math.prod(map_size(node)) for node, layer in layers.items()) / math.prod(self.size)

    @property
    def halo(self) -> int:
        """How many pixels of the image a block reads at most beyond each of its own edges."""
        most = 0
        for number, block in itertools.product(range(self.sweeps), self.blocks()):
            read = self.sweep(number, block).windows.get(self.graph.image)
            own = self.own(block, self.size)
            for inner, outer in () if read is None else ((own.rows, read.rows), (own.cols, read.cols)):
                most = max(most, inner.start - outer.start, outer.stop - inner.stop)
        return most

    @property
    def step(self) -> float:
        """The rows that are read at a time, as a share of the scene's height."""
        return self.rows / self.size[0]

    def blocks(self) -> list[tuple[int, int]]:
        """The blocks, each by its place (down, across)."""
        down, across = self.parts
        return list(itertools.product(range(down), range(across)))

    def own(self, block: tuple[int, int], size: tuple[int, int]) -> Window:
        """The part of a map of `size` (height, width) that is a block's own; the blocks share the map among them."""
        rows, cols = (_share(place, parts, side) for place, parts, side in zip(block, self.parts, size, strict=True))
        return Window.of(rows, cols)

    def means(self, number: int) -> list[Mean]:
        """The means that a sweep gathers."""
        return [mean for node, mean in self.graph.means.items() if self.graph.levels[node] == number + 1]

    def written(self, number: int) -> tuple[fx.Node, ...]:
        """The maps that a sweep writes."""
        return tuple(node for node in self.kept if self.graph.levels[node] == number)

    def sweep(self, number: int, block: tuple[int, int]) -> Sweep:
        """What a sweep, numbered from 0, computes of a block."""
        graph = self.graph
        targets = [*(mean.source for mean in self.means(number)), *self.written(number)]
        targets += [graph.output] if number == graph.reductions else []
        wanted = {node: self.own(block, map_size(node)) for node in targets}
        return Sweep.of(graph, wanted, frozenset(node for node in self.kept if graph.levels[node] < number))


def plan_streaming(graph: Graph, *, memory: int, storage: int) -> StreamingPlan:
    """The plan of least work within the given memory.

    Args:
        graph: The network for the padded scene.
        memory: Bytes for what is computed with.
        storage: Bytes for the files of the kept maps.

    Raises:
        TooLittleMemoryError: Not even the smallest pieces fit.
    """
    kept = _kept(graph, storage)
    width = map_shape(graph.image)[2]
    best: StreamingPlan | None = None
    least = smallest = math.inf
    for across in itertools.takewhile(lambda parts: width / parts >= _STEP_ROWS[-1], _parts()):
        draft = StreamingPlan(graph, kept, (_down(graph, kept, across), across), 0, 0, 0)
        macs = _macs(draft)
        if macs > least:
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
    """The maps to keep: of those that wait for a mean, the ones that spare the most work for their bytes."""
    waiting = [node for node in graph.layers if _waits(graph, node)][:_MOST_KEPT_CANDIDATES]
    choices = itertools.chain.from_iterable(itertools.combinations(waiting, n) for n in range(len(waiting) + 1))
    return min(choices, key=lambda kept: _price(graph, kept, storage))


def _waits(graph: Graph, node: fx.Node) -> bool:
    """Whether a map is read by a layer that has to wait for a mean which is not known when the map is."""
    return any(graph.levels[layer.node] > graph.levels[node] for layer in graph.readers[node])


def _price(graph: Graph, kept: Sequence[fx.Node], storage: int) -> float:
    """What all sweeps cost when some maps are kept, in multiply-accumulates."""
    stored = sum(math.prod(map_shape(node)) for node in kept) * _BYTES_PER_VALUE
    if stored > storage:
        return math.inf
    macs = 0.0
    for number in range(graph.reductions + 1):
        known = {node for node in kept if graph.levels[node] < number}
        targets = [mean.source for mean in graph.means.values() if graph.levels[mean.node] == number + 1]
        targets += [node for node in kept if graph.levels[node] == number]
        targets += [graph.output] if number == graph.reductions else []
        macs += sum(graph.layers[node].macs * math.prod(map_size(node)) for node in _ancestors(graph, targets, known))
    return macs + stored * _MACS_PER_KEPT_BYTE


def _ancestors(graph: Graph, targets: Iterable[fx.Node], known: set[fx.Node]) -> set[fx.Node]:
    """The maps that are computed for some targets when some are known."""
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
    """The number of rows of blocks: as many as cost little."""
    most = max(math.prod(map_size(graph.image)) // across // _LEAST_BLOCK_PIXELS, 1)
    drafts = (StreamingPlan(graph, kept, (down, across), 0, 0, 0) for down in range(1, most + 1))
    whole = _macs(next(drafts))
    return 1 + sum(1 for _ in itertools.takewhile(lambda draft: _macs(draft) <= _MOST_BLOCK_OVERHEAD * whole, drafts))


def _macs(plan: StreamingPlan) -> int:
    return sum(plan.sweep(number, block).macs() for number in range(plan.sweeps) for block in plan.blocks())


def _peak(plan: StreamingPlan, rows: int) -> int:
    """Bytes held at most while a block is computed."""
    step = rows / plan.size[0]
    # A block in the middle, no higher than it takes to come to a steady state.
    down = max(plan.parts[0], round(1 / (_STEADY_STEPS * step)), 1)
    draft = replace(plan, parts=(down, plan.parts[1]), rows=rows)
    block = (down // 2, plan.parts[1] // 2)
    return max(held_bytes(draft.sweep(number, block), step) for number in range(plan.sweeps))


def held_bytes(sweep: Sweep, step: float) -> int:
    """Bytes that a sweep holds at most, with what the layer at work reads and makes and what is read ahead."""
    graph = sweep.graph
    per_row = {node: map_shape(node)[0] * window.width * _BYTES_PER_VALUE for node, window in sweep.windows.items()}
    held: Mapping[fx.Node, list[int]] = {node: [window.row, window.row] for node, window in sweep.windows.items()}
    total = most = ahead = 0
    for event in sweep.events(step):
        rows = held[event.node]
        before = rows[1] - rows[0]
        if isinstance(event, FreeRows):
            rows[0] = min(max(rows[0], event.before), rows[1])
        else:
            rows[1] = event.rows.stop
            working = 2 * event.rows.length * per_row[event.node]
            if event.node in sweep.sources:
                ahead = max(ahead, _SOURCES_AHEAD * event.rows.length * per_row[event.node])
            else:
                layer = graph.layers[event.node]
                cols = layer.cols.input_interval(sweep.windows[event.node].cols)
                # Fewer columns than are held do not lie together: layers copy them.
                copied = [source for source in layer.inputs if cols != sweep.windows[source].cols]
                working += sum(layer.rows.input_interval(event.rows).length * per_row[source] for source in copied)
            most = max(most, total + working)
        total += (rows[1] - rows[0] - before) * per_row[event.node]
    return most + ahead
