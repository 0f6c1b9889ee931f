"""How the bands of a file become the 8-bit red, green and blue that networks take.

Nothing is guessed in silence: colours follow the file's own tags, and what is not stated (which bands are which, the
range of values that are not of 8 bits) is taken from what is there and said in one line in the log.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segscape.geometry.window import Window
from segscape.messages import say_once
from segscape.rasters.stored import Band, StoredImage
from segscape.rasters.suffixes import PHOTO_SUFFIXES

_log = logging.getLogger(__name__)

_PERCENTILES = 0.1, 99.9
"""Of the values that become black and white, where no scaling is stated and they fill no known range."""
_COMMON_SAMPLE = 20_000
"""The pixels of each image by which a scaling for several images is chosen."""
_FULL_RANGES = {"u": (65535.0,), "f": (1.0, 255.0)}
"""The known ranges of unsigned integers and of floating-point numbers, from 0; one is taken if it is half filled."""
_COLLAR_SHARE = 0.2
"""Of an image's border: the share of black or white pixels from which it looks like a collar."""
_COLOURS = "red", "green", "blue"
_OTHER_MODELS = {"cyan": "CMYK", "hue": "HSL", "lightness": "HSL", "Y": "YCbCr", "Cb": "YCbCr"}


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
        may_lack_data: Whether a pixel may be without data by its value: NaN, a colour without opacity, or `nodata`.
        nodata: The value, in all of the bands, of pixels without data, where the user states one.
    """

    bands: tuple[int, ...]
    scaling: Scaling | None
    colours: npt.NDArray[np.uint8] | None
    may_lack_data: bool
    nodata: float | None = None

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
        colours = self.colours
        holding = ~np.isnan(values).any(axis=-1) if colours is None else colours[values[..., 0], 3] > 0
        return holding if self.nodata is None else holding & (values != self.nodata).any(axis=-1)


def choose_channels(
    stored: StoredImage, *, bands: Sequence[int] | None, scaling: Scaling | None, nodata: float | None = None
) -> Channels:
    """Choose the bands and the scaling of an image, and log what was chosen that nobody has stated.

    Args:
        stored: The image.
        bands: The numbers, from 1, of the bands that are red, green and blue, or of one that is grey. By default those
            that the file says, else the first three without opacity, or the only one; a palette is applied.
        scaling: How values become 8-bit ones. By default those of 8 bits stay as they are, and others are mapped by
            `guess_scaling`.
        nodata: The value, in all of the chosen bands, of pixels without data, beside those that the file declares.

    Raises:
        ValueError: There are no such bands, their colours are none of red, green and blue, or the file is damaged.
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
        may_lack = nodata is not None or bool((colours[:, 3] == 0).any())
        return Channels(chosen, None, colours, may_lack, nodata)
    if nodata is None and path.suffix.lower() not in PHOTO_SUFFIXES:
        _look_for_collar(stored, chosen)
    if scaling is None and dtype != np.uint8:
        scaling, words = guess_scaling(_sample(stored, chosen, nodata))
        say_once(_log, f"{path.name}: {words} become black and white; --scaling LOW,HIGH states others.")
    return Channels(chosen, scaling, None, may_lack_data=dtype.kind == "f" or nodata is not None, nodata=nodata)


