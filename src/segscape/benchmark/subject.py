"""Networks prepared for timing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypedDict

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.benchmark.entry import Entry, Figure
from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.shipped import find_weights, read_card
from segscape.checkpoints.store import create_model
from segscape.choices import Precision, RefinerPrecision
from segscape.export.read import SUFFIXES as EXPORT_SUFFIXES
from segscape.networks import RefinementNetwork, SegmentationNetwork, list_models
from segscape.normalisation import Normalisation
from segscape.rasters.image import read_image
from segscape.rasters.masks import read_mask
from segscape.refinement.refiner import Refiner
from segscape.segmentation.segmenter import Segmenter
from segscape.segmentation.upsampling.argmax import upsample_argmax

NUM_CLASSES = 19
"""The number of classes of networks with random weights: as many as Cityscapes has."""
_EXAMPLES = Path(str(files("segscape"))) / "examples"


class _Options(TypedDict):
    """The options that every segmenter is created with."""

    device: str | None
    runtime: str
    precision: Precision | Literal["auto"]
    calibration: list[Path]
    working_size: None


@dataclass(frozen=True)
class Subject:
    """A network and the calls that are timed.

    Attributes:
        network: The network itself.
        name: The network's registered name.
        num_classes: K, the number of classes.
        device: The device that it runs on.
        runtime: Name of the runtime that computes.
        precision: The precision that it computes in.
        reason: Why the runtime was chosen, if it was.
        runs: The calls that are timed, by figure.
        macs: Returns the multiply-accumulates for one image, once it has run; None where they are not counted.
    """

    network: nn.Module
    name: str
    num_classes: int
    device: torch.device
    runtime: str
    precision: str
    reason: str | None
    runs: Mapping[Figure, Callable[[], object]]
    macs: Callable[[], int | None]

    @property
    def parameters(self) -> int:
        """The number of parameters, without those of the heads that only training uses."""
        unused = self.network.parts.training_only if isinstance(self.network, SegmentationNetwork) else ()
        heads = tuple(f"{head}." for head in unused)
        return sum(value.numel() for name, value in self.network.named_parameters() if not name.startswith(heads))


def card_of(name: str) -> WeightsCard | None:
    """Return the card of weights, or None for networks, which get random weights, and for exported files.

    Raises:
        FileNotFoundError: There is neither a network nor weights of this name.
        ValueError: The file is no weights file.
    """
    if name in (*list_models(), *list_models(task="refinement")):
        return None
    path = find_weights(name)
    return None if path.suffix.lower() in EXPORT_SUFFIXES else read_card(path)


def is_refiner(name: str) -> bool:
    """Return whether a network or weights refine masks.

    Raises:
        FileNotFoundError: See `card_of`.
        ValueError: See `card_of`.
    """
    card = card_of(name)
    return (card.network if card else name) in list_models(task="refinement")


def example_frames() -> list[Path]:
    """Return the paths of the street frames that ship with the package."""
    return sorted((_EXAMPLES / "camvid" / "images" / "val").glob("*.jpg"))


def example_pair(size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Return the photograph that ships with the package and its coarse mask, resized to (height, width)."""
    folder = _EXAMPLES / "refine"
    image = _resized(folder / "aeroplane.jpg", size, Image.Resampling.BICUBIC)
    return image, _resized(folder / "aeroplane.png", size, Image.Resampling.NEAREST)


def prepare_segmentation(entry: Entry, folder: Path) -> Subject:
    """Prepare a network that segments images, with a shipped street frame of the entry's size.

    Args:
        entry: The entry to measure.
        folder: Where the frame and the labels are written.

    Raises:
        FileNotFoundError: There are no such weights.
        ValueError: The runtime or the precision is not available here.
    """
    segmenter = _segmenter(entry)
    frame, output = folder / "frame.png", folder / "labels.png"
    _resized(example_frames()[0], entry.size, Image.Resampling.BICUBIC).save(frame)
    images, runtime = _images(segmenter, frame), segmenter.runtime
    size = (images.shape[2], images.shape[3])

    def labels() -> Tensor:
        result = runtime(images)[0]
        if runtime.gives_labels:
            return result
        return upsample_argmax(result, size, align_corners=segmenter.network.align_corners)

    return Subject(
        network=segmenter.network,
        name=segmenter.card.network,
        num_classes=segmenter.card.num_classes,
        device=segmenter.device,
        runtime=runtime.name,
        precision=runtime.precision,
        reason=segmenter.choice.reason if segmenter.choice else None,
        runs={
            "network": lambda: runtime(images),
            "labels": labels,
            "file": lambda: segmenter.segment(frame).save(output),
        },
        macs=lambda: None,
    )


def prepare_refinement(entry: Entry, folder: Path) -> Subject:
    """Prepare a network that refines masks, with the shipped photograph and its mask at the entry's size.

    Args:
        entry: The entry to measure.
        folder: Where the image and the masks are written.

    Raises:
        FileNotFoundError: There are no such weights.
        ValueError: Masks are not refined by this runtime or in this precision.
    """
    if entry.runtime not in ("torch", "auto") or entry.precision == "int8":
        raise ValueError("Masks are refined by the runtime torch alone, in fp32, bf16 or fp16.")
    precision: RefinerPrecision = "fp32" if entry.precision == "auto" else entry.precision
    card = card_of(entry.name)
    if card:
        refiner = Refiner.from_weights(entry.name, entry.device, precision=precision)
    else:
        torch.manual_seed(0)
        network = create_model(entry.name)
        assert isinstance(network, RefinementNetwork)
        refiner = Refiner(network, entry.device, precision=precision)
    image, coarse, output = (folder / file for file in ("image.png", "mask.png", "refined.png"))
    for picture, path in zip(example_pair(entry.size), (image, coarse), strict=True):
        picture.save(path)
    pixels, mask = read_image(image), read_mask(coarse)
    million_macs: list[int] = []
    return Subject(
        network=refiner.network,
        name=card.network if card else entry.name,
        num_classes=1,
        device=refiner.device,
        runtime="torch",
        precision=precision,
        reason=None,
        runs={
            "labels": lambda: refiner.refine(pixels, mask, on_progress=lambda _, total: million_macs.append(total)),
            "file": lambda: refiner.refine(image, coarse).save(output),
        },
        macs=lambda: 10**6 * max(million_macs),
    )


def _segmenter(entry: Entry) -> Segmenter:
    options: _Options = {
        "device": entry.device,
        "runtime": entry.runtime,
        "precision": entry.precision,
        "calibration": example_frames(),
        # The entry sets the size.
        "working_size": None,
    }
    if entry.name not in list_models():
        return Segmenter.from_weights(entry.name, **options)
    torch.manual_seed(0)
    network = create_model(entry.name, NUM_CLASSES)
    assert isinstance(network, SegmentationNetwork)
    names = tuple(f"class {index}" for index in range(NUM_CLASSES))
    card = WeightsCard(entry.name, names, ((0, 0, 0),) * NUM_CLASSES, Normalisation())
    return Segmenter(network, card, **options)


def _images(segmenter: Segmenter, frame: Path) -> Tensor:
    """Return a frame (1, 3, H, W) as the runtime takes it: on its device, normalised and padded."""
    pixels = torch.from_numpy(read_image(frame).copy()).to(segmenter.device).permute(2, 0, 1).unsqueeze(0)
    images = segmenter.card.normalisation(pixels)
    height, width = segmenter.runtime.size or segmenter.network.fitting_size(*images.shape[2:])
    return F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]))


def _resized(path: Path, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """Return an image resized to (height, width)."""
    with Image.open(path) as image:
        return image.resize(size[::-1], resampling)
