"""Labels from several looks at one image, as in testing with scales and mirror images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segscape.inference.upsampling.argmax import Upsampling
from segscape.inference.upsampling.blocks import by_row_blocks
from segscape.rasters.window import Window


@dataclass(frozen=True)
class View:
    """What a network says of an image that it saw at some scale, perhaps mirrored.

    Attributes:
        scores: (K, h, w), logits or probabilities at the network's stride.
        steps: The resizes from there to the labels' size, one or more. Each begins with the result of the one before,
            or with its upper left part where the image was padded for the network.
        mirrored: Whether the image was seen with left and right exchanged. Its classes are already those of the image.
        held: Where the scores stand in the whole map; by default they are all of it.
    """

    scores: Tensor
    steps: tuple[Upsampling, ...]
    mirrored: bool = False
    held: Window | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W), the size of the labels."""
        return self.steps[-1].size

    def read(self, window: Window) -> Tensor:
        """The scores at the labels' size, of a rectangle: (K, window.height, window.width) float32."""
        if self.mirrored:
            window = window._replace(col=self.size[1] - window.stop_col)
        windows = [window]
        for step in reversed(self.steps[1:]):
            windows.append(step.reads(windows[-1]))
        scores, held = self.scores, self.held
        for step, wanted in zip(self.steps, reversed(windows), strict=True):
            scores, held = step.scores(scores, window=wanted, held=held), wanted
        return scores.flip(-1) if self.mirrored else scores


def mean_scores(views: Sequence[View], window: Window, *, softmax: bool = False) -> Tensor:
    """The mean of what several views say of a rectangle.

    Args:
        views: At least one; all lead to labels of the same size.
        window: Within the labels.
        softmax: Average the probabilities that each view's scores make at the labels' size, not the scores.

    Returns:
        (K, window.height, window.width) float32.
    """
    total: Tensor | None = None
    for view in views:
        scores = view.read(window).softmax(0) if softmax else view.read(window)
        total = scores if total is None else total.add_(scores)
    assert total is not None
    return total.div_(len(views))


def argmax_of_mean(views: Sequence[View], *, window: Window | None = None, softmax: bool = False) -> Tensor:
    """The class of the largest mean score at every pixel; only the scores of a few rows are held at a time.

    Args:
        views: See `mean_scores`.
        window: A rectangle of the labels, by default all of them.
        softmax: See `mean_scores`.

    Returns:
        (window.height, window.width) uint8, on the device of the scores.

    Raises:
        ValueError: There are no views, their labels differ in size, or see `Upsampling.argmax`.
    """
    if len({view.size for view in views}) != 1:
        raise ValueError(f"Give one or more views of labels of one size, not of {[view.size for view in views]}.")
    row, col, height, width = window or Window(0, 0, *views[0].size)

    def of_block(block: slice) -> Tensor:
        rows = Window(row + block.start, col, block.stop - block.start, width)
        return mean_scores(views, rows, softmax=softmax).max(dim=0).indices

    scores = views[0].scores
    # The sum, a view and what it is made from.
    with torch.inference_mode():
        return by_row_blocks(height, 4 * scores.shape[0] * width, of_block, device=scores.device)
