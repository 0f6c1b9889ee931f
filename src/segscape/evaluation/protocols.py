"""Evaluation protocols: how an image becomes the label map that is scored.

A protocol is a few settings that a config can hold, and describes itself in one line, so that every score can be
reported with how it was measured. It covers STDC-Seg's scaled tensors, MMSegmentation's rescaled images with the mean
of their softmax maps, ISDNet's reduced test images, and sssegmentation's scaled tensors, whole or by sliding windows,
with the mean of logits or of softmax maps at the network's stride.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.networks import SegmentationNetwork
from segscape.normalisation import Normalisation
from segscape.rasters.resize import kept_ratio_size, resize_pixels
from segscape.segmentation.padding import pad_to_fit


@dataclass(frozen=True)
class TestSize:
    """The size at which a data set's images are tested, in place of their own.

    Attributes:
        base: (height, width) in pixels.
        keep_ratio: Whether the image is fitted into `base` in its own aspect, see `kept_ratio_size`, or gets exactly
            this size.
    """

    base: tuple[int, int]
    keep_ratio: bool = True

    # pytest takes a class of this name for a test.
    __test__ = False

    def scaled(self, size: tuple[int, int], scale: float) -> tuple[int, int]:
        """Return the size (height, width) for an image of `size`; `base` times `scale` is rounded down first."""
        height, width = (max(int(side * scale), 1) for side in self.base)
        return kept_ratio_size(size, (height, width)) if self.keep_ratio else (height, width)


@dataclass(frozen=True)
class EvaluationProtocol:
    """How images are evaluated.

    Attributes:
        size: The test size, to which OpenCV resizes the 8-bit image, or `None` for the image's own.
        scales: The factors at which the image is evaluated. The results of several are averaged.
        scaling: Whether a scale resizes the normalised `"tensor"`, as in STDC-Seg and sssegmentation, or the 8-bit
            `"pixels"`, as in MMSegmentation, there by rounding down the test size times the scale.
        flip: Whether every scale is also evaluated mirrored, and averaged.
        window: (height, width) of sliding windows, or `None` to evaluate the image whole.
        stride: (height, width) from window to window.
        softmax: Which maps are averaged: logits (`"none"`), probabilities computed at the network's stride or, with
            windows, at their size (`"network"`), or probabilities computed at the image's size (`"image"`).
        two_steps: Whether scores are resized to the network's input size first and then to the image's, as all but
            sssegmentation do, or straight to the image's.
    """

    size: TestSize | None = None
    scales: tuple[float, ...] = (1.0,)
    scaling: Literal["tensor", "pixels"] = "tensor"
    flip: bool = False
    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    softmax: Literal["none", "network", "image"] = "none"
    two_steps: bool = True

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"A protocol needs positive scales, not {list(self.scales)}.")
        if (self.window is None) != (self.stride is None):
            raise ValueError("Sliding windows need both window and stride, each (height, width).")
        if self.window and self.stride and any(s < 1 or s > w for s, w in zip(self.stride, self.window, strict=True)):
            raise ValueError(f"The stride {self.stride} must be at least 1 and at most the window {self.window}.")

    @property
    def name(self) -> str:
        """A short name, for columns and log entries; it differs wherever the settings do."""
        parts = [f"slide{_by(self.window)}by{_by(self.stride)}" if self.window and self.stride else "whole"]
        if self.size is not None:
            parts.append(f"{'fit' if self.size.keep_ratio else ''}{_by(self.size.base)}")
        parts.append("+".join(f"{scale:g}" for scale in self.scales))
        parts += ["pixels"] if self.scaling == "pixels" else []
        parts += ["flip"] if self.flip else []
        parts += [f"softmax@{self.softmax}"] if self.softmax != "none" else []
        parts += [] if self.two_steps else ["direct"]
        return "-".join(parts)

    def __str__(self) -> str:
        """Return a description of the protocol in one line, for people."""
        windows = f"windows of {_by(self.window)} every {_by(self.stride)}" if self.window and self.stride else ""
        parts = [windows or "whole image"]
        if self.size is not None:
            parts.append(f"{'fitted into' if self.size.keep_ratio else 'resized to'} {_by(self.size.base)}")
        scales = ("scale " if len(self.scales) == 1 else "scales ") + ", ".join(f"{scale:g}" for scale in self.scales)
        what = "8-bit pixels" if self.scaling == "pixels" else "normalised tensor"
        parts.append(scales if set(self.scales) == {1.0} else f"{scales} of the {what}")
        parts.append("plain and mirrored" if self.flip else "not mirrored")
        made = {
            "none": "logits",
            "network": f"softmax {'of each window' if windows else 'at the network stride'}",
            "image": "softmax at the image size",
        }[self.softmax]
        mean = "mean of " if self.flip or len(self.scales) > 1 else ""
        steps = "to the network input and then to the image" if self.two_steps else "straight to the image"
        return f"{', '.join(parts)}; {mean}{made}, resized {steps}"


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def score_maps(
    protocol: EvaluationProtocol,
    network: SegmentationNetwork,
    images: Tensor,
    *,
    normalise: Normalisation,
    flip_pairs: Sequence[tuple[int, int]] = (),
) -> Tensor:
    """Compute the maps of a protocol for images; the arg-max over the classes is the label map.

    Args:
        protocol: The protocol.
        network: In evaluation mode, on the images' device.
        images: (N, 3, H, W) uint8.
        normalise: Converts these to the network's input.
        flip_pairs: Pairs of classes that swap places in a mirror image.

    Returns:
        (N, K, H, W) float32, logits or probabilities, as the protocol has it. Besides the sum, one set of maps is held
        at a time.
    """
    size = images.shape[-2], images.shape[-1]
    if protocol.scaling == "pixels":
        views: Iterable[Tensor] = (normalise(_test_images(protocol, images, scale)) for scale in protocol.scales)
    else:
        tensor = normalise(_test_images(protocol, images, 1.0))
        views = scaled_tensors(tensor, protocol.scales, align_corners=network.align_corners)
    return mean_score_maps(protocol, network, views, size, flip_pairs=flip_pairs)


def scaled_tensors(images: Tensor, scales: Iterable[float], *, align_corners: bool) -> Iterator[Tensor]:
    """Yield normalised images (N, 3, H, W) at each scale: bilinear, of size (int(H * scale), int(W * scale)).

    Without `align_corners` the pixels are sampled by the scale itself, not by the ratio of the rounded sizes.
    """
    for scale in scales:
        if scale == 1:
            yield images
        else:
            yield F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=align_corners)


def mean_score_maps(
    protocol: EvaluationProtocol,
    network: SegmentationNetwork,
    views: Iterable[Tensor],
    size: tuple[int, int],
    *,
    flip_pairs: Sequence[tuple[int, int]] = (),
) -> Tensor:
    """Average a protocol's maps over the views of an image.

    Args:
        protocol: Gives the windows, flip, softmax and steps; the scales are those of the views.
        network: In evaluation mode.
        views: The normalised images (N, 3, h, w) at each scale.
        size: (height, width) of the result.
        flip_pairs: Pairs of classes that swap places in a mirror image.

    Returns:
        (N, K, height, width) float32.
    """
    total: Tensor | None = None
    count = 0
    for view in views:
        for mirrored in (False, True) if protocol.flip else (False,):
            maps = _maps_of_view(protocol, network, view.flip(-1) if mirrored else view, size)
            if mirrored:
                maps = maps.flip(-1)[:, _mirrored_classes(maps.shape[1], flip_pairs)]
            total = maps if total is None else total.add_(maps)
            count += 1
    assert total is not None
    return total.div_(count) if count > 1 else total


def sliding_windows(
    size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]
) -> list[tuple[slice, slice]]:
    """Return the rows and columns of each window; the last one of an axis is moved back to end with it.

    Args:
        size: (height, width) of the image.
        window: (height, width); an axis that is shorter than this has one window of its own length.
        stride: (height, width) from one window to the next.
    """

    def along(side: int, length: int, step: int) -> list[slice]:
        count = max(side - length + step - 1, 0) // step + 1
        ends = (min(index * step + length, side) for index in range(count))
        return [slice(max(end - length, 0), end) for end in ends]

    rows, columns = (along(*axis) for axis in zip(size, window, stride, strict=True))
    return [(row, column) for row in rows for column in columns]


def _test_images(protocol: EvaluationProtocol, images: Tensor, scale: float) -> Tensor:
    """Resize the 8-bit images to the protocol's test size times `scale`."""
    size = images.shape[-2], images.shape[-1]
    target = (protocol.size or TestSize(size)).scaled(size, scale)
    if target == size:
        return images
    arrays = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    resized = torch.stack([torch.from_numpy(resize_pixels(array, target)) for array in arrays])
    return resized.permute(0, 3, 1, 2).to(images.device)


