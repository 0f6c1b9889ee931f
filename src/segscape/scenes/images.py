"""The input of a network for a scene, any part of which can be read by itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.geometry.resample import interpolation, resample_map
from segscape.geometry.window import Window
from segscape.normalisation import Normalisation
from segscape.rasters.resize import read_smoothly
from segscape.rasters.source import Source
from segscape.scenes.views import ViewGeometry


class Images:
    """The normalised, scaled, mirrored and padded image of a rectangle of a scene.

    Args:
        source: The scene.
        place: The rectangle.
        geometry: How the network sees it.
        normalise: Converts 8-bit pixels to the network's input.
        device: The device of the result.
    """

    def __init__(
        self, source: Source, place: Window, geometry: ViewGeometry, *, normalise: Normalisation, device: torch.device
    ) -> None:
        self._source, self._place, self._geometry = source, place, geometry
        self._normalise, self._device = normalise, device

    def read(self, window: Window) -> Tensor:
        """Read a part of the network's input, (1, 3, window.height, window.width) float32.

        Args:
            window: Within `geometry.padded`.

        Raises:
            ValueError: The file is damaged in this part.
        """
        geometry = self._geometry
        inside = window.intersection(Window.whole(geometry.size))
        if not (inside.height and inside.width):
            return torch.zeros(1, 3, *window.size, device=self._device)
        seen = inside
        if geometry.view.mirrored:
            # The part of the unmirrored image whose mirror image is wanted.
            seen = inside._replace(col=geometry.size[1] - inside.stop_col)
        values = self._pixels(seen) if geometry.size == geometry.working else self._scaled(seen)
        if geometry.view.mirrored:
            values = values.flip(-1)
        # Padding, to a size that the network takes, is 0: the mean colour after normalisation.
        return F.pad(values, (0, window.width - inside.width, 0, window.height - inside.height))[None]

    def _pixels(self, window: Window) -> Tensor:
        """Read the normalised pixels (3, h, w) of a part of the rectangle at its working size."""
        place, working = self._place, self._geometry.working
        if working == self._geometry.extent:
            values = self._source.read(window.shifted(place.row, place.col))
        else:
            values = read_smoothly(self._source.read, place, working, window)
        pixels = torch.from_numpy(values).to(self._device)
        return self._normalise(pixels.permute(2, 0, 1)[None])[0]

    def _scaled(self, window: Window) -> Tensor:
        """Read the normalised pixels (3, h, w) of a part of the scaled rectangle."""
        geometry = self._geometry
        rows, cols = (
            interpolation(
                wanted,
                size,
                source,
                torch.float32,
                align_corners=geometry.align_corners,
                # PyTorch copies along an axis whose length the scale does not change.
                scale=None if size == source else geometry.view.scale,
            )
            for wanted, size, source in zip((window.rows, window.cols), geometry.size, geometry.working, strict=True)
        )
        pixels = self._pixels(Window.of(rows.source, cols.source))
        return resample_map(pixels, rows.relative_to(rows.source), cols.relative_to(cols.source))
