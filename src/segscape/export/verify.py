"""The comparison of an exported file with its network in PyTorch, on real images."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segscape.checkpoints.card import WeightsCard
from segscape.export.read import ExportedGraph
from segscape.networks import RefinementNetwork
from segscape.rasters.image import read_image
from segscape.rasters.masks import read_mask
from segscape.runtime.graphs import Network, least_traced_side, whole_network

MOST_ERROR = 1e-4
"""The upper bound of the difference between logits, relative to the largest of them."""
MOST_DIFFERENT = 1e-3
"""The upper bound of the share of labels that differ, as they may where two classes' logits are equal up to
rounding."""

_EXAMPLES = Path(str(files("segscape"))) / "examples"
# Sizes of the images that a graph for any size is tried on, before they are rounded up to fit; with an odd side too.
_TRIED_SIZES = ((255, 382), (320, 256))


@dataclass(frozen=True)
class Verification:
    """The comparison of an exported file with PyTorch.

    Attributes:
        labels: Whether labels were compared; otherwise logits.
        errors: Error by the images' shape (N, H, W): for logits the largest difference, relative to the largest logit;
            for labels the share that differs.
    """

    labels: bool
    errors: dict[tuple[int, int, int], float]

    @property
    def worst(self) -> float:
        """The largest error."""
        return max(self.errors.values())

    @property
    def passed(self) -> bool:
        """Whether the file may be used in place of the network."""
        return self.worst <= _most(self.labels)

    def __str__(self) -> str:
        tried = " and ".join(f"{count} of {height}x{width}" for count, height, width in self.errors)
        if self.labels:
            return f"{1 - self.worst:.4%} of the labels equal PyTorch's, on real images: {tried}"
        return f"worst error {self.worst:.1e} of the largest logit against PyTorch, on real images: {tried}"


@torch.inference_mode()
def verify(graph: ExportedGraph, network: Network) -> Verification:
    """Compare an exported file with its network, on images that ship with the package.

    Some networks amplify rounding errors so much that even the order of their additions matters. Where the error
    against the network in float32 exceeds the limit, the network in float64 is therefore the reference.

    Args:
        graph: The file, as it was read back.
        network: The network that was exported, on the CPU, in evaluation mode.
    """
    labels = graph.metadata.output == "labels"
    errors = {}
    for count, height, width in _shapes(graph, network):
        inputs = _inputs(network, graph.card, count, (height, width))
        result = graph.run(inputs)
        error = _error(result, whole_network(network, labels=labels)(*inputs))
        if error > _most(labels):
            exact = whole_network(copy.deepcopy(network).double(), labels=labels)(*(x.double() for x in inputs))
            error = _error(result, exact.to(result.dtype))
        errors[count, height, width] = error
    return Verification(labels, errors)


def _most(labels: bool) -> float:
    return MOST_DIFFERENT if labels else MOST_ERROR


def _shapes(graph: ExportedGraph, network: Network) -> list[tuple[int, int, int]]:
    """Return the shapes (N, H, W) of the images to try."""
    if graph.metadata.size is not None:
        return [(1, *graph.metadata.size)]
    least = max(least_traced_side(network), graph.metadata.min_size)
    first, second = (network.fitting_size(*(max(side, least) for side in size)) for size in _TRIED_SIZES)
    # With a large `size_multiple` both sizes may round up to squares, so the first is widened.
    return [(1, first[0], first[1] + network.size_multiple), (2, *second)]


def _inputs(network: Network, card: WeightsCard, count: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Return real images (N, 3, H, W), normalised, and for a network that refines masks real masks (N, 1, H, W)."""
    if not isinstance(network, RefinementNetwork):
        paths = sorted((_EXAMPLES / "camvid" / "images" / "val").iterdir())[:count]
        return (card.normalisation(torch.stack([_image(path, size) for path in paths])),)
    folder = _EXAMPLES / "refine"
    image = _image(folder / "aeroplane.jpg", size)
    mask = np.asarray(Image.fromarray(read_mask(folder / "aeroplane.png")).resize(size[::-1]), np.float32)
    masks = torch.from_numpy(mask / 127.5 - 1).expand(count, 1, *size)
    return card.normalisation(image.expand(count, -1, -1, -1)), masks.contiguous()


@lru_cache(maxsize=8)
def _image(path: Path, size: tuple[int, int]) -> Tensor:
    """Read an image and resize it to (height, width); return it as (3, H, W) uint8."""
    resized = Image.fromarray(read_image(path)).resize(size[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def _error(result: Tensor, expected: Tensor) -> float:
    if result.shape != expected.shape or result.dtype != expected.dtype:
        return float("inf")
    if expected.dtype == torch.uint8:
        return (result != expected).double().mean().item()
    error = ((result - expected).abs().max() / expected.abs().max()).item()
    # NaN compares as false with every limit, so it is turned into an error that exceeds all.
    return error if error == error else float("inf")
