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
    """A rectangle of the scene as one resize of logits.

    Attributes:
        upsampling: From a tile's map of logits to its pixels.
        logits: (K, h, w), a part of that map.
        window: The rectangle, counted from the tile's corner.
        held: Where these logits stand in the map.
    """

    upsampling: Upsampling
    logits: Tensor
    window: Window
    held: Window


class Logits:
    """What a network says of a scene in one view: a map of logits for each tile.

    Args:
        path: The file.
        tiling: The tiles; a scene that is seen whole is one.
        geometry: How a tile is seen.
        device: Where scores are computed.
        class_order: For each class the place among the network's logits, in a view that exchanges classes.

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
        self._array = ScratchArray(path, (tiling.count * self._height, width, classes), "float32")

    @property
    def classes(self) -> int:
        """K, the number of classes."""
        return self._geometry.logits[0]

    def write(self, tile: int, window: Window, values: npt.NDArray[Any]) -> None:
        """Set a part of a tile's map.

        Args:
            tile: Its number.
            window: Within its map.
            values: (h, w, K) float32, as the network gives them.

        Raises:
            OSError: The disk is full.
        """
        ordered = values if self._order is None else values[..., self._order]
        self._array.write(self._in_file(tile, window), ordered)

    def blends(self, window: Window) -> list[Blend]:
        """A rectangle of the scene in parts that come from the same tiles."""
        return list(self._tiling.blends(window))

    def direct(self, blend: Blend) -> Direct | None:
        """What a window is made of where that is one tile by one resize; nothing where there is more to it."""
        resizes = self._geometry.resizes
        if len(blend.tiles) > 1 or len(resizes.steps) > 1 or resizes.mirrored:
            return None
        return Direct(resizes.steps[0], *self._read(blend.tiles[0], blend.window))

    def scores(self, window: Window) -> Tensor:
        """The scores of a rectangle of the scene, blended where tiles meet: (K, window.height, window.width)."""
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
