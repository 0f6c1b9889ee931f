"""Refinement of coarse masks; a weights file is all it needs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from segscape.checkpoints.shipped import find_weights, read_card
from segscape.checkpoints.store import create_model
from segscape.choices import RefinerPrecision
from segscape.files import atomic_path
from segscape.networks import RefinementNetwork
from segscape.networks.crm import CRM
from segscape.normalisation import Normalisation
from segscape.rasters.masks import read_mask, to_mask
from segscape.refinement.stages import BORDER, SCALES, Engine, Progress, StageInputs
from segscape.refinement.stored_map import StoredMap
from segscape.runtime.deploy import deploy
from segscape.runtime.eager import DTYPES
from segscape.runtime.system_memory import default_budget
from segscape.segmentation.inputs import as_pixels, usable_device

ImageInput = str | Path | Image.Image | npt.NDArray[np.uint8]
"""A path, a Pillow image, or an array (H, W, 3) uint8, red, green, blue."""
MaskInput = str | Path | Image.Image | npt.NDArray[Any]
"""A path, a Pillow image, or an array (H, W): uint8, bool, or floating point from 0 to 1."""


@dataclass(frozen=True)
class Refinement:
    """A refined mask.

    Attributes:
        probability: (H, W) float32, from 0 to 1, of being inside the object.
        seconds: The time of each stage, by its scale.

    Examples:
        >>> import segscape
        >>> refiner = segscape.Refiner.from_weights("crm_efficientnet_lite0.objects")
        >>> result = refiner.refine("photo.jpg", "mask.png", band=4)
        >>> result.mask.dtype
        dtype('bool')
        >>> result.save("refined.png")
    """

    probability: npt.NDArray[np.float32]
    seconds: Mapping[float, float]

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(H, W) bool, true where the probability exceeds one half."""
        return self.probability > 0.5

    def save(self, path: str | Path) -> None:
        """Write the probability as a grey PNG from 0 to 255, rounded; the file appears whole or not at all.

        Raises:
            ValueError: The suffix is not `.png`.
        """
        if Path(path).suffix.lower() != ".png":
            raise ValueError(f"Refined masks are saved as PNG, which keeps them exact; name the file .png, not {path}.")
        with atomic_path(Path(path)) as temporary:
            Image.fromarray(np.rint(self.probability * 255).astype(np.uint8)).save(
                temporary, format="PNG", compress_level=1
            )


