"""The main object of a photograph, cut out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from segscape.choices import CUTOUT_WEIGHTS, REFINER_WEIGHTS, Precision
from segscape.cutout.background import BackgroundInput, as_background, background_pixels
from segscape.cutout.foreground import foreground
from segscape.rasters.image import write_image
from segscape.refinement.refiner import Refiner
from segscape.segmentation.calibration import ImageLike
from segscape.segmentation.inputs import as_pixels
from segscape.segmentation.segmenter import Segmenter

_BACKGROUND = "background"
_LEAST = 0.5


@dataclass(frozen=True)
class CutOut:
    """The main object of a photograph.

    Attributes:
        image: (H, W, 3) uint8, the photograph, upright.
        mask: (H, W) float32, the object's opacity, 0 to 1; 0 everywhere if no object was found.
        seconds: The time of each stage: `read`, `network` and, if the mask was refined, `refine`.

    Examples:
        >>> import segscape
        >>> result = segscape.Cutter.from_weights().cut_out("photo.jpg")
        >>> result.rgba().shape, result.grey().dtype
        ((160, 240, 4), dtype('uint8'))
        >>> result.on("#ff8800").shape
        (160, 240, 3)
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.float32]
    seconds: Mapping[str, float]

    @property
    def found(self) -> bool:
        """Whether an object was found."""
        return bool(self.mask.any())

    @cached_property
    def foreground(self) -> npt.NDArray[np.uint8]:
        """The object's own colours, (H, W, 3) uint8, without the share of the old background at its edge."""
        return foreground(self.image, self.mask)

    def grey(self) -> npt.NDArray[np.uint8]:
        """Return the opacity, (H, W) uint8, 0 to 255."""
        return np.rint(self.mask * 255).astype(np.uint8)

    def rgba(self) -> npt.NDArray[np.uint8]:
        """Return the object on transparency, (H, W, 4) uint8: its own colours, not multiplied by the opacity."""
        return np.dstack([self.foreground, self.grey()])

    def on(self, background: BackgroundInput) -> npt.NDArray[np.uint8]:
        """Return the object on another background, (H, W, 3) uint8.

        Args:
            background: A colour as CSS writes it (`"white"`, `"#ff8800"`) or as (red, green, blue), or a picture: a
                path, a Pillow image, or an array (h, w, 3) uint8. A picture is scaled to cover the photograph and
                cropped around its centre.

        Raises:
            ValueError: The background is none of these.
        """
        behind = background_pixels(as_background(background), self.mask.shape)
        opacity = self.mask[..., None]
        return np.rint(self.foreground * opacity + behind * (1 - opacity)).astype(np.uint8)

    def save(self, path: str | Path, background: BackgroundInput | None = None) -> None:
        """Write the cut-out as a PNG, with transparency or on a background; the file appears whole or not at all.

        Args:
            path: The file.
            background: See `on`.

        Raises:
            ValueError: The suffix is not `.png`, or see `on`.
        """
        if Path(path).suffix.lower() != ".png":
            raise ValueError(f"Cut-outs are saved as PNG, which has transparency; name the file .png, not {path}.")
        write_image(path, self.rgba() if background is None else self.on(background))


class Cutter:
    """Cuts out the main object of photographs: a network finds it, and a refiner makes its edge sharp.

    Args:
        segmenter: A segmenter of a network with two classes, one of them named `background`.
        refiner: Refines the mask along the object's edge; without one the mask is the network's probability.

    Raises:
        ValueError: The network has other classes.

    Attributes:
        segmenter: Finds the object.
        refiner: Refines the mask, or `None`.

    Examples:
        >>> import segscape
        >>> cutter = segscape.Cutter.from_weights()
        >>> result = cutter.cut_out("photo.jpg")
        >>> result.save("photo_cutout.png")
        >>> result.save("photo_on_white.png", background="white")
    """

    def __init__(self, segmenter: Segmenter, refiner: Refiner | None = None) -> None:
        names = segmenter.card.class_names
        if len(names) != 2 or _BACKGROUND not in names:
            listed = ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")
            raise ValueError(
                f"Cut-outs need a network with two classes, {_BACKGROUND} and the object; this one has {listed}."
            )
        self.segmenter = segmenter
        self.refiner = refiner
        self._object = 1 - names.index(_BACKGROUND)

    @classmethod
    def from_weights(
        cls,
        name_or_path: str | Path = CUTOUT_WEIGHTS,
        device: str | torch.device | None = None,
        *,
        refine_weights: str | Path | None = REFINER_WEIGHTS,
        runtime: str = "torch",
        precision: Precision | Literal["auto"] = "auto",
        calibration: Sequence[ImageLike] = (),
    ) -> Cutter:
        """Create a cutter from names of `list_weights()` or the paths of weights files.

        Args:
            name_or_path: The weights that find the object; see `Segmenter.from_weights`.
            device: Such as `"cpu"` or `"cuda:1"`; by default a GPU where there is one.
            refine_weights: The weights that refine the mask; with `None` it is not refined.
            runtime: The runtime of the network that finds the object; see `Segmenter`.
            precision: See `Segmenter`.
            calibration: See `Segmenter`.

        Raises:
            FileNotFoundError: There are no such weights.
            ValueError: A file is damaged or of the wrong kind of network, or see `Segmenter`.
        """
        segmenter = Segmenter.from_weights(
            name_or_path, device, runtime=runtime, precision=precision, calibration=calibration
        )
        return cls(segmenter, None if refine_weights is None else Refiner.from_weights(refine_weights, device))

    def cut_out(
        self, photo: ImageLike, *, band: int | None = None, on_progress: Callable[[int, int], None] | None = None
    ) -> CutOut:
        """Cut out the main object of one photograph.

        The network's mask is trusted except near its edge, where it is refined; farther away every pixel is fully
        opaque or fully transparent. If no pixel is more probably the object's than not, nothing is found and the mask
        is 0 everywhere.

        Args:
            photo: A path, a Pillow image, or an array (H, W, 3) uint8, red, green, blue. A photograph's orientation tag
                is applied, transparency is dropped.
            band: The distance from its edge within which the mask is refined, in pixels; by default `default_band`.
            on_progress: Called with the refiner's work done so far and its total work.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, an array has the wrong form, or a band is given that is less than a pixel
                or without a refiner.
        """
        if band is not None and self.refiner is None:
            raise ValueError("A band is what is refined, and this cutter has no refiner; leave out one of the two.")
        start = time.perf_counter()
        image = as_pixels(photo)
        read = time.perf_counter()
        mask = self.segmenter.probabilities(image)[self._object].copy()
        computed = time.perf_counter()
        seconds = {"read": read - start, "network": computed - read}
        if self.refiner is not None:
            near = default_band(mask.shape) if band is None else band
            mask = self.refiner.refine(image, mask > _LEAST, band=near, on_progress=on_progress).probability
            seconds["refine"] = time.perf_counter() - computed
        if not (mask > _LEAST).any():
            mask = np.zeros_like(mask)
        return CutOut(image, mask, seconds)


def default_band(size: tuple[int, ...]) -> int:
    """Return the default distance from the mask's edge within which a photograph is refined, in pixels.

    A network sees photographs of every size at about the same working size, so its errors grow with the photograph.

    Args:
        size: (height, width) in pixels.
    """
    return max(min(size) // 32, 1)
