"""How the bands of a file become the 8-bit red, green and blue that networks take.

Values that are not of 8 bits need a `Scaling`. Without one, unsigned 16-bit values are taken to span the full range
from 0 to 65535; other types, whose range is unknown, are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segscape.rasters.stored import Band, StoredImage


@dataclass(frozen=True)
class Scaling:
    """A linear mapping of stored values to 8 bits, rounded and clipped to the range.

    Attributes:
        low: The value that becomes 0.
        high: The value that becomes 255.

    Raises:
        ValueError: `low` is not below `high`, or one of them is not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"A scaling goes from a lower to a higher value, not from {self.low} to {self.high}.")

    def to_eight_bits(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Convert values of any real type and shape to uint8; NaN becomes 0."""
        scaled = values.astype(np.result_type(values.dtype, np.float32))
        scaled -= self.low
        scaled *= 255 / (self.high - self.low)
        np.rint(scaled, out=scaled)
        np.nan_to_num(scaled, copy=False, nan=0, posinf=255, neginf=0)
        return scaled.clip(0, 255, out=scaled).astype(np.uint8)


_FULL_RANGE = Scaling(0, 65535)


@dataclass(frozen=True)
class Channels:
    """Which bands are red, green and blue, and how their values become 8-bit ones.

    Attributes:
        bands: The numbers, from 1, of the three bands, or of the one that is grey.
        scaling: Maps their values to 8 bits; `None` for values that are of 8 bits already.
        colours: The colour and opacity of each value of a palette, (N, 4) uint8, in place of a scaling.
        may_lack_data: Whether a pixel may be without data by its value: NaN, or a colour without opacity.
    """

    bands: tuple[int, ...]
    scaling: Scaling | None
    colours: npt.NDArray[np.uint8] | None
    may_lack_data: bool

    def convert(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Convert the values of the bands, (h, w, 1) or (h, w, 3), to red, green and blue, (h, w, 3) uint8."""
        if self.colours is not None:
            return self.colours[values[..., 0], :3]
        eight_bits = values.astype(np.uint8, copy=False) if self.scaling is None else self.scaling.to_eight_bits(values)
        if values.shape[2] == 1:
            return np.repeat(eight_bits, 3, axis=2)
        return np.ascontiguousarray(eight_bits)

    def holding_data(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return which pixels hold data by their values, (h, w) bool."""
        if self.colours is not None:
            return self.colours[values[..., 0], 3] > 0
        return ~np.isnan(values).any(axis=-1)


def choose_channels(stored: StoredImage, *, bands: Sequence[int] | None, scaling: Scaling | None) -> Channels:
    """Choose the bands and the scaling of an image.

    Args:
        stored: The image.
        bands: The numbers, from 1, of the bands that are red, green and blue, or of one that is grey. By default the
            first three without opacity, or the only one; a palette is applied.
        scaling: How values become 8-bit ones. By default those of 8 bits stay as they are, and those of 16 bits without
            sign are taken to reach from 0 to 65535.

    Raises:
        ValueError: There are no such bands, or their values need a scaling to be stated; the message names it.
    """
    path = stored.path
    if not stored.bands:
        raise ValueError(f"{path} holds no bands itself, but files within the file; export one of them as GeoTIFF.")
    if any(band.dtype.kind == "c" for band in stored.bands):
        raise ValueError(f"{path} holds complex numbers; export their magnitude first.")
    colours = stored.bands[0].colours if bands is None else None
    chosen = _choose_bands(path, bands, stored.bands)
    dtype = np.result_type(*(stored.bands[band - 1].dtype for band in chosen))
    if colours is not None:
        return Channels(chosen, None, colours, may_lack_data=bool((colours[:, 3] == 0).any()))
    return Channels(chosen, _choose_scaling(path, dtype, scaling), None, may_lack_data=dtype.kind == "f")


def _choose_bands(path: Path, asked: Sequence[int] | None, bands: Sequence[Band]) -> tuple[int, ...]:
    if asked is None:
        colour = tuple(number for number, band in enumerate(bands, start=1) if band.kind != "alpha")
        if len(colour) == 1 or len(colour) >= 3:
            return colour[:3]
        raise ValueError(
            f"{path} has {len(colour)} bands besides opacity, neither grey nor red, green and blue; "
            f"say which to use, such as bands=(1,)."
        )
    if len(asked) not in (1, 3):
        raise ValueError(f"One band or three can be read, not {len(asked)}: {tuple(asked)}.")
    missing = [band for band in asked if not 1 <= band <= len(bands)]
    if missing:
        raise ValueError(f"{path} has no band {missing[0]}; its bands are numbered from 1 to {len(bands)}.")
    return tuple(asked)


def _choose_scaling(path: Path, dtype: np.dtype[Any], scaling: Scaling | None) -> Scaling | None:
    if scaling is not None or dtype == np.uint8:
        return scaling
    # Some TIFF files have the other byte order.
    if dtype.newbyteorder("=") == np.uint16:
        return _FULL_RANGE
    raise ValueError(
        f"{path} holds {dtype.name} values, whose range is unknown; say what becomes black and what white, "
        f"such as scaling=Scaling(0, 1)."
    )
