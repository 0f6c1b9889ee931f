"""The worker of a streamed scene: it computes a block in one sweep, writes logits and kept maps, and sums up means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, fx

from segscape.concurrency import BackgroundWriter, Prefetcher
from segscape.geometry.window import Patch, Window
from segscape.rasters.scratch import ScratchArray
from segscape.scenes.images import Images
from segscape.scenes.logits import Logits
from segscape.scenes.streaming.graph import Mean
from segscape.scenes.streaming.layer import Convolution, map_shape, map_size
from segscape.scenes.streaming.plan import StreamingPlan
from segscape.scenes.streaming.sweep import Sweep
from segscape.scenes.task import Sums, Task

_Consumer = Callable[[Patch], None]


class StreamingWorker:
    """The worker that runs one network over one scene in one view.

    Args:
        plan: The plan by which the scene is streamed.
        images: The input of the network.
        logits: The file to which the logits are written.
        path: The path of the files of the kept maps, without their suffix.
        device: Where to compute.
        convolutions: Functions for some of the network's convolutions, by their names; PyTorch computes all others.

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
        self._means = {node.name: mean for node, mean in plan.graph.means.items()}

    def tasks(self) -> list[list[Task]]:
        """Return the tasks of each sweep; those of one sweep may be done in any order, before any of the next."""
        blocks = range(len(self._plan.blocks()))
        return [[Task(sweep, block) for block in blocks] for sweep in range(self._plan.sweeps)]

    def work(self, task: Task) -> float:
        """Return the work of a task, in pixels through the network."""
        return self._sweep(task).macs() / self._plan.macs_per_pixel

    @torch.inference_mode()
    def run(self, task: Task, sums: Mapping[str, Sequence[float]], on_progress: Callable[[float], None]) -> Sums:
        """Do one task; see `segscape.scenes.task.Worker`."""
        sweep = self._sweep(task)
        gathered: dict[str, Tensor] = {}
        means = {
            self._means[name].node: self._means[name].value(total).to(self._device, self._plan.graph.dtype)
            for name, total in sums.items()
        }
        values = self._plan.graph.completed({**self._convolutions, **means})
        reads = list(sweep.reads(self._plan.step))
        numbers = iter(range(len(reads)))

        def read(node: fx.Node) -> Tensor:
            on_progress(next(numbers) / len(reads))
            given, values = next(ready)
            assert given is node, "sources are read in another order than they were announced"
            return values

        with (
            Prefetcher((node, self._read(node, window)) for node, window in reads) as ready,
            BackgroundWriter() as writer,
        ):
            sweep.run(self._plan.step, values, read, self._consumers(task, gathered, writer))
        return {name: total.flatten().tolist() for name, total in gathered.items()}

    def _sweep(self, task: Task) -> Sweep:
        return self._plan.sweep(task.sweep, self._plan.blocks()[task.block])

    def _consumers(
        self, task: Task, gathered: dict[str, Tensor], writer: BackgroundWriter
    ) -> dict[fx.Node, list[_Consumer]]:
        """Return the consumers of each map's rows."""
        plan = self._plan
        block = plan.blocks()[task.block]
        consumers: dict[fx.Node, list[_Consumer]] = defaultdict(list)
        for mean in plan.means(task.sweep):
            consumers[mean.source].append(_Adder(plan.own(block, map_size(mean.source)), mean, gathered))
        for node in plan.written(task.sweep):
            consumers[node].append(_Writer(plan.own(block, map_size(node)), self._kept[node].write, writer))
        if task.sweep == plan.graph.reductions:
            own = plan.own(block, map_size(plan.graph.output))
            consumers[plan.graph.output].append(_Writer(own, partial(self._logits.write, 0), writer))
        return consumers

    def _read(self, node: fx.Node, window: Window) -> Tensor:
        """Read a part of the normalised image or of a kept map, (1, C, h, w)."""
        if node is self._plan.graph.image:
            return self._images.read(window)
        values = self._kept[node].read(window)
        return torch.from_numpy(values).to(self._device).permute(2, 0, 1)[None]


class _Adder:
    """A consumer that adds a block's own part of a map, without its halo, to the sums of a mean."""

    def __init__(self, own: Window, mean: Mean, sums: dict[str, Tensor]) -> None:
        self._own, self._mean, self._sums = own, mean, sums

    def __call__(self, patch: Patch) -> None:
        part = _own_part(patch, self._own)
        if part is not None:
            name, total = self._mean.node.name, self._mean.sums(part)
            self._sums[name] = self._sums[name] + total if name in self._sums else total


class _Writer:
    """A consumer that writes a block's own part of a map, without its halo."""

    def __init__(
        self, own: Window, write: Callable[[Window, npt.NDArray[Any]], None], writer: BackgroundWriter
    ) -> None:
        self._own, self._write, self._writer = own, write, writer

    def __call__(self, patch: Patch) -> None:
        part = _own_part(patch, self._own)
        if part is not None:
            values = part.values[0].permute(1, 2, 0).contiguous().cpu().numpy()
            self._writer(self._write, part.window, values)


def _own_part(patch: Patch, own: Window) -> Patch | None:
    window = patch.window.intersection(own)
    return patch.cut(window) if window.height and window.width else None


def _array(path: Path, node: fx.Node) -> ScratchArray:
    channels, height, width = map_shape(node)
    return ScratchArray(path.with_name(f"{path.name}.{node.name}"), (height, width, channels), "float32")
