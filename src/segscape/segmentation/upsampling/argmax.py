"""The class of the largest logit at every pixel, and its probability, from logits at the network's stride."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from types import ModuleType

import torch
from torch import Tensor

from segscape.geometry.interval import Interval
from segscape.geometry.resample import Interpolation, interpolation, resample_map
from segscape.geometry.window import Window
from segscape.segmentation.upsampling import blocks

# The most classes that labels of eight bits distinguish.
_MAX_CLASSES = 256

# The most pixels of a process's first map that is computed without the compiled loops.
_SMALL = 3_000_000

# Counts the maps of labels of this process.
_maps = count()


def upsample_argmax(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Compute the class of the largest logit at every pixel, the logits resized bilinearly.

    Equal to `F.interpolate(logits, size, mode="bilinear", align_corners=align_corners).argmax(1)`, except for pixels
    whose two best logits are equal up to rounding. The size may be any, a smaller one too. Positions are PyTorch's, in
    float32: within 0.003 pixels of the exact ones in images of 30,000 pixels.

    Args:
        logits: (K, h, w), floating point, K at most 256, of any strides; channels-last ones are not copied.
        size: (H, W), the size of the labels.
        align_corners: The network's convention.

    Returns:
        (H, W) uint8, on the logits' device.

    Raises:
        ValueError: There are more than 256 classes, or no pixels.
    """
    return Upsampling((logits.shape[1], logits.shape[2]), size, align_corners).argmax(logits)


def load_kernels() -> None:
    """Load the compiled loops for CPUs, which takes up to a second; a thread can do so while the network runs."""
    next(_maps)
    upsample_argmax(torch.zeros(2, 2, 2), (4, 4), align_corners=False)