def common_scaling(
    images: Iterable[StoredImage], *, bands: Sequence[int] | None, nodata: float | None = None
) -> Scaling | None:
    """Choose one scaling for several images, by `guess_scaling` of samples of all, and log it.

    Args:
        images: The images; each is closed when its sample has been read.
        bands: See `choose_channels`.
        nodata: See `choose_channels`.

    Returns:
        The scaling, or None if all images are of 8 bits, which need none.

    Raises:
        ValueError: Some images are of 8 bits and others are not: a common scaling would change those.
    """
    samples: list[npt.NDArray[Any]] = []
    of_eight_bits = []
    for stored in images:
        try:
            chosen = _choose_bands(stored.path, bands, stored.bands)
            sample = _sample(stored, chosen, nodata)
        except ValueError:
            # It is said of a damaged image when it is read as a whole.
            continue
        finally:
            stored.close()
        if all(stored.bands[band - 1].dtype == np.uint8 for band in chosen):
            of_eight_bits.append(stored.path)
        else:
            samples.append(sample[:: -(-len(sample) // _COMMON_SAMPLE) or 1].ravel())
    if not samples:
        return None
    if of_eight_bits:
        raise ValueError(
            f"{of_eight_bits[0]} is of 8 bits and other images are not, so that there is no common scaling; give them "
            "to two commands."
        )
    scaling, words = guess_scaling(np.concatenate(samples))
    say_once(_log, f"{len(samples)} images: {words} become black and white of all.")
    return scaling


def _sample(stored: StoredImage, bands: tuple[int, ...], nodata: float | None) -> npt.NDArray[Any]:
    """Read a sample of the pixels that hold data, (n, C)."""
    sample = stored.sample(bands)
    return sample if nodata is None else sample[(sample != nodata).any(axis=-1)]


def _look_for_collar(stored: StoredImage, bands: tuple[int, ...]) -> None:
    """Log if much of an image's border has one value, though the file declares no pixel to be without data."""
    if stored.valid(Window(0, 0, 1, 1), bands) is not None:
        return
    height, width = stored.size
    corners = [Window(row, col, 1, 1) for row in {0, height - 1} for col in {0, width - 1}]
    try:
        # A collar reaches into a corner; that none of them is grey, black or white is seen at once.
        if not any(np.ptp(stored.read(corner, bands)) == 0 for corner in corners):
            return
        border = stored.sample_border(bands)
    except ValueError:
        # Whoever reads the damaged part is told so.
        return
    # Only pixels that are alike in all bands: a collar is black or white, or of another single value.
    values, counts = np.unique(border[(border == border[:, :1]).all(axis=-1)][:, 0], return_counts=True)
    if not counts.size:
        return
    value, share = values[counts.argmax()], counts.max() / len(border)
    is_extreme = value == 0 or (value.dtype.kind in "iu" and value == np.iinfo(value.dtype).max)
    if share >= (_COLLAR_SHARE if is_extreme else 2 * _COLLAR_SHARE):
        say_once(
            _log,
            f"{stored.path.name}: {share:.0%} of its border is {value:g} in every band, like a collar without data, "
            f"but the file declares none; --nodata {value:g} leaves such pixels out.",
        )


def guess_scaling(values: npt.NDArray[Any]) -> tuple[Scaling, str]:
    """Choose how values of any real type become 8-bit ones, by a sample of them.

    Values that fill at least half of a known range (0 to 65535 of unsigned integers; 0 to 1 or 0 to 255 of
    floating-point numbers) are taken to have it. Of others the percentiles 0.1 and 99.9 become black and white, of all
    bands together, so that colours stay as they are.

    Args:
        values: Of any shape, without NaN.

    Returns:
        The scaling, and which values become black and white, in words.
    """
    if not values.size:
        return Scaling(0, 1), "as no pixel holds data, 0 and 1"
    low, high = (float(value) for value in np.percentile(values, _PERCENTILES))
    for full in _FULL_RANGES.get(values.dtype.kind, ()):
        if values.min() >= 0 and values.max() <= full and high > full / 2:
            return Scaling(0, full), f"of {values.dtype.name} values that fill the range, 0 and {full:g}"
    if not low < high:
        low, high = float(values.min()), float(values.max())
    if not low < high:
        high = low + 1
    shares = "{:g} and {:g} %".format(*_PERCENTILES)
    return Scaling(low, high), f"of its {values.dtype.name} values {low:g} and {high:g}, which {shares} lie below,"


def _choose_bands(path: Path, asked: Sequence[int] | None, bands: Sequence[Band]) -> tuple[int, ...]:
    if asked is not None:
        if len(asked) not in (1, 3):
            raise ValueError(f"One band or three can be read, not {len(asked)}: {tuple(asked)}.")
        missing = [band for band in asked if not 1 <= band <= len(bands)]
        if missing:
            raise ValueError(f"{path} has no band {missing[0]}; its bands are numbered from 1 to {len(bands)}.")
        return tuple(asked)
    numbers: dict[str, int] = {}
    for number, band in enumerate(bands, start=1):
        numbers.setdefault(band.kind, number)
    if all(colour in numbers for colour in _COLOURS):
        chosen = tuple(numbers[colour] for colour in _COLOURS)
        if chosen != (1, 2, 3):
            listed = ", ".join(map(str, chosen))
            say_once(_log, f"{path.name}: bands {listed} are read as red, green and blue, as the file says.")
        return chosen
    model = next((_OTHER_MODELS[kind] for kind in numbers if kind in _OTHER_MODELS), None)
    if model is not None:
        raise ValueError(
            f"{path} holds {model} colours, not red, green and blue; convert it to RGB first, or say which bands to "
            "use, such as bands=(1,) (--bands 1)."
        )
    colour = tuple(number for number, band in enumerate(bands, start=1) if band.kind != "alpha")
    if len(colour) == 1 or len(colour) >= 3:
        if len(colour) > 3:
            say_once(
                _log,
                f"{path.name}: the first three of {len(colour)} bands are read as red, green and blue; --bands R,G,B "
                "names others.",
            )
        return colour[:3]
    raise ValueError(
        f"{path} has {len(colour)} bands besides opacity, neither grey nor red, green and blue; say which to use, such "
        "as bands=(1,) (--bands 1)."
    )
