"""The size at which a network sees images, in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from segscape.rasters.source import open_source
from segscape.scenes.scene import SceneSettings
from segscape.segmentation.segmenter import Segmenter
from segscape.segmentation.working_size import sight_of


def print_sizes(
    segmenter: Segmenter, views: Iterable[Path], scenes: Sequence[Path], settings: SceneSettings, console: Console
) -> None:
    """Print the size at which images will be seen, once for all that are alike; nothing if the card sets none.

    Args:
        segmenter: Its card sets the size.
        views: Photographs and videos.
        scenes: All other rasters; those that cannot be read are skipped, as their segmentation reports the error.
        settings: How they are read.
        console: Where to print.
    """
    card = segmenter.card
    alike: dict[str, list[str]] = defaultdict(list)
    if card.working_size is not None:
        for path in views:
            alike[f"the working size, a shorter side of {card.working_size} pixels"].append(path.name)
    if card.working_resolution is not None:
        for path in scenes:
            try:
                with open_source(
                    path, bands=settings.bands, scaling=settings.scaling, nodata=settings.nodata
                ) as source:
                    alike[sight_of(card, source).reason].append(path.name)
            except (ValueError, OSError):
                continue
    for reason, names in alike.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        console.print(f"{names[0]}{others}: seen at {reason}")
