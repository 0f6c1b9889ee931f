"""What an image file holds, as it is stored: bands of any type, read by window."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segscape.geometry.window import Window
from segscape.rasters.georeference import Georeference

# A sample of a large image is read in windows of so many pixels a side, so many along each axis.
_SAMPLED_SIDE = 128
_SAMPLED_AXIS = 8


@dataclass(frozen=True)
class Band:
    """What a band of a file is.

    Attributes:
        kind: Its colour interpretation by GDAL's words: red, green, blue, gray, palette, alpha, undefined and others.
        dtype: The type of its values.
        colours: Of a palette, the colour and opacity of every value of the type, (N, 4) uint8.
    """

    kind: str
    dtype: np.dtype[Any]
    colours: npt.NDArray[np.uint8] | None = None


class StoredImage(ABC):
    """An image file whose values are read by window, unchanged.

    It can be pickled, and used in a forked process, where a file that is not decoded whole is opened anew.

    Attributes:
        path: The file.
        size: (height, width), in pixels.
        bands: The bands; they are numbered from 1.
        resolution: The metres on the ground a pixel, see `ground_resolution`; `None` where it is not known.
    """

    path: Path
    size: tuple[int, int]
    bands: tuple[Band, ...]
    resolution: float | None = None

    @property
    @abstractmethod
    def georeference(self) -> Georeference | None:
        """Where it lies; `None` where neither the file nor one beside it says so."""

    @abstractmethod
    def read(self, window: Window, bands: tuple[int, ...]) -> npt.NDArray[Any]:
        """Read some bands of a window that lies inside the image.

        Returns:
            (h, w, C), of the type that holds the values of all of these bands.

        Raises:
            ValueError: The file is damaged there.
        """

    @abstractmethod
    def valid(self, window: Window, bands: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
        """Return which pixels of a window hold data, (h, w) bool, or `None` for every window if none can lack data.

        Pixels lack data by a nodata value, a mask or an opacity of 0.

        Raises:
            ValueError: The file is damaged there.
        """

    def sample(self, bands: tuple[int, ...]) -> npt.NDArray[Any]:
        """Read pixels that hold data, spread over the image, (n, C); the same ones each time.

        Raises:
            ValueError: The file is damaged there.
        """
        found = []
        for window in self._sampled():
            values, valid = self.read(window, bands), self.valid(window, bands)
            pixels = values.reshape(-1, len(bands)) if valid is None else values[valid]
            found.append(pixels[~np.isnan(pixels).any(axis=-1)] if pixels.dtype.kind == "f" else pixels)
        return np.concatenate(found)

    def sample_border(self, bands: tuple[int, ...]) -> npt.NDArray[Any]:
        """Read pixels along the four sides of the image, (n, C); the same ones each time.

        Raises:
            ValueError: The file is damaged there.
        """
        height, width = self.size
        found = []
        for row, col, rows, cols in self._sampled():
            # Of each window at a side no more than the line there: what lies inside costs, and is not asked for.
            lines = [Window(at, col, 1, cols) for at in (0, height - 1) if row <= at < row + rows]
            lines += [Window(row, at, rows, 1) for at in (0, width - 1) if col <= at < col + cols]
            found += [self.read(line, bands).reshape(-1, len(bands)) for line in lines]
        return np.concatenate(found)

    def _sampled(self) -> list[Window]:
        """Return windows spread over the image, to its sides: all of it, if it is small."""
        height, width = self.size
        if max(height, width) <= _SAMPLED_AXIS * _SAMPLED_SIDE:
            return [Window(0, 0, height, width)]
        rows, cols = (np.linspace(0, max(side - _SAMPLED_SIDE, 0), _SAMPLED_AXIS, dtype=int) for side in self.size)
        size = min(height, _SAMPLED_SIDE), min(width, _SAMPLED_SIDE)
        return [Window(row, col, *size) for row in np.unique(rows).tolist() for col in np.unique(cols).tolist()]

    @abstractmethod
    def close(self) -> None:
        """Release the file and the decoded pixels; a later read opens it again."""
