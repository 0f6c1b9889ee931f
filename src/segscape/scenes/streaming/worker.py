"""Does the tasks of a streamed scene: computes a block in one sweep, writes logits and kept maps, adds up for means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, fx

from segscape.concurrency import Ahead, Behind
from segscape.geometry.interval import Patch, Span
from segscape.geometry.window import Window
from segscape.rasters.scratch import ScratchArray
from segscape.scenes.images import Images
from segscape.scenes.logits import Logits
from segscape.scenes.streaming.layers import Convolution, map_shape
from segscape.scenes.streaming.plan import StreamingPlan
from segscape.scenes.streaming.sweep import Area, Sweep
from segscape.scenes.task import Sums, Task

_Taker = Callable[[Patch], None]


class StreamingWorker:
    """Runs one network over one scene in one look.

    Args:
        plan: How.
        images: What the network is given.
        logits: Where what it says goes.
        path: Of the files of the kept maps, without their suffix.
        device: Where to compute.
        convolutions: What computes some of the network's convolutions, by their names; PyTorch computes all others.

    Raises:
        OSError: The disk has no room for the files.
    """

    def __init__(
        self,
        plan: StreamingPlan,
        *,
        images: Images,
        logits: Logits,
        path: Path,
        device: torch.device,
        convolutions: Mapping[str, Convolution],
    ) -> None:
        self._plan, self._images, self._logits, self._device = plan, images, logits, device
        self._kept = {node: _array(path, node) for node in plan.kept}
        self._convolutions = plan.graph.convolved_by(convolutions)
        self._means = {mean.name: (source, mean) for source, mean in plan.graph.means.items()}

    def tasks(self) -> list[list[Task]]:
        """The tasks of each sweep; those of one may be done in any order, before any of the next."""
        blocks = range(len(self._plan.blocks()))
        return [[Task(sweep, block) for block in blocks] for sweep in range(self._plan.sweeps)]

    def work(self, task: Task) -> float:
        """How much work a task is, in pixels through the network."""
        return self._sweep(task).macs() / self._plan.macs_per_pixel

    @torch.inference_mode()
    def run(self, task: Task, sums: Mapping[str, Sequence[float]], on_progress: Callable[[float], None]) -> Sums:
        """Do one task; see `segscape.scenes.task.Worker`."""
        sweep = self._sweep(task)
        gathered: dict[str, Tensor] = {}
        means = dict(self._mean(*item) for item in sums.items())
        values = self._plan.graph.completed({**self._convolutions, **means})
        reads = list(sweep.reads(self._plan.step))
        numbers = iter(range(len(reads)))

        def read(node: fx.Node) -> Tensor:
            on_progress(next(numbers) / len(reads))
            given, values = next(ready)
            assert given is node, "sources are read in another order than they were announced"
            return values

        with Ahead((node, self._read(node, area)) for node, area in reads) as ready, Behind() as behind:
            sweep.run(self._plan.step, values, read, self._takers(task, gathered, behind))
        return {name: total.tolist() for name, total in gathered.items()}

    def _sweep(self, task: Task) -> Sweep:
        return self._plan.sweep(task.sweep, self._plan.blocks()[task.block])

    def _mean(self, name: str, total: Sequence[float]) -> tuple[fx.Node, Tensor]:
        source, mean = self._means[name]
        _, height, width = map_shape(source)
        vector = torch.tensor(total, dtype=torch.float64) / (height * width)
        return mean, vector.to(self._device, self._plan.graph.dtype).reshape(1, -1, 1, 1)

    def _takers(self, task: Task, gathered: dict[str, Tensor], behind: Behind) -> dict[fx.Node, list[_Taker]]:
        """Who is given the rows of which map."""
        plan = self._plan
        block = plan.blocks()[task.block]
        takers: dict[fx.Node, list[_Taker]] = defaultdict(list)
        for source, mean in plan.means(task.sweep).items():
            takers[source].append(_Adder(plan.own(block, map_shape(source)[1:]), mean.name, gathered))
        for node in plan.written(task.sweep):
            takers[node].append(_Keeper(plan.own(block, map_shape(node)[1:]), self._kept[node].write, behind))
        if task.sweep == plan.graph.rounds:
            own = plan.own(block, map_shape(plan.graph.output)[1:])
            takers[plan.graph.output].append(_Keeper(own, partial(self._logits.write, 0), behind))
        return takers

    def _read(self, node: fx.Node, area: Area) -> Tensor:
        """A part of the image, normalised, or of a kept map."""
        if node is self._plan.graph.image:
            return self._images.read(_window(area))
        values = self._kept[node].read(_window(area))
        return torch.from_numpy(values).to(self._device).permute(2, 0, 1)[None]


class _Adder:
    """Adds up a map's own rows of a block, channel by channel."""

    def __init__(self, own: Area, name: str, sums: dict[str, Tensor]) -> None:
        self._own, self._name, self._sums = own, name, sums

    def __call__(self, patch: Patch) -> None:
        part = _own_part(patch, self._own)
        if part is not None:
            total = part.values.sum((0, 2, 3), dtype=torch.float64)
            self._sums[self._name] = self._sums[self._name] + total if self._name in self._sums else total


class _Keeper:
    """Writes a map's own rows of a block."""

    def __init__(self, own: Area, write: Callable[[Window, npt.NDArray[Any]], None], behind: Behind) -> None:
        self._own, self._write, self._behind = own, write, behind

    def __call__(self, patch: Patch) -> None:
        part = _own_part(patch, self._own)
        if part is not None:
            values = part.values[0].permute(1, 2, 0).contiguous().cpu().numpy()
            self._behind(self._write, _window(Area(part.rows, part.cols)), values)


def _own_part(patch: Patch, own: Area) -> Patch | None:
    start, stop = max(patch.rows.start, own.rows.start), min(patch.rows.stop, own.rows.stop)
    return patch.cut(Span(start, stop, own.rows.total), own.cols) if start < stop else None


def _array(path: Path, node: fx.Node) -> ScratchArray:
    channels, height, width = map_shape(node)
    return ScratchArray(path.with_name(f"{path.name}.{node.name}"), (height, width, channels), "float32")


def _window(area: Area) -> Window:
    return Window(area.rows.start, area.cols.start, area.rows.length, area.cols.length)
