"""Refinement of class maps by a network that refines the mask of one object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from segscape.choices import CLASS_BAND
from segscape.labels import IGNORE_INDEX

if TYPE_CHECKING:
    from segscape.refinement.refiner import Refiner

"""The default distance from a class's edge within which its mask is refined, in pixels; measured in docs/weights.md."""


def refine_classes(
    refiner: Refiner,
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    *,
    scores: npt.NDArray[np.float32] | Callable[[int], npt.NDArray[np.float32]] | None = None,
    ignore_index: int = IGNORE_INDEX,
    steps: int = 4,
    band: int | None = CLASS_BAND,
    on_progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.uint8]:
    """Refine each class of a class map in turn and give every pixel the class of the highest probability.

    Where several are equally high, a pixel keeps its class if it is one of them. A map of a single class stays as it
    is. Besides the refiner's own memory this takes some 10 bytes per pixel, whatever the number of classes.

    Args:
        refiner: Refines the masks.
        image: (H, W, 3) uint8, red, green, blue.
        labels: (H, W) uint8, class indices or `ignore_index`.
        scores: The coarse masks of the classes, (K, H, W) float32 from 0 to 1, or a function that gives one, (H, W),
            by its index; by default the pixels of the class in `labels`.
        ignore_index: Pixels of this label keep it.
        steps: See `Refiner.refine`.
        band: See `Refiner.refine`; narrow by default, because refiners expect objects and reject classes that fill a
            scene, such as sky or road, unless they are restricted to the class's edge.
        on_progress: Called with the work done so far and the total work, in arbitrary units.

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: The sizes differ.

    Examples:
        >>> import segscape
        >>> found = segscape.Segmenter.from_weights("scapenet_lite0.street").segment("photo.jpg")
        >>> refiner = segscape.Refiner.from_weights("crm_efficientnet_lite0.objects")
        >>> segscape.refine_classes(refiner, found.image, found.labels).shape
        (160, 240)
    """
    present = [index for index in np.flatnonzero(np.bincount(labels.ravel())).tolist() if index != ignore_index]
    refined = labels.copy()
    if len(present) < 2:
        return refined
    score_of = scores if scores is None or callable(scores) else scores.__getitem__
    best = np.zeros(labels.shape, np.float32)
    for number, index in enumerate(present):
        own = labels == index
        probability = refiner.refine(
            image,
            own if score_of is None else score_of(index),
            steps=steps,
            band=band,
            on_progress=on_progress and _part(on_progress, number, len(present)),
        ).probability
        refined[(probability > best) | (own & (probability == best))] = index
        np.maximum(best, probability, out=best)
    refined[labels == ignore_index] = ignore_index
    return refined


def _part(on_progress: Callable[[int, int], None], number: int, count: int) -> Callable[[int, int], None]:
    """Return a callback that reports the progress of one of `count` equally long parts as progress of the whole."""
    return lambda done, total: on_progress(number * total + done, count * total)
