"""Segment images with a weights file and nothing else."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.shipped import find_weights, read_card
from segscape.checkpoints.store import create_model
from segscape.choices import Precision
from segscape.export.read import SUFFIXES as EXPORT_SUFFIXES
from segscape.export.read import load_exported
from segscape.geometry.window import Window
from segscape.labels import IGNORE_INDEX
from segscape.networks import SegmentationNetwork
from segscape.rasters.image import write_labels
from segscape.rasters.resize import resize_smoothly
from segscape.runtime.base import Deployed, Runtime
from segscape.runtime.choice import Choice, choose_runtime
from segscape.runtime.create import create_runtime
from segscape.runtime.deploy import deploy
from segscape.runtime.machine import versions
from segscape.runtime.system_memory import reuse_freed
from segscape.segmentation.calibration import ImageLike, calibration_of
from segscape.segmentation.inputs import as_pixels, usable_device
from segscape.segmentation.padding import pad_to_fit
from segscape.segmentation.upsampling.argmax import Upsampling
from segscape.segmentation.working_size import WorkingSize, photograph_sight, with_working_size
from segscape.viz.overlay import overlay

_ENGINES = ("torch", "openvino", "onnxruntime")
# The most rows whose probabilities are computed at a time.
_MOST_BLOCK_ROWS = 256


@dataclass(frozen=True)
class Segmentation:
    """The result for one image.

    Attributes:
        labels: (H, W) uint8, a class index for every pixel of the image.
        image: (H, W, 3) uint8, the image itself, at its own size as the labels are.
        class_names: The name of each class.
        palette: The colour (red, green, blue) of each class.
        seconds: The duration of each stage: `read`, `network` (with the resize to its working size), and `labels`
            (upsampling and arg-max).

    Examples:
        >>> import segscape
        >>> result = segscape.Segmenter.from_weights("scapenet_lite0.street").segment("photo.jpg")
        >>> result.class_names[:3]
        ('Sky', 'Building', 'Pole')
        >>> 0 <= result.shares()["Sky"] <= 1
        True
        >>> result.overlay(opacity=0.6).shape
        (160, 240, 3)
        >>> result.save("labels.png")
    """

    labels: npt.NDArray[np.uint8]
    image: npt.NDArray[np.uint8]
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    seconds: Mapping[str, float]

    def overlay(self, opacity: float = 0.5) -> npt.NDArray[np.uint8]:
        """Blend the image with its classes' colours, (H, W, 3) uint8.

        Args:
            opacity: The opacity of the colours, 0 to 1.
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
        """Return the share of each class among the pixels, 0 to 1, by name."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.class_names))
        return dict(zip(self.class_names, (counts / self.labels.size).tolist(), strict=True))


class Segmenter:
    """A network that segments images, each as a whole; on a CPU this takes about 200 bytes per pixel of its input.

    Where a working size is set, a photograph is resized to it, the network runs on the result, and its logits are
    interpolated to the photograph's own size; see `docs/working-size.md`.

    On a CPU the process is set to reuse the memory that it frees, see `segscape.runtime.system_memory.reuse_freed`.

    Args:
        network: Kept as it is; a faster copy of it runs.
        card: Its classes, normalisation and working size.
        device: Where to run, such as `"cpu"` or `"cuda:1"`; by default a GPU where there is one.
        runtime: The engine: `"torch"`, `"winograd"`, `"compile"`, `"openvino"`, `"onnx"`, `"tensorrt"`, or `"auto"` for
            the fastest that gives the right result here, which is measured the first time; see `docs/runtimes.md`. Or
            a `Runtime` that is ready to run; then only the architecture of `network` is used.
        precision: `"fp32"`, `"bf16"`, `"fp16"` or `"int8"`; `"auto"` is fp32, but with the runtime `"auto"` bf16
            where the processor has it and 99.5 % of the labels stay what they are.
        calibration: Images like those to be segmented, which int8 needs; a few dozen suffice.
        working_size: The shorter side, in pixels, to which photographs are resized, smaller ones too; `"card"` for
            what the card states, if it does: for photographs a working size, for scenes a working resolution; None for
            every image at its own size.

    Raises:
        ValueError: There is no such device, the runtime is not available here or not in this precision, or the working
            size is not positive, or the card has more than 255 classes, which labels of 8 bits cannot tell apart.

    Attributes:
        network: The network itself, in evaluation mode, on `device`.
        card: The card of its weights file, with the working size that was requested.
        device: Where it runs.
        deployed: The faster copy; scenes that are streamed are computed by its layers.
        runtime: The runtime that computes the logits.
        choice: Why that runtime was chosen, where it was `"auto"`.
        streams: Whether `network` has its weights, which streaming a scene needs; False where a `Runtime` was given.

    Examples:
        >>> import segscape
        >>> segmenter = segscape.Segmenter.from_weights("scapenet_lite0.street")
        >>> result = segmenter.segment("photo.jpg")  # or a Pillow image, or an array
        >>> result.labels.shape
        (160, 240)
        >>> segmenter.probabilities("photo.jpg").shape
        (11, 160, 240)
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        card: WeightsCard,
        *,
        device: str | torch.device | None = None,
        runtime: str | Runtime = "torch",
        precision: Precision | Literal["auto"] = "auto",
        calibration: Sequence[ImageLike] = (),
        working_size: WorkingSize = "card",
    ) -> None:
        if card.num_classes > IGNORE_INDEX:
            raise ValueError(
                f"Label maps of 8 bits hold at most {IGNORE_INDEX} classes; these weights have {card.num_classes}."
            )
        self.card = with_working_size(card, working_size)
        self.choice: Choice | None = None
        self.streams = isinstance(runtime, str)
        if isinstance(runtime, Runtime):
            self.device, self.runtime, self._calibration = runtime.device, runtime, ""
            self.network = self.deployed = network.eval()
            return
        self.device = usable_device(device)
        if self.device.type == "cpu":
            reuse_freed()
        self.network = network.eval().to(self.device)
        self.deployed = deploy(self.network)
        images = None
        if precision == "int8":
            images = calibration_of(calibration, self.network, card.normalisation, working_size=self.card.working_size)
        self._calibration = images.digest if images else ""
        ready = Deployed(self.deployed, images)
        if runtime == "auto":
            wanted = None if precision == "auto" else precision
            self.runtime, self.choice = choose_runtime(ready, precision=wanted)
        else:
            self.runtime = create_runtime(runtime, ready, precision="fp32" if precision == "auto" else precision)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the weights that count in evaluation, in hexadecimal digits."""
        return Deployed(self.deployed).fingerprint

    @property
    def computed_by(self) -> list[str]:
        """All beside the weights that the bits of the logits depend on: the runtime, its precision and version."""
        return [self.runtime.name, self.runtime.precision, self._calibration, *versions(*_ENGINES).values()]

    @classmethod
    def from_weights(
        cls,
        name_or_path: str | Path,
        device: str | torch.device | None = None,
        *,
        runtime: str = "torch",
        precision: Precision | Literal["auto"] = "auto",
        calibration: Sequence[ImageLike] = (),
        working_size: WorkingSize = "card",
    ) -> Segmenter:
        """Create a segmenter from a name of `list_weights()` or the path of a weights file.

        Args:
            name_or_path: The weights; or the path of a file that `segscape export` wrote, which determines the runtime.
            device: See the class.
            runtime: See the class.
            precision: See the class.
            calibration: See the class.
            working_size: See the class.

        Raises:
            FileNotFoundError: There are no such weights.
            ValueError: The file is damaged, or not of a segmentation network; or see the class.
        """
        if Path(name_or_path).suffix.lower() in EXPORT_SUFFIXES:
            if (runtime, precision) != ("torch", "auto"):
                raise ValueError(
                    f"{name_or_path} is computed by what it was exported for; leave out --runtime and --precision."
                )
            return cls._of_exported(Path(name_or_path), device, working_size)
        path = find_weights(name_or_path)
        card = read_card(path)
        network = create_model(card.network, weights=path)
        if not isinstance(network, SegmentationNetwork):
            raise ValueError(f"{path} holds weights of {card.network}, which does not segment images.")
        return cls(
            network,
            card,
            device=device,
            runtime=runtime,
            precision=precision,
            calibration=calibration,
            working_size=working_size,
        )

    @classmethod
    def _of_exported(cls, path: Path, device: str | torch.device | None, working_size: WorkingSize) -> Segmenter:
        runtime, card, fingerprint = load_exported(path, device)
        with torch.device("meta"):
            network = create_model(card.network, card.num_classes)
        assert isinstance(network, SegmentationNetwork)
        # The weights stay uninitialised: only the shapes of maps are needed, for plans.
        segmenter = cls(network.to_empty(device="cpu"), card, runtime=runtime, working_size=working_size)
        segmenter.fingerprint = fingerprint
        return segmenter

    @torch.inference_mode()
    def segment(self, image: ImageLike) -> Segmentation:
        """Segment one image.

        Args:
            image: A path, a Pillow image, or an array (H, W, 3) uint8, red, green, blue. A photograph's orientation
                tag is applied, and the labels are of the upright image.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, the array is not (H, W, 3) uint8, the image is larger than the runtime's
                only size, or the runtime gives labels and the image is not of the working size.
        """
        start = time.perf_counter()
        pixels = as_pixels(image)
        read = time.perf_counter()
        result, upsampling = self._run(pixels)
        self._synchronise()
        computed = time.perf_counter()
        if not self.runtime.gives_labels:
            result = upsampling.argmax(result)
        return Segmentation(
            labels=np.ascontiguousarray(result.cpu().numpy()[: pixels.shape[0], : pixels.shape[1]]),
            image=pixels,
            class_names=self.card.class_names,
            palette=self.card.palette,
            seconds={
                "read": read - start,
                "network": computed - read,
                "labels": time.perf_counter() - computed,
            },
        )

    @torch.inference_mode()
    def probabilities(self, image: ImageLike) -> npt.NDArray[np.float32]:
        """Compute the probability of each class at every pixel of one image: the softmax of the resized logits.

        The memory needed is that of the network and of the result.

        Args:
            image: See `segment`.

        Returns:
            (K, H, W) float32, 0 to 1; at every pixel the sum over the classes is 1.

        Raises:
            FileNotFoundError: See `segment`.
            ValueError: See `segment`; or the runtime gives labels only.
        """
        if self.runtime.gives_labels:
            raise ValueError(
                "This exported network gives labels, not how probable they are; export it without --labels."
            )
        pixels = as_pixels(image)
        logits, upsampling = self._run(pixels)
        height, width = pixels.shape[:2]
        result = np.empty((len(logits), height, width), np.float32)
        for top in range(0, height, _MOST_BLOCK_ROWS):
            window = Window(top, 0, min(_MOST_BLOCK_ROWS, height - top), width)
            scores = upsampling.scores(logits, window=window)
            result[:, top : top + window.height] = scores.softmax(0).cpu().numpy()
        return result

    def _run(self, pixels: npt.NDArray[np.uint8]) -> tuple[Tensor, Upsampling]:
        """Run the network on an image (H, W, 3); return the result without its batch axis, and its resize to (H, W)."""
        own = pixels.shape[0], pixels.shape[1]
        seen = photograph_sight(self.card, own).size
        self._check_labels(own, seen)
        small = np.require(resize_smoothly(pixels, seen), requirements=["C", "W"])
        batch = torch.from_numpy(small).to(self.device).permute(2, 0, 1).unsqueeze(0)
        images = self._padded(self.card.normalisation(batch))
        result = self.runtime(images)[0]
        upsampling = Upsampling.of_padded(
            (result.shape[-2], result.shape[-1]),
            padded=(images.shape[2], images.shape[3]),
            image=seen,
            size=own,
            align_corners=self.network.align_corners,
        )
        return result, upsampling

    def _check_labels(self, own: tuple[int, int], seen: tuple[int, int]) -> None:
        """Refuse to resize labels to another size: only logits can be interpolated."""
        if self.runtime.gives_labels and own != seen:
            raise ValueError(
                "This exported network gives labels, which cannot be brought from the working size of {} x {} pixels "
                "(height x width) to the image's own {} x {}; export it without --labels, or use --full-size.".format(
                    *seen, *own
                )
            )

    def _padded(self, images: Tensor) -> Tensor:
        """Pad images (1, 3, H, W) to a size that the network accepts, or to the only one that the runtime accepts."""
        if self.runtime.size is None:
            return pad_to_fit(self.network, images)
        down, right = (most - side for most, side in zip(self.runtime.size, images.shape[2:], strict=True))
        if min(down, right) < 0:
            raise ValueError(
                "This exported network takes images of up to {} x {} pixels (height x width), not of {} x {}; export "
                "it with --size dynamic{}.".format(
                    *self.runtime.size,
                    *images.shape[2:],
                    "" if self.card.working_size is None else ", or give a smaller --working-size",
                )
            )
        return F.pad(images, (0, right, 0, down))

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
