"""How a network sees a rectangle of a scene: at its working size and some scale, perhaps mirrored, and padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from segscape.networks import SegmentationNetwork
from segscape.scenes.dry_run import dry_run
from segscape.segmentation.upsampling.argmax import Upsampling
from segscape.segmentation.upsampling.resizes import Resizes


class View(NamedTuple):
    """One of the scales and mirror images in which a network sees an image in multi-scale testing with flips.

    Attributes:
        scale: The factor by which the normalised image is resized, bilinearly, from its working size.
        mirrored: Whether left and right are exchanged.
    """

    scale: float = 1.0
    mirrored: bool = False


IDENTITY = (View(),)
"""The views of an image that is seen once, as it is."""


def views(scales: Sequence[float], *, flip: bool) -> tuple[View, ...]:
    """Return a view for every scale and, with `flip`, its mirror image.

    Raises:
        ValueError: A scale is not positive, or there are none.
    """
    if not scales or min(scales) <= 0:
        raise ValueError(f"Scales are positive numbers such as 0.75 or 1.5, not {list(scales)}.")
    return tuple(View(scale, mirrored) for scale in scales for mirrored in ((False, True) if flip else (False,)))


@dataclass(frozen=True)
class ViewGeometry:
    """The sizes of a rectangle in one view, from the pixels of the scene to the logits and back.

    Attributes:
        extent: (height, width) of the rectangle, in pixels of the scene.
        view: The view.
        working: (height, width) of the rectangle at its working size, to which `resize_smoothly` brings its pixels.
        size: (height, width) of the scaled rectangle.
        padded: (height, width) of the network's input.
        logits: (K, h, w), the shape of its logits.
        nbytes: The largest number of bytes of its maps held at a time, see `DryRun`.
        resizes: The resizes from those logits to the rectangle's pixels.
        align_corners: The network's convention, which the scaled rectangle follows too.
    """

    extent: tuple[int, int]
    view: View
    working: tuple[int, int]
    size: tuple[int, int]
    padded: tuple[int, int]
    logits: tuple[int, int, int]
    nbytes: int
    resizes: Resizes
    align_corners: bool

    @classmethod
    def of(
        cls,
        network: SegmentationNetwork,
        extent: tuple[int, int],
        view: View,
        *,
        working: tuple[int, int] | None = None,
    ) -> ViewGeometry:
        """Derive how `network` sees a rectangle of `extent`, whose working size is `extent` by default."""
        working = working or extent
        height, width = (max(int(side * view.scale), 1) for side in working)
        size = height, width
        padded = network.fitting_size(*size)
        logits, nbytes = dry_run(network, padded)
        convention = network.align_corners
        steps: tuple[Upsampling, ...]
        if size == working:
            # A single resize, which also undoes the one to the working size.
            straight = Upsampling.of_padded(
                logits[1:], padded=padded, image=size, size=extent, align_corners=convention
            )
            steps = (straight,)
        else:
            steps = Upsampling(logits[1:], padded, convention), Upsampling(size, extent, convention)
        resizes = Resizes(steps, extent, view.mirrored)
        return cls(extent, view, working, size, padded, logits, nbytes, resizes, convention)
