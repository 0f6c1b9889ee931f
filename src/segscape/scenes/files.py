"""The output files of a scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segscape.checkpoints.card import WeightsCard
from segscape.geometry.window import Readable, Window, windows
from segscape.labels import IGNORE_INDEX
from segscape.rasters.image import write_image
from segscape.rasters.polygons import write_polygons
from segscape.rasters.scratch import MemoryArray
from segscape.rasters.sink import write_bands, write_label_map
from segscape.rasters.source import Source
from segscape.scenes.outputs import OutputArrays
from segscape.scenes.preview import preview

Pixels = npt.NDArray[np.uint8]
Refine = Callable[[Pixels, Pixels], Pixels]
"""A function from an image (H, W, 3) and its labels (H, W) to better labels (H, W)."""

_COUNTED = (1024, 4096)


@dataclass(frozen=True)
class SceneFiles:
    """The output files of a scene.

    Attributes:
        labels: `.tif` or `.png`.
        confidence: 255 times the largest probability, `.tif` or `.png`.
        scores: 255 times the probability of each class, `.tif`.
        polygons: The areas of the classes, `.gpkg` or `.geojson`.
        overlay: The scene overlaid with its classes' colours, with sides of at most 4096 pixels, `.jpg` or `.png`.
        tolerance: How far polygons are simplified; see `segscape.rasters.polygons.write_polygons`.

    Examples:
        >>> from pathlib import Path
        >>> import segscape
        >>> files = segscape.SceneFiles(labels=Path("labels.tif"), polygons=Path("classes.gpkg"), tolerance=1.0)
        >>> list(files.by_kind)
        ['labels', 'polygons']
    """

    labels: Path
    confidence: Path | None = None
    scores: Path | None = None
    polygons: Path | None = None
    overlay: Path | None = None
    tolerance: float = 0.0

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return list(self.by_kind.values())

    @property
    def by_kind(self) -> dict[str, Path]:
        """All files, by what they hold: the names of the attributes."""
        every = {
            "labels": self.labels,
            "confidence": self.confidence,
            "scores": self.scores,
            "polygons": self.polygons,
            "overlay": self.overlay,
        }
        return {kind: path for kind, path in every.items() if path is not None}


def write_files(
    files: SceneFiles, arrays: OutputArrays, source: Source, card: WeightsCard, *, refine: Refine | None = None
) -> dict[str, float]:
    """Write the requested files of a scene, each of them whole or not at all.

    Args:
        files: The files to write.
        arrays: The computed arrays, complete.
        source: The scene.
        card: Provides the names and colours of the classes.
        refine: Improves the labels, with the whole image in memory.

    Returns:
        The share of each class among the pixels that hold data, by name.

    Raises:
        OSError: A file cannot be written.
    """
    whole = Window(0, 0, *source.size)
    labels: Readable = arrays.labels
    if refine is not None:
        labels = MemoryArray(refine(source.read(whole), arrays.labels.read(whole)))
    # `valid` is None for every window or for none, so any pixel will do.
    has_gaps = source.valid(Window(0, 0, 1, 1)) is not None
    if has_gaps:
        labels = _Masked(labels, source, IGNORE_INDEX)
    write_label_map(
        files.labels,
        labels,
        palette=card.palette,
        class_names=card.class_names,
        georeference=source.georeference,
        nodata=IGNORE_INDEX if has_gaps else None,
    )
    if files.polygons is not None:
        write_polygons(
            files.polygons,
            labels,
            class_names=card.class_names,
            georeference=source.georeference,
            tolerance=files.tolerance,
            skip=(IGNORE_INDEX,),
        )
    for path, values, names in (
        (files.confidence, arrays.confidence, ("confidence",)),
        (files.scores, arrays.scores, card.class_names),
    ):
        if path is not None and values is not None:
            write_bands(
                path,
                _Masked(values, source, 0) if has_gaps else values,
                names=names,
                georeference=source.georeference,
                mask=_Mask(source) if has_gaps else None,
            )
    if files.overlay is not None:
        write_image(files.overlay, preview(source, labels, card.palette))
    return _shares(labels, card.class_names)


def _shares(labels: Readable, class_names: tuple[str, ...]) -> dict[str, float]:
    counts = np.zeros(IGNORE_INDEX + 1, np.int64)
    for part in windows(labels.size, _COUNTED):
        counts += np.bincount(labels.read(part).ravel(), minlength=len(counts))
    of_classes = counts[: len(class_names)]
    return dict(zip(class_names, (of_classes / max(of_classes.sum(), 1)).tolist(), strict=True))


@dataclass(frozen=True)
class _Masked:
    """Labels, or values of several bands, with another value where the image has no data."""

    labels: Readable
    source: Source
    value: int

    @property
    def size(self) -> tuple[int, int]:
        return self.labels.size

    def read(self, window: Window) -> Pixels:
        valid = self.source.valid(window)
        labels = self.labels.read(window)
        if valid is None:
            return labels
        return np.where(valid if labels.ndim == 2 else valid[..., None], labels, np.uint8(self.value))


@dataclass(frozen=True)
class _Mask:
    """The mask of a raster: 255 where the image has data, 0 elsewhere."""

    source: Source

    @property
    def size(self) -> tuple[int, int]:
        return self.source.size

    def read(self, window: Window) -> Pixels:
        valid = self.source.valid(window)
        return np.full(window.size, 255, np.uint8) if valid is None else np.where(valid, np.uint8(255), np.uint8(0))
