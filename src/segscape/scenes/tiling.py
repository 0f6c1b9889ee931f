"""The worker of a tiled scene, which runs the network on each tile as an image of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segscape.concurrency import BackgroundWriter, Prefetcher
from segscape.geometry.window import Window
from segscape.scenes.images import Images
from segscape.scenes.logits import Logits
from segscape.scenes.task import Sums, Task
from segscape.scenes.tiles import TilingPlan
from segscape.scenes.views import ViewGeometry

_MOST_BLOCK_PIXELS = 16 << 20


class TilingWorker:
    """A worker that runs one network over one scene, tile by tile, in one view.

    Args:
        runtime: Computes the logits, on the images' device.
        plan: The places of the tiles.
        batch: The number of tiles that are computed together.
        geometry: How the network sees a tile.
        images_of: Gives the network's input for a tile.
        logits: The file that the logits are written to.
    """

    def __init__(
        self,
        runtime: Callable[[Tensor], Tensor],
        plan: TilingPlan,
        *,
        batch: int,
        geometry: ViewGeometry,
        images_of: Callable[[Window], Images],
        logits: Logits,
    ) -> None:
        self._runtime, self._tiles, self._batch, self._geometry = runtime, plan.tiles, batch, geometry
        self._images_of, self._logits = images_of, logits
        pixels = geometry.padded[0] * geometry.padded[1]
        self._in_block = max(_MOST_BLOCK_PIXELS // (pixels * batch), 1) * batch

    def tasks(self) -> list[list[Task]]:
        """Return one task for each block of a few tiles, in a single sweep."""
        return [[Task(0, block) for block in range(-(-len(self._tiles) // self._in_block))]]

    def work(self, task: Task) -> float:
        """Return the work of a task, as a number of pixels through the network."""
        return len(self._numbers(task)) * self._geometry.padded[0] * self._geometry.padded[1]

    @torch.inference_mode()
    def run(self, task: Task, sums: Mapping[str, Sequence[float]], on_progress: Callable[[float], None]) -> Sums:
        """Do one task; see `segscape.scenes.task.Worker`."""
        numbers = self._numbers(task)
        batches = [numbers[first : first + self._batch] for first in range(0, len(numbers), self._batch)]
        with Prefetcher(self._images(batch) for batch in batches) as ready, BackgroundWriter() as writer:
            for done, (batch, images) in enumerate(zip(batches, ready, strict=True)):
                on_progress(done / len(batches))
                for number, logits in zip(batch, self._logits_of(images), strict=True):
                    writer(self._logits.write, number, Window(0, 0, *logits.shape[:2]), logits)
        return {}

    def _logits_of(self, images: Tensor) -> npt.NDArray[np.float32]:
        """Compute the logits (n, h, w, K) of some images."""
        return self._runtime(images).permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def _images(self, numbers: Sequence[int]) -> Tensor:
        """Read the network's input for some tiles, (n, 3, h, w)."""
        whole = Window(0, 0, *self._geometry.padded)
        return torch.cat([self._images_of(self._tiles[number]).read(whole) for number in numbers])

    def _numbers(self, task: Task) -> range:
        first = task.block * self._in_block
        return range(first, min(first + self._in_block, len(self._tiles)))
