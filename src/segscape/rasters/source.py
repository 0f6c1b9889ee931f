"""Images that are read by window, from files of any size.

`open_source` reads GeoTIFF, COG, VRT, JPEG 2000 and whatever else rasterio opens, block by block. JPEG, PNG, WebP and
BMP of ordinary size are decoded whole, by Pillow. Both give 8-bit red, green and blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from segscape.files import check_readable
from segscape.geometry.window import Window
from segscape.rasters.channels import Channels, Scaling, choose_channels
from segscape.rasters.decoded import DecodedImage, is_decoded_whole
from segscape.rasters.georeference import Georeference
from segscape.rasters.stored import StoredImage
from segscape.rasters.windowed import RasterFile


class Source:
    """An image of any size, read by window as red, green and blue.

    A source is a context manager. It can be pickled, and used in a forked process.

    Args:
        stored: The file's values.
        channels: Which bands are read, and how they become 8-bit values.
    """

    def __init__(self, stored: StoredImage, channels: Channels) -> None:
        self._stored = stored
        self.channels = channels

    @property
    def path(self) -> Path:
        """The file."""
        return self._stored.path

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), in pixels."""
        return self._stored.size

    @property
    def georeference(self) -> Georeference | None:
        """Where it lies; `None` where the file's format cannot say so."""
        return self._stored.georeference

    @property
    def resolution(self) -> float | None:
        """The metres on the ground a pixel; `None` where they are not known."""
        return self._stored.resolution

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Read a window, (h, w, 3) uint8, red, green, blue; pixels without data have whatever values the file holds.

        Raises:
            ValueError: The window is empty or reaches beyond the image, or the file is damaged there.
        """
        window.check_inside(self.size)
        return self.channels.convert(self._stored.read(window, self.channels.bands))

    def valid(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """Return which pixels of a window hold data, (h, w) bool, or `None` for every window if none can lack data.

        Pixels lack data by a nodata value, a mask, an opacity of 0 or NaN.

        Raises:
            ValueError: The window is empty or reaches beyond the image, or the file is damaged there.
        """
        window.check_inside(self.size)
        valid = self._stored.valid(window, self.channels.bands)
        if not self.channels.may_lack_data:
            return valid
        holding = self.channels.holding_data(self._stored.read(window, self.channels.bands))
        return holding if valid is None else valid & holding

    def whole(self) -> npt.NDArray[np.uint8]:
        """Read the whole image, (H, W, 3) uint8; raises as `read` does."""
        return self.read(Window(0, 0, *self.size))

    def close(self) -> None:
        """Release the file and the decoded pixels; a later read opens it again."""
        self._stored.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_source(
    path: str | Path,
    *,
    bands: Sequence[int] | None = None,
    scaling: Scaling | None = None,
    nodata: float | None = None,
) -> Source:
    """Open an image of any size.

    Args:
        path: A file. TIFF without rasterio, and photographs of ordinary size, are decoded whole, and upright by their
            orientation tag.
        bands: See `segscape.rasters.channels.choose_channels`.
        scaling: See `choose_channels`.
        nodata: See `choose_channels`.

    Raises:
        ModuleNotFoundError: The format needs rasterio; the message names the extra.
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: It is no image, is damaged or too large to be decoded whole, has no such bands, or values whose
            scaling must be stated; the message names it.
    """
    stored = open_stored(Path(path))
    return Source(stored, choose_channels(stored, bands=bands, scaling=scaling, nodata=nodata))


def open_stored(path: Path) -> StoredImage:
    """Open an image of any size for its values as they are stored; raises as `open_source` does."""
    check_readable(path)
    return DecodedImage(path) if is_decoded_whole(path) else RasterFile(path)
