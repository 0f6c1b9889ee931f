"""Segment images with a weights file and nothing else."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.store import create_model, find_weights, read_card
from segscape.inference.inputs import as_pixels, usable_device
from segscape.inference.padding import pad_to_fit
from segscape.inference.upsampling.argmax import upsample_argmax
from segscape.networks import SegmentationNetwork
from segscape.rasters.image import write_labels
from segscape.runtime.deploy import deploy
from segscape.viz.overlay import overlay


@dataclass(frozen=True)
class Segmentation:
    """The result for one image.

    Attributes:
        labels: (H, W) uint8, a class index for every pixel of the image.
        image: (H, W, 3) uint8, the image itself.
        class_names: The name of each class.
        palette: The colour (red, green, blue) of each class.
        seconds: What each stage took: `read`, `network`, and `labels` (upsampling and arg-max).
    """

    labels: npt.NDArray[np.uint8]
    image: npt.NDArray[np.uint8]
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    seconds: Mapping[str, float]

    def overlay(self, opacity: float = 0.5) -> npt.NDArray[np.uint8]:
        """The image under its classes' colours, (H, W, 3) uint8.

        Args:
            opacity: Of the colours, 0 to 1.
        """
        return overlay(self.image, self.labels, self.palette, opacity=opacity)

    def save(self, path: str | Path) -> None:
        """Write the labels as a PNG with a palette; the file appears whole or not at all.

        Raises:
            ValueError: The suffix is not `.png`.
        """
        if Path(path).suffix.lower() != ".png":
            raise ValueError(f"Labels are saved as PNG, which keeps them exact; name the file .png, not {path}.")
        write_labels(path, self.labels, self.palette)

    def shares(self) -> dict[str, float]:
        """The share of each class among the pixels, 0 to 1, by name."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.class_names))
        return dict(zip(self.class_names, (counts / self.labels.size).tolist(), strict=True))


class Segmenter:
    """Segments images, each as a whole: memory grows with the image, by about 200 bytes a pixel on a CPU.

    Args:
        network: Kept as it is; a faster copy of it runs.
        card: Its classes and normalisation.
        device: Where to run, such as `"cpu"` or `"cuda:1"`; by default a GPU where there is one.

    Raises:
        ValueError: There is no such device.

    Attributes:
        network: The network itself, in evaluation mode, on `device`.
        card: What its weights file says of it.
        device: Where it runs.
        deployed: The faster copy.

    Example:
        >>> segmenter = Segmenter.from_weights("stdc1_seg.camvid")
        >>> result = segmenter.segment(np.zeros((90, 120, 3), np.uint8))
        >>> result.labels.shape
        (90, 120)
    """

    def __init__(
        self, network: SegmentationNetwork, card: WeightsCard, *, device: str | torch.device | None = None
    ) -> None:
        self.device = usable_device(device)
        self.network = network.eval().to(self.device)
        self.card = card
        self.deployed = deploy(self.network)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the weights that count in evaluation, in hexadecimal digits."""
        digest = hashlib.sha256()
        for name, value in self.deployed.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @classmethod
    def from_weights(cls, name_or_path: str | Path, device: str | torch.device | None = None) -> Segmenter:
        """A segmenter from a name of `list_weights()` or the path of a weights file.

        Args:
            name_or_path: Which weights.
            device: See the class.

        Raises:
            FileNotFoundError: There are no such weights.
            ValueError: The file is damaged, or not of a segmentation network.
        """
        path = find_weights(name_or_path)
        card = read_card(path)
        network = create_model(card.network, weights=path)
        if not isinstance(network, SegmentationNetwork):
            raise ValueError(f"{path} holds weights of {card.network}, which does not segment images.")
        return cls(network, card, device=device)

    @torch.inference_mode()
    def segment(self, image: str | Path | Image.Image | npt.NDArray[np.uint8]) -> Segmentation:
        """Segment one image.

        Args:
            image: A path, a Pillow image, or an array (H, W, 3) uint8, red, green, blue. A photograph's orientation
                tag is applied, and the labels are of the upright image.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, or the array is not (H, W, 3) uint8.
        """
        start = time.perf_counter()
        pixels = as_pixels(image)
        read = time.perf_counter()
        batch = (
            torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device).permute(2, 0, 1).unsqueeze(0)
        )
        images = pad_to_fit(self.network, self.card.normalisation(batch))
        padded_size = (images.shape[2], images.shape[3])
        logits = self.deployed(images)
        self._synchronise()
        computed = time.perf_counter()
        padded = upsample_argmax(logits[0], padded_size, align_corners=self.network.align_corners).cpu().numpy()
        return Segmentation(
            labels=np.ascontiguousarray(padded[: pixels.shape[0], : pixels.shape[1]]),
            image=pixels,
            class_names=self.card.class_names,
            palette=self.card.palette,
            seconds={
                "read": read - start,
                "network": computed - read,
                "labels": time.perf_counter() - computed,
            },
        )

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