class Refiner:
    """Refines masks of one object each, at any size and in bounded memory.

    The stages see the image at 1/8, 1/4, 1/2 and its full size. The last takes about two thirds of the time.

    Args:
        network: It is kept; a faster copy of it runs.
        device: The device to run on, such as `"cpu"` or `"cuda:1"`; by default a GPU where there is one.
        max_memory: Bytes that a refinement may take besides the network and the caller's arrays. By default half of
            the free memory, on a CPU at most 2 GiB. The result does not depend on it, except for rounding.
        precision: The type of the features. Coordinates stay float64, decoder and masks fp32.
        normalisation: The normalisation of the images, where it is not the network's own.
        least_side: Stages at whose scale the image's shorter side has fewer pixels than this are left out of `refine`,
            except the last one: a little-trained network does harm there. By default none is left out.

    Raises:
        ValueError: There is no such device.

    Attributes:
        network: The network itself, in evaluation mode, on `device`.
        device: The device on which it runs.

    Examples:
        >>> import segscape
        >>> refiner = segscape.Refiner.from_weights("crm_efficientnet_lite0.objects")
        >>> result = refiner.refine("photo.jpg", "mask.png")  # or Pillow images, or arrays
        >>> result.probability.shape
        (160, 240)
    """

    def __init__(
        self,
        network: RefinementNetwork,
        device: str | torch.device | None = None,
        *,
        max_memory: int | None = None,
        precision: RefinerPrecision = "fp32",
        normalisation: Normalisation | None = None,
        least_side: int = 0,
    ) -> None:
        if precision not in get_args(RefinerPrecision):
            raise ValueError(f"Masks are refined in {', '.join(get_args(RefinerPrecision))}, not in {precision!r}.")
        self.device = usable_device(device)
        self.network = network.eval().to(self.device)
        deployed = deploy(self.network)
        assert isinstance(deployed, CRM), "the engine computes CRM's layers itself"
        for part in (deployed.extractor, deployed.fusion):
            part.to(DTYPES[precision])
        self._engine = Engine(deployed, normalisation or network.normalisation)
        self._max_memory = max_memory
        self._least_side = least_side

    @classmethod
    def from_weights(
        cls,
        name_or_path: str | Path,
        device: str | torch.device | None = None,
        *,
        max_memory: int | None = None,
        precision: RefinerPrecision = "fp32",
    ) -> Refiner:
        """Create a refiner from a name of `list_weights()` or the path of a weights file.

        Args:
            name_or_path: The name or path of the weights.
            device: See the class.
            max_memory: See the class.
            precision: See the class.

        Raises:
            FileNotFoundError: There are no such weights.
            ValueError: The file is damaged, or not of a network that refines masks; or there is no such device.
        """
        path = find_weights(name_or_path)
        card = read_card(path)
        network = create_model(card.network, weights=path)
        if not isinstance(network, RefinementNetwork):
            raise ValueError(f"{path} holds weights of {card.network}, which does not refine masks.")
        return cls(
            network,
            device,
            max_memory=max_memory,
            precision=precision,
            normalisation=card.normalisation,
            least_side=card.least_side or 0,
        )

    @torch.inference_mode()
    def refine(
        self,
        image: ImageInput,
        mask: MaskInput,
        *,
        steps: int = len(SCALES),
        band: int | None = None,
        on_progress: Progress | None = None,
    ) -> Refinement:
        """Refine a mask.

        The image is mirrored by 32 pixels at its borders, as the authors do; where a side is too short for that, the
        mirror image is mirrored again. An empty mask stays empty.

        Args:
            image: The image; a photograph's orientation tag is applied.
            mask: The coarse mask, hard or soft; uint8 ranges from 0 to 255, or from 0 to 1 if no value is larger.
            steps: The number of the four stages to run, from the coarsest on; `least_side` leaves out coarse ones.
            band: Refine only pixels that are at most this many pixels, along rows and along columns, from the other
                side of the mask's boundary; the others keep their values. The narrower the band, the faster; by default
                all pixels are refined.
            on_progress: Called with the work done so far and the total work.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A file is damaged, an array has the wrong form, the sizes differ, `steps` or `band` is out of
                range, or `max_memory` is too little.
        """
        if not 1 <= steps <= len(SCALES):
            raise ValueError(f"There are {len(SCALES)} stages, so steps is 1 to {len(SCALES)}, not {steps}.")
        inputs = self._scene(image, mask, band)
        seconds: dict[float, float] = {}
        probability = np.empty(0, np.float32)
        scales = self._scales(steps, inputs)
        run = self._engine.run(inputs, memory=self._memory(), scales=scales, on_progress=on_progress)
        start = time.perf_counter()
        for scale, stored in run:
            if scale == scales[-1]:
                probability = _inner(stored, inputs)
            elif self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            now = time.perf_counter()
            seconds[scale], start = now - start, now
        return Refinement(probability, seconds)

    @torch.inference_mode()
    def stages(
        self, image: ImageInput, mask: MaskInput, *, band: int | None = None
    ) -> Iterator[tuple[float, npt.NDArray[np.float32]]]:
        """Yield the complete result of each of the four stages; `refine` computes only the points that it needs.

        Args:
            image: See `refine`.
            mask: See `refine`.
            band: See `refine`.

        Yields:
            The scale, and the probability (H, W) float32.

        Raises:
            FileNotFoundError: See `refine`.
            ValueError: See `refine`.
        """
        inputs = self._scene(image, mask, band)
        for scale, stored in self._engine.run(inputs, memory=self._memory(), every_point=True):
            yield scale, _inner(stored, inputs)

    def _scales(self, steps: int, inputs: StageInputs) -> tuple[float, ...]:
        """Return the scales of the stages that are run."""
        *coarse, last = SCALES[:steps]
        side = min(inputs.image.size) - 2 * BORDER
        return (*(scale for scale in coarse if scale * side >= self._least_side), last)

    def _memory(self) -> int:
        return default_budget(self.device) if self._max_memory is None else self._max_memory

    def _scene(self, image: ImageInput, mask: MaskInput, band: int | None) -> StageInputs:
        pixels, values = as_pixels(image), _as_mask(mask)
        if pixels.shape[:2] != values.shape:
            (height, width), (mask_height, mask_width) = pixels.shape[:2], values.shape
            raise ValueError(
                f"The image has {height} x {width} pixels and the mask {mask_height} x {mask_width} (height x width); "
                "resize the mask to the image."
            )
        if band is not None and band < 1:
            raise ValueError(f"A band reaches at least 1 pixel from the mask's boundary, not {band}.")
        near = None if band is None else self._tensor(boundary_band(values > _half(values), band))
        return StageInputs.of(self._tensor(pixels), self._tensor(values), near)

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)


def _as_mask(mask: MaskInput) -> npt.NDArray[Any]:
    """Return a mask as uint8 from 0 to 255 or float32 from 0 to 1."""
    if isinstance(mask, (str, Path)):
        return read_mask(mask)
    if isinstance(mask, Image.Image):
        return to_mask(mask)
    if mask.ndim == 2 and mask.size:
        if mask.dtype == bool:
            return mask.astype(np.uint8) * np.uint8(255)
        if mask.dtype == np.uint8:
            return mask * np.uint8(255) if mask.max() == 1 else mask
        if mask.dtype.kind == "f" and mask.min() >= 0 and mask.max() <= 1:
            return mask.astype(np.float32, copy=False)
    raise ValueError(
        "A mask is an array (H, W) of uint8, of bool, or of floating point from 0 to 1; this one is "
        f"{mask.shape} of {mask.dtype}{_range(mask)}."
    )


def _range(mask: npt.NDArray[Any]) -> str:
    return f", from {mask.min()} to {mask.max()}" if mask.dtype.kind == "f" and mask.size else ""


def _half(mask: npt.NDArray[Any]) -> float:
    return 127.5 if mask.dtype == np.uint8 else 0.5


def _inner(stored: StoredMap, inputs: StageInputs) -> npt.NDArray[np.float32]:
    """Return a stage's result without the mirrored border, (H, W)."""
    height, width = (side - 2 * BORDER for side in inputs.image.size)
    top, left = stored.rows[BORDER], stored.cols[BORDER]
    return stored.values[top : top + height, left : left + width, 0].cpu().numpy()


def boundary_band(inside: npt.NDArray[np.bool_], distance: int) -> npt.NDArray[np.bool_]:
    """Return the pixels that are near to the other side of a mask's boundary.

    Args:
        inside: (H, W) bool, the mask.
        distance: In pixels, the larger of the distances along the rows and along the columns.

    Returns:
        (H, W) bool, whether a pixel of the other side is at most this far away.
    """
    square = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    mask = inside.astype(np.uint8)
    return cv2.dilate(mask, square) != cv2.erode(mask, square)