@dataclass(frozen=True)
class Upsampling:
    """The bilinear resize of a whole map of logits, any rectangle of which can be computed by itself.

    On one device a pixel's label and its scores depend neither on the rectangle nor on the part of the logits that they
    are computed from, to the bit.

    Attributes:
        source: (h, w), the size of the whole map of logits.
        size: (H, W), the size of the labels.
        align_corners: The network's convention.
        share: The shares of the map's rows and columns that the labels show, from the upper left; the rest belongs to
            padding. With `align_corners` measured between the centres of the outermost pixels.

    Raises:
        ValueError: A size has no pixels.

    Examples:
        >>> import torch
        >>> logits = torch.randn(19, 64, 128)
        >>> upsampling = Upsampling((64, 128), (512, 1024), align_corners=False)
        >>> window = Window(row=256, col=0, height=100, width=1024)
        >>> held = upsampling.reads(window)
        >>> held.row, held.height
        (31, 14)
        >>> strip = logits[:, held.row : held.row + held.height]
        >>> upsampling.argmax(strip, window=window, held=held).shape
        torch.Size([100, 1024])
    """

    source: tuple[int, int]
    size: tuple[int, int]
    align_corners: bool
    share: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of_padded(
        cls,
        source: tuple[int, int],
        *,
        padded: tuple[int, int],
        image: tuple[int, int],
        size: tuple[int, int],
        align_corners: bool,
    ) -> Upsampling:
        """Return the direct resize from the logits of a padded image to labels of any size, without the padding.

        Args:
            source: See the class.
            padded: (height, width) of the network's input, in pixels.
            image: (height, width) of the image in its upper left part.
            size: See the class.
            align_corners: See the class.
        """
        gaps = int(align_corners)
        rows, cols = ((inner - gaps) / max(outer - gaps, 1) for inner, outer in zip(image, padded, strict=True))
        return cls(source, size, align_corners, (rows, cols))

    def __post_init__(self) -> None:
        if min(*self.source, *self.size) < 1:
            raise ValueError(
                f"A map of {_by(self.source)} cannot be resized to {_by(self.size)}: every side needs a pixel."
            )

    def reads(self, window: Window) -> Window:
        """Return the part of the logits from which a rectangle of the labels is computed.

        Args:
            window: The rectangle, within the labels.

        Raises:
            ValueError: The rectangle is empty or leaves the labels.
        """
        rows, cols = self._interpolations(window)
        return Window.of(rows.source, cols.source)

    def argmax(self, logits: Tensor, *, window: Window | None = None, held: Window | None = None) -> Tensor:
        """Compute the class of the largest logit at every pixel of a rectangle of the labels, see `upsample_argmax`.

        Args:
            logits: (K, held.height, held.width), floating point, K at most 256.
            window: The rectangle; by default all labels.
            held: Where these logits stand in the whole map; by default they are all of it.

        Returns:
            (window.height, window.width) uint8, on the logits' device.

        Raises:
            ValueError: There are more than 256 classes, the logits are not of the size of `held`, or the rectangle is
                empty, leaves the labels or needs logits outside `held`.
        """
        rows, cols = self._held_interpolations(logits, window, held)
        is_one_alone = next(_maps) == 0 and len(rows.low) * len(cols.low) <= _SMALL
        # Both compute the same to the bit; loading the compiled loops takes longer than they save on a single image.
        kernels = blocks if is_one_alone and logits.device.type == "cpu" else _kernels(logits)
        return kernels.argmax(logits.detach(), rows, cols)

    def confidence(self, logits: Tensor, *, window: Window | None = None, held: Window | None = None) -> Tensor:
        """Compute the largest softmax probability of the resized logits at every pixel of a rectangle of the labels.

        Args:
            logits: See `argmax`.
            window: See `argmax`.
            held: See `argmax`.

        Returns:
            (window.height, window.width) uint8, 255 times the probability, rounded; on the logits' device.

        Raises:
            ValueError: See `argmax`.
        """
        rows, cols = self._held_interpolations(logits, window, held)
        return _kernels(logits).confidence(logits.detach(), rows, cols)

    def scores(self, maps: Tensor, *, window: Window | None = None, held: Window | None = None) -> Tensor:
        """Compute a rectangle of the resized maps themselves.

        Args:
            maps: (K, held.height, held.width), floating point.
            window: See `argmax`.
            held: See `argmax`.

        Returns:
            (K, window.height, window.width) float32, on the maps' device.

        Raises:
            ValueError: See `argmax`.
        """
        return resample_map(maps, *self._held_interpolations(maps, window, held))

    def _interpolations(self, window: Window) -> tuple[Interpolation, Interpolation]:
        """Return the interpolations of a rectangle's rows and columns."""
        window.check_inside(self.size)
        rows, cols = (
            _interpolation(wanted, size, source, self.align_corners, share)
            for wanted, size, source, share in zip(
                (window.rows, window.cols), self.size, self.source, self.share, strict=True
            )
        )
        return rows, cols

    def _held_interpolations(
        self, maps: Tensor, window: Window | None, held: Window | None
    ) -> tuple[Interpolation, Interpolation]:
        """Return the interpolations of a rectangle's rows and columns, with source positions counted within `held`."""
        window, held = window or Window.whole(self.size), held or Window.whole(self.source)
        if maps.shape[0] > _MAX_CLASSES:
            raise ValueError(f"Labels have eight bits and tell {_MAX_CLASSES} classes apart, not {maps.shape[0]}.")
        if maps.shape[1:] != held.size:
            raise ValueError(f"The logits are of {_by(tuple(maps.shape[1:]))}, but {held!r} is said to be held.")
        needed = self.reads(window)
        if needed.intersection(held) != needed:
            raise ValueError(f"For {window!r} of the labels give {needed!r} of the logits; only {held!r} is held.")
        rows, cols = self._interpolations(window)
        return rows.relative_to(held.rows), cols.relative_to(held.cols)


@lru_cache(maxsize=64)
def _interpolation(wanted: Interval, size: int, source: int, align_corners: bool, share: float) -> Interpolation:
    """Return the interpolation of an axis; cached, as the tiles of a scene need the same ones again and again."""
    return interpolation(wanted, size, source, torch.float32, align_corners=align_corners, share=share)


def _kernels(logits: Tensor) -> ModuleType:
    """Return the fastest module for the logits' device; each has the functions `argmax` and `confidence`."""
    # Imported where they are used: compilers take a while to load.
    if logits.device.type == "cpu":
        from segscape.segmentation.upsampling import cells

        return cells
    if logits.is_cuda and importlib.util.find_spec("triton") is not None:
        from segscape.segmentation.upsampling import pixels_triton

        return pixels_triton
    return blocks


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
