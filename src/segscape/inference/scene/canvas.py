"""What is made of a scene's logits: labels, and on demand how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from segscape.inference.scene.logits import Direct, Logits
from segscape.inference.scene.task import Sums, Task
from segscape.inference.scene.threads import Behind
from segscape.rasters.scratch import ScratchArray
from segscape.rasters.window import Window, windows

_BLOCK_PIXELS = 32 << 20
_STRIP = (512, 4096)
"""The pixels that are painted at a time."""
_WINDOW = (64, 512)
"""The pixels of which the scores of all classes are held at a time."""
_WORK = 0.02
"""What painting a pixel costs, where computing the logits of one costs 1."""


@dataclass(frozen=True)
class Canvas:
    """The arrays that a scene is painted on.

    Attributes:
        labels: (H, W) uint8.
        confidence: (H, W) uint8, 255 times the largest probability, where it is wanted.
        scores: (H, W, K) uint8, 255 times the probability of each class, where they are wanted.
    """

    labels: ScratchArray
    confidence: ScratchArray | None = None
    scores: ScratchArray | None = None


class Painter:
    """Makes labels from logits, block by block.

    Several looks are averaged as probabilities, each at the size of the scene; of a single one the logits decide.

    Args:
        looks: The logits of each look, complete.
        canvas: What to paint on.
        class_orders: For each look, for each class the place among its logits.
    """

    def __init__(self, looks: Sequence[Logits], canvas: Canvas, *, class_orders: Sequence[Sequence[int]]) -> None:
        self._looks, self._canvas, self._orders = looks, canvas, class_orders
        height, width = canvas.labels.size
        self._blocks = list(windows((height, width), (max(_BLOCK_PIXELS // width, 1), width)))

    def tasks(self) -> list[list[Task]]:
        """The blocks, in a single sweep."""
        return [[Task(0, block) for block in range(len(self._blocks))]]

    def work(self, task: Task) -> float:
        """How much work a task is, in pixels through the network."""
        block = self._blocks[task.block]
        return _WORK * block.height * block.width

    @torch.inference_mode()
    def run(self, task: Task, sums: Mapping[str, Sequence[float]], on_progress: Callable[[float], None]) -> Sums:
        """Do one task; see `segscape.inference.scene.task.Worker`."""
        block = self._blocks[task.block]
        with Behind() as behind:
            for part in windows(block.size, _STRIP):
                on_progress(part.row / block.height)
                self._paint(part._replace(row=block.row + part.row), behind)
        return {}

    def _paint(self, window: Window, behind: Behind) -> None:
        if len(self._looks) > 1:
            self._paint_scores(window, self._mean, behind)
            return
        (logits,), (order,) = self._looks, self._orders
        for cell in logits.cells(window):
            direct = None if self._canvas.scores is not None else logits.direct(cell)
            if direct is None:
                self._paint_scores(cell.window, lambda part: logits.scores(part)[list(order)], behind)
            else:
                self._paint_direct(cell.window, direct, behind)

    def _paint_direct(self, window: Window, direct: Direct, behind: Behind) -> None:
        """Paint without scores of all classes."""
        upsampling, values, inside, held = direct
        behind(self._canvas.labels.write, window, _array(upsampling.argmax(values, window=inside, held=held)))
        if self._canvas.confidence is not None:
            sure = upsampling.confidence(values, window=inside, held=held)
            behind(self._canvas.confidence.write, window, _array(sure))

    def _paint_scores(self, window: Window, scores_of: Callable[[Window], Tensor], behind: Behind) -> None:
        """Paint what scores say, logits or, of several looks, probabilities; those of a few rows are held at a time."""
        canvas = self._canvas
        for part in windows(window.size, _WINDOW):
            place = part._replace(row=window.row + part.row, col=window.col + part.col)
            scores = scores_of(place)
            behind(canvas.labels.write, place, _array(scores.argmax(0).byte()))
            if canvas.confidence is None and canvas.scores is None:
                continue
            probabilities = scores if len(self._looks) > 1 else scores.softmax(0)
            shares = probabilities.mul(255).round_().byte()
            if canvas.confidence is not None:
                behind(canvas.confidence.write, place, _array(shares.amax(0)))
            if canvas.scores is not None:
                behind(canvas.scores.write, place, _array(shares.permute(1, 2, 0).contiguous()))

    def _mean(self, window: Window) -> Tensor:
        """The mean probabilities of all looks at a window, (K, h, w)."""
        parts = (
            logits.scores(window).softmax(0)[list(order)]
            for logits, order in zip(self._looks, self._orders, strict=True)
        )
        total = next(parts)
        for part in parts:
            total += part
        return total / len(self._looks)


def _array(values: Tensor) -> npt.NDArray[Any]:
    return values.cpu().numpy()
