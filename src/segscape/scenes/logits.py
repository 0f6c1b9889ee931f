"""The logits of a scene, in a file between the network and the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor

from segscape.geometry.window import Window
from segscape.rasters.scratch import ScratchArray
from segscape.scenes.tiles import Blend, TilingPlan
from segscape.scenes.views import ViewGeometry
from segscape.segmentation.upsampling.argmax import Upsampling


class Direct(NamedTuple):
    """A rectangle of the scene that one resize of one tile's logits gives.

    Attributes:
        upsampling: The resize from a tile's map of logits to its pixels.
        logits: (K, h, w), a part of that map.
        window: The rectangle, relative to the tile.
        held: The window of that part within the map.
    """

    upsampling: Upsampling
    logits: Tensor
    window: Window
    held: Window


class Logits:
    """The logits of a scene in one view, a map for each tile.

    Args:
        path: The file.
        tiling: The tiles; a scene that is seen as a whole is a single one.
        geometry: How the network sees a tile.
        device: The device on which scores are computed.
        class_order: For each class its index among the network's logits, if the view exchanges classes (mirrored).

    Raises:
        OSError: The disk has no room for the file.
    """

    def __init__(
        self,
        path: Path,
        tiling: TilingPlan,
        geometry: ViewGeometry,
        device: torch.device,
        *,
        class_order: Sequence[int] | None = None,
    ) -> None:
        self._tiling, self._geometry, self._device, self._order = tiling, geometry, device, class_order
        classes, self._height, width = geometry.logits
        # The maps of all tiles below each other, channels last.
        self._array = ScratchArray(path, (tiling.count * self._height, width, classes), "float32")

    @property
    def classes(self) -> int:
        """K, the number of classes."""
        return self._geometry.logits[0]

    def write(self, tile: int, window: Window, values: npt.NDArray[Any]) -> None:
        """Write a part of a tile's map.

        Args:
            tile: The number of the tile.
            window: The part, within the map.
            values: (h, w, K) float32, in the network's order of classes.

        Raises:
            OSError: The disk is full.
        """
        ordered = values if self._order is None else values[..., self._order]
        self._array.write(self._in_file(tile, window), ordered)

    def blends(self, window: Window) -> list[Blend]:
        """Return the parts of a rectangle of the scene, each of which comes from the same tiles throughout."""
        return list(self._tiling.blends(window))

    def direct(self, blend: Blend) -> Direct | None:
        """Return the logits and the resize of a part, if a single resize of a single tile gives it; otherwise None."""
        resizes = self._geometry.resizes
        if len(blend.tiles) > 1 or len(resizes.steps) > 1 or resizes.mirrored:
            return None
        return Direct(resizes.steps[0], *self._read(blend.tiles[0], blend.window))

    def scores(self, window: Window) -> Tensor:
        """Compute the scores of a rectangle of the scene, (K, window.height, window.width), blended between tiles."""
        scores = torch.empty(self.classes, *window.size, device=self._device)
        for blend in self._tiling.blends(window):
            part = torch.stack(
                [
                    self._geometry.resizes.scores(logits, window=inside, held=held)
                    * torch.from_numpy(weights).to(self._device)
                    for (logits, inside, held), weights in zip(
                        (self._read(tile, blend.window) for tile in blend.tiles), blend.weights, strict=True
                    )
                ]
            ).sum(0)
            rows, cols = blend.window.relative_to(window).slices
            scores[:, rows, cols] = part
        return scores

    def _read(self, tile: int, window: Window) -> tuple[Tensor, Window, Window]:
        corner = self._tiling.tiles[tile]
        inside = window.relative_to(corner)
        held = self._geometry.resizes.reads(inside)
        values = torch.from_numpy(self._array.read(self._in_file(tile, held))).to(self._device)
        return values.permute(2, 0, 1), inside, held

    def _in_file(self, tile: int, window: Window) -> Window:
        return window.shifted(tile * self._height, 0)
