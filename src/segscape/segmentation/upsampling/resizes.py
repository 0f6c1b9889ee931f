"""The resizes from logits to the pixels of an image that was seen at some scale, padded or mirrored."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from segscape.geometry.window import Window
from segscape.segmentation.upsampling.argmax import Upsampling


@dataclass(frozen=True)
class Resizes:
    """The resizes that turn the logits of an image into its pixels' scores.

    Attributes:
        steps: One or more resizes. Each is applied to the result of the one before, or to its upper left part where the
            image was padded for the network.
        size: (height, width) of the image, which is the result of the last step or its upper left part.
        mirrored: Whether the image was mirrored, with left and right exchanged.
    """

    steps: tuple[Upsampling, ...]
    size: tuple[int, int]
    mirrored: bool = False

    def reads(self, window: Window) -> Window:
        """Return the part of the logits from which a rectangle of the pixels is computed."""
        return self.steps[0].reads(self._windows(window)[0])

    def scores(self, logits: Tensor, *, window: Window, held: Window) -> Tensor:
        """Compute the scores of a rectangle's pixels.

        Args:
            logits: (K, held.height, held.width).
            window: The rectangle, within the image.
            held: Where these logits stand in the whole map.

        Returns:
            (K, window.height, window.width) float32.

        Raises:
            ValueError: See `Upsampling.argmax`.
        """
        scores = logits
        for step, wanted in zip(self.steps, self._windows(window), strict=True):
            scores, held = step.scores(scores, window=wanted, held=held), wanted
        return scores.flip(-1) if self.mirrored else scores

    def _windows(self, window: Window) -> list[Window]:
        """Return the window that each step has to compute."""
        if self.mirrored:
            window = window._replace(col=self.size[1] - window.stop_col)
        windows = [window]
        for step in reversed(self.steps[1:]):
            windows.append(step.reads(windows[-1]))
        return windows[::-1]
