"""ResNeSt-101 at output stride 8 written out once more, from its paper and the entries of its official checkpoints.

No official output is at hand; this is a second, separate way to compute the same, under the official names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

STAGES = {
    # Blocks, channels inside, stride, dilation of the first block, dilation of the others.
    "layer1": (3, 64, 1, 1, 1),
    "layer2": (4, 128, 2, 1, 1),
    "layer3": (23, 256, 1, 1, 2),
    "layer4": (3, 512, 1, 2, 4),
}


def shapes() -> dict[str, list[int]]:
    """The entries of the official backbone, without a prefix."""
    found: dict[str, list[int]] = {}

    def conv(name: str, out: int, inside: int, kernel: int) -> None:
        found[f"{name}.weight"] = [out, inside, kernel, kernel]

    def norm(name: str, channels: int) -> None:
        found.update({f"{name}.{leaf}": [channels] for leaf in ("weight", "bias", "running_mean", "running_var")})
        found[f"{name}.num_batches_tracked"] = []

    for number, (inside, out) in enumerate([(3, 64), (64, 64), (64, 128)]):
        conv(f"stem.{3 * number}", out, inside, 3)
        norm(f"stem.{3 * number + 1}", out)
    inside = 128
    for stage, (blocks, width, *_) in STAGES.items():
        for block in range(blocks):
            name = f"{stage}.{block}"
            conv(f"{name}.conv1", width, inside, 1)
            norm(f"{name}.bn1", width)
            conv(f"{name}.conv2.conv", 2 * width, width // 2, 3)
            norm(f"{name}.conv2.bn0", 2 * width)
            for layer, (out, into) in {"fc1": (width // 2, width), "fc2": (2 * width, width // 2)}.items():
                conv(f"{name}.conv2.{layer}", out, into, 1)
                found[f"{name}.conv2.{layer}.bias"] = [out]
            norm(f"{name}.conv2.bn1", width // 2)
            conv(f"{name}.conv3", 4 * width, width, 1)
            norm(f"{name}.bn3", 4 * width)
            if block == 0:
                conv(f"{name}.downsample.1", 4 * width, inside, 1)
                norm(f"{name}.downsample.2", 4 * width)
            inside = 4 * width
    return found


def stages(state: Mapping[str, Tensor], images: Tensor) -> Iterator[Tensor]:
    """The outputs of the four stages, in evaluation mode."""

    def norm(x: Tensor, name: str) -> Tensor:
        leaves = (state[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *leaves, training=False, eps=1e-5)

    def conv(x: Tensor, name: str, **settings: int) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **settings)

    x = images
    for number, stride in enumerate((2, 1, 1)):
        x = F.relu(norm(conv(x, f"stem.{3 * number}", stride=stride, padding=1), f"stem.{3 * number + 1}"))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, (blocks, _, first_stride, first, others) in STAGES.items():
        for block in range(blocks):
            name = f"{stage}.{block}"
            stride, dilation = (first_stride, first) if block == 0 else (1, others)
            out = F.relu(norm(conv(x, f"{name}.conv1"), f"{name}.bn1"))
            out = conv(out, f"{name}.conv2.conv", padding=dilation, dilation=dilation, groups=2)
            halves = F.relu(norm(out, f"{name}.conv2.bn0")).chunk(2, dim=1)
            mean = (halves[0] + halves[1]).mean((2, 3), keepdim=True)
            mean = F.relu(norm(conv(mean, f"{name}.conv2.fc1"), f"{name}.conv2.bn1"))
            attention = torch.stack(conv(mean, f"{name}.conv2.fc2").chunk(2, dim=1)).softmax(0)
            out = attention[0] * halves[0] + attention[1] * halves[1]
            if stride > 1:
                out = F.avg_pool2d(out, 3, stride, 1)
            out = norm(conv(out, f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                x = F.avg_pool2d(x, stride, stride, ceil_mode=True, count_include_pad=False)
                x = norm(conv(x, f"{name}.downsample.1"), f"{name}.downsample.2")
            x = F.relu(out + x)
        yield x
