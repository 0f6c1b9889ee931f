"""What is refused before a scene is planned or computed."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from segscape.rasters.georeference import Georeference
from segscape.runtime.base import Runtime
from segscape.scenes.files import SceneFiles
from segscape.scenes.views import IDENTITY, View


def check_runtime(
    runtime: Runtime, image: Path, *, size: tuple[int, int], seen: tuple[int, int], views: Sequence[View]
) -> None:
    """Refuse images and views that an exported network cannot process.

    Args:
        runtime: Runs the network.
        image: The file, for the message.
        size: (height, width) of the image, in pixels.
        seen: (height, width) at which the network sees it.
        views: The views in which the network sees it.

    Raises:
        ValueError: The network gives labels, of which no scene can be put together, or it takes only one size, and the
            views have others or the image is smaller.
    """
    if runtime.gives_labels:
        raise ValueError(
            f"{image} is put together from logits, and this exported network gives labels; export it without --labels."
        )
    if runtime.size is None:
        return
    only = "{} x {}".format(*runtime.size)
    if tuple(views) != IDENTITY:
        raise ValueError(f"This exported network takes nothing but {only} pixels; export it with --size dynamic.")
    if any(side < least for side, least in zip(seen, runtime.size, strict=True)):
        as_seen = "" if seen == size else ", as it is to be seen,"
        raise ValueError(
            f"{image}{as_seen} is smaller than the {only} pixels (height x width) that this exported network takes; "
            "export it with --size dynamic."
        )


def check_room(files: SceneFiles, folder: Path, *, size: tuple[int, int], num_classes: int, storage: int = 0) -> None:
    """Refuse a scene for which the disk has no room.

    Args:
        files: The files to write.
        folder: The folder of the unfinished results, which need not exist yet.
        size: (height, width) of the image, in pixels.
        num_classes: The number of classes.
        storage: The bytes of intermediate files that are needed beside the results.

    Raises:
        OSError: The results take more than is free.
    """
    results = 1 + (files.confidence is not None) + num_classes * (files.scores is not None)
    needed, free = storage + results * math.prod(size), free_disk(folder)
    if needed > free:
        raise OSError(
            f"{files.labels} takes {needed / 1e9:.1f} GB of disk while it is computed, and {files.labels.parent} has "
            f"{free / 1e9:.1f} GB free; choose another --output."
        )


def check_place(files: SceneFiles, image: Path, georeference: Georeference | None) -> None:
    """Refuse files that cannot hold where a scene lies.

    Args:
        files: The files to write.
        image: The file, for the message.
        georeference: Where it lies.

    Raises:
        ValueError: GeoJSON is wanted, which holds degrees of WGS 84, of a scene in a local reference system.
    """
    crs = None if georeference is None else georeference.crs
    if files.polygons is None or files.polygons.suffix.lower() != ".geojson" or crs is None:
        return
    if not (crs.is_geographic or crs.is_projected):
        raise ValueError(
            f"{image} lies in a local coordinate reference system, and GeoJSON holds longitude and latitude; "
            "--polygons gpkg keeps its coordinates."
        )


def free_disk(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or would be created."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(place).free
