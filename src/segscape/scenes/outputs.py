"""From the logits of a scene to its labels and, on demand, their confidence and the probability of each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segscape.concurrency import BackgroundWriter
from segscape.geometry.window import Window, windows
from segscape.rasters.scratch import ScratchArray
from segscape.scenes.logits import Logits
from segscape.scenes.task import Sums, Task
from segscape.segmentation.upsampling.argmax import load_kernels

_MOST_BLOCK_PIXELS = 32 << 20
_STRIP_SIZE = (2048, 4096)
_STRIP_SIZE_WITH_SCORES = (64, 2048)
"""(height, width) of the strips that are filled before they are written, without and with the scores of all classes."""
_MOST_SCORED_PIXELS = 64 * 512
_MOST_SCORED_WIDTH = 512
"""The number of pixels, and of columns, of which the scores of all classes are held at a time."""
_WORK_PER_PIXEL = 0.02
"""The cost of writing a pixel, relative to computing its logits."""


@dataclass(frozen=True)
class OutputArrays:
    """The arrays that the results of a scene are written to.

    Attributes:
        labels: (H, W) uint8.
        confidence: (H, W) uint8, 255 times the largest probability; None if it is not wanted.
        scores: (H, W, K) uint8, 255 times the probability of each class; None if they are not wanted.
    """

    labels: ScratchArray
    confidence: ScratchArray | None = None
    scores: ScratchArray | None = None


class LabelWriter:
    """A worker that computes labels from logits, block by block.

    Of several views the probabilities are averaged, each at the size of the scene; of a single one the logits decide.

    Args:
        views: The logits of each view, complete.
        arrays: The arrays to write to.
    """

    def __init__(self, views: Sequence[Logits], arrays: OutputArrays) -> None:
        self._views, self._arrays = views, arrays
        # Loaded while the network runs, as labels are computed only when all logits are there.
        Thread(target=load_kernels, daemon=True).start()
        height, width = arrays.labels.size
        self._blocks = list(windows((height, width), (max(_MOST_BLOCK_PIXELS // width, 1), width)))

    def tasks(self) -> list[list[Task]]:
        """Return one task for each block, in a single sweep."""
        return [[Task(0, block) for block in range(len(self._blocks))]]

    def work(self, task: Task) -> float:
        """Return the work of a task, as a number of pixels through the network."""
        block = self._blocks[task.block]
        return _WORK_PER_PIXEL * block.height * block.width

    @torch.inference_mode()
    def run(self, task: Task, sums: Mapping[str, Sequence[float]], on_progress: Callable[[float], None]) -> Sums:
        """Do one task; see `segscape.scenes.task.Worker`."""
        block = self._blocks[task.block]
        step = _STRIP_SIZE if self._arrays.scores is None else _STRIP_SIZE_WITH_SCORES
        # Leaving the writer waits for it: a task counts as done only when all its values are in the files.
        with BackgroundWriter() as writer:
            for part in windows(block.size, step):
                on_progress(part.row / block.height)
                strip = _OutputStrip.of(self._arrays, part.shifted(block.row, 0), self._views[0].classes)
                self._write_labels(strip)
                strip.write(self._arrays, writer)
        return {}

    def _write_labels(self, strip: _OutputStrip) -> None:
        if len(self._views) > 1:
            self._write_scores(strip, strip.window, self._mean)
            return
        (logits,) = self._views
        for blend in logits.blends(strip.window):
            direct = None if strip.scores is not None else logits.direct(blend)
            if direct is None:
                self._write_scores(strip, blend.window, logits.scores)
                continue
            # One resize of one tile: the kernels compute these without the scores of all classes at every pixel.
            upsampling, values, inside, held = direct
            at = strip.at(blend.window)
            strip.labels[at] = _array(upsampling.argmax(values, window=inside, held=held))
            if strip.confidence is not None:
                strip.confidence[at] = _array(upsampling.confidence(values, window=inside, held=held))

    def _write_scores(self, strip: _OutputStrip, window: Window, scores_of: Callable[[Window], Tensor]) -> None:
        """Fill a window from scores: logits or, of several views, probabilities; of few pixels at a time."""
        # Windows narrower than the bound get more rows, so that as many pixels are computed together.
        width = min(window.width, _MOST_SCORED_WIDTH)
        for part in windows(window.size, (_MOST_SCORED_PIXELS // width, width)):
            place = part.shifted(window.row, window.col)
            scores, at = scores_of(place), strip.at(place)
            strip.labels[at] = _array(scores.argmax(0))
            if strip.confidence is None and strip.scores is None:
                continue
            probabilities = scores if len(self._views) > 1 else scores.softmax(0)
            shares = probabilities.mul(255).round_().byte()
            if strip.confidence is not None:
                strip.confidence[at] = _array(shares.amax(0))
            if strip.scores is not None:
                strip.scores[at] = _array(shares.permute(1, 2, 0))

    def _mean(self, window: Window) -> Tensor:
        """Compute the mean probabilities of all views in a window, (K, h, w)."""
        parts = (logits.scores(window).softmax(0) for logits in self._views)
        total = next(parts)
        for part in parts:
            total += part
        return total / len(self._views)


class _OutputStrip(NamedTuple):
    """The values of a window of the scene, filled part by part and written at once."""

    window: Window
    labels: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None
    scores: npt.NDArray[np.uint8] | None

    @classmethod
    def of(cls, arrays: OutputArrays, window: Window, classes: int) -> _OutputStrip:
        return cls(
            window,
            np.empty(window.size, np.uint8),
            None if arrays.confidence is None else np.empty(window.size, np.uint8),
            None if arrays.scores is None else np.empty((*window.size, classes), np.uint8),
        )

    def at(self, window: Window) -> tuple[slice, slice]:
        """Return the slices of a window of the scene in these arrays."""
        return window.relative_to(self.window).slices

    def write(self, arrays: OutputArrays, writer: BackgroundWriter) -> None:
        for array, values in (
            (arrays.labels, self.labels),
            (arrays.confidence, self.confidence),
            (arrays.scores, self.scores),
        ):
            if array is not None and values is not None:
                writer(array.write, self.window, values)


def _array(values: Tensor) -> npt.NDArray[Any]:
    return values.cpu().numpy()
