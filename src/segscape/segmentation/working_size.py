"""The size at which a network sees an image: photographs by their shorter side, scenes by their ground resolution."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

from segscape.checkpoints.card import WeightsCard
from segscape.rasters.resize import working_size_of
from segscape.rasters.source import Source
from segscape.rasters.suffixes import PHOTO_SUFFIXES

WorkingSize = int | Literal["card"] | None
"""The shorter side of photographs, in pixels; `"card"` for what the weights' card states, for photographs as a working
size and for scenes as a working resolution; or None for every image at its own size."""

_NEARLY = 1.01
"""Ground resolutions that differ by a smaller factor count as equal: rounding and projection make them inexact."""


class Sight(NamedTuple):
    """The size at which an image is seen.

    Attributes:
        size: (height, width), in pixels.
        reason: The size and the reason for it, in words.
    """

    size: tuple[int, int]
    reason: str


def with_working_size(card: WeightsCard, working_size: WorkingSize) -> WeightsCard:
    """Return the card with the requested working size in place of its own.

    Raises:
        ValueError: The size is not a positive integer.
    """
    if working_size == "card":
        return card
    if working_size is None:
        return dataclasses.replace(card, working_size=None, working_resolution=None)
    if not isinstance(working_size, int) or working_size < 1:
        raise ValueError(
            f'A working size is a whole number of pixels from 1 on, "card", or None for the image\'s own size; it '
            f"cannot be {working_size!r}."
        )
    return dataclasses.replace(card, working_size=working_size)


def photograph_sight(card: WeightsCard, size: tuple[int, int]) -> Sight:
    """Return the size at which a photograph or a frame is seen.

    Args:
        card: The network's card; its working size is used.
        size: (height, width) of the photograph, in pixels.
    """
    if card.working_size is None:
        return Sight(size, "its own size, no working size being set")
    seen = working_size_of(size, card.working_size)
    side = f"a shorter side of {card.working_size} pixels"
    if min(seen) == card.working_size:
        return Sight(seen, f"the working size, {side}")
    return Sight(seen, f"the nearest to {side} that so long an image is enlarged to")


def sight_of(card: WeightsCard, source: Source) -> Sight:
    """Return the size at which an image is seen.

    A photograph is recognised by its suffix. A scene whose ground resolution is known and finer or coarser than those
    on which the network was trained is seen at the nearest of them.

    Args:
        card: The network's card; its working size and working resolution are used.
        source: The image.
    """
    size = source.size
    if source.path.suffix.lower() in PHOTO_SUFFIXES:
        return photograph_sight(card, size)
    if card.working_resolution is None:
        return Sight(size, "its own size, no working resolution being set")
    own = source.resolution
    if own is None:
        return Sight(size, "its own size, for its ground resolution is not known")
    finest, coarsest = card.working_resolution
    trained = f"{finest:g} to {coarsest:g} m a pixel that the network was trained on"
    wanted = min(max(own, finest), coarsest)
    if 1 / _NEARLY < own / wanted < _NEARLY:
        return Sight(size, f"its own size, whose {own:.3g} m a pixel are within the {trained}")
    height, width = (max(round(side * own / wanted), 1) for side in size)
    return Sight((height, width), f"{wanted:g} m a pixel instead of its own {own:.3g}, the nearest of the {trained}")