def _maps_of_view(
    protocol: EvaluationProtocol, network: SegmentationNetwork, view: Tensor, size: tuple[int, int]
) -> Tensor:
    """Compute the maps of one view that the protocol averages, at the image's size and in float32."""
    maps = _windows_mean(protocol, network, view) if protocol.window else _logits(network, view)
    if protocol.softmax == "network" and not protocol.window:
        maps = maps.softmax(1)
    if protocol.two_steps:
        maps = _resize(maps, (view.shape[-2], view.shape[-1]), network)
    maps = _resize(maps, size, network)
    return maps.softmax(1) if protocol.softmax == "image" else maps


def _windows_mean(protocol: EvaluationProtocol, network: SegmentationNetwork, view: Tensor) -> Tensor:
    """Compute the maps of all windows at the view's size, each pixel averaged over the windows that contain it."""
    assert protocol.window is not None
    assert protocol.stride is not None
    size = view.shape[-2], view.shape[-1]
    total: Tensor | None = None
    count = torch.zeros(size, device=view.device)
    for rows, columns in sliding_windows(size, protocol.window, protocol.stride):
        part = view[..., rows, columns]
        maps = _resize(_logits(network, part), (part.shape[-2], part.shape[-1]), network)
        if protocol.softmax == "network":
            maps = maps.softmax(1)
        if total is None:
            total = maps.new_zeros(*maps.shape[:2], *size)
        total[..., rows, columns] += maps
        count[rows, columns] += 1
    assert total is not None
    return total.div_(count)


def _logits(network: SegmentationNetwork, images: Tensor) -> Tensor:
    """Compute float32 logits at the network's stride, or at the images' own size where they are padded to fit."""
    padded = pad_to_fit(network, images)
    logits = network(padded).float()
    if padded.shape == images.shape:
        return logits
    at_size = _resize(logits, (padded.shape[-2], padded.shape[-1]), network)
    return at_size[..., : images.shape[-2], : images.shape[-1]]


def _resize(maps: Tensor, size: tuple[int, int], network: SegmentationNetwork) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=network.align_corners)


def _mirrored_classes(num_classes: int, flip_pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each class the one that takes its place in a mirror image."""
    order = list(range(num_classes))
    for first, second in flip_pairs:
        order[first], order[second] = second, first
    return order
