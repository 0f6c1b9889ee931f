"""Small made-up networks, each with a layer that a stranger's network may have, and whether it can be streamed.

Every network maps images (N, 3, H, W) to logits (N, 5, h, w) at its stride.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.networks import SegmentationNetwork


class Stranger(SegmentationNetwork):
    """A convolution of stride 2, a body of 8 channels, a classifier."""

    stride: ClassVar[int] = 2
    align_corners: ClassVar[bool] = False

    def __init__(
        self, body: nn.Module, channels: int = 8, *, stride: int = 2, multiple: int = 1, least: int = 1
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = body
        self.classifier = nn.Conv2d(channels, 5, 1)
        self.stride = stride  # type: ignore[misc]
        self.size_multiple, self.min_size = multiple, least

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 5, h, w)."""
        return self.classifier(self.body(self.stem(x)))


class Body(nn.Module):
    """A function of a map as a module, with the layers that it uses."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.function = nn.ModuleDict(layers), function
        # Engines are kept by what modules say of themselves, and a function says nothing.
        self.code = f"{function.__code__.co_code.hex()} {function.__code__.co_consts}"

    def forward(self, x: Tensor) -> Tensor:
        """What the function makes of a map."""
        return self.function(x, *self.layers.values())


class _PyramidPooling(nn.Module):
    """PSPNet's (arXiv:1612.01105), figure 3c."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), nn.Conv2d(8, 2, 1), nn.BatchNorm2d(2), nn.ReLU())
            for bins in (1, 2, 3, 6)
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled = [F.interpolate(branch(x), x.shape[2:], mode="bilinear") for branch in self.branches]
        return torch.cat([x, *pooled], 1)[:, :8]


class _SqueezeExcite(nn.Module):
    """With fully connected layers, as its authors have it (arXiv:1709.01507)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layers(x.mean((2, 3)))[:, :, None, None]


def _attention(x: Tensor) -> Tensor:
    flat = x.flatten(2)
    return (flat @ (flat.transpose(1, 2) @ flat).softmax(-1)).view(x.shape)


def _interpolated_mean(mode: str, **settings: bool) -> nn.Module:
    mix = nn.Conv2d(8, 8, 3, padding=1)
    return Body(
        lambda x, mix: mix(F.interpolate(F.adaptive_avg_pool2d(x, 1), x.shape[2:], mode=mode, **settings) + x), mix=mix
    )


def _unpooled(x: Tensor) -> Tensor:
    return F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=x.shape[2:])


STREAMED: dict[str, Callable[[], Stranger]] = {
    "norm before its activation": lambda: Stranger(
        nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
    ),
    "interpolated mean": lambda: Stranger(_interpolated_mean("bilinear", align_corners=False)),
    "mean repeated": lambda: Stranger(_interpolated_mean("nearest")),
    "mean as an average pooling": lambda: Stranger(Body(lambda x: x - F.avg_pool2d(x, x.shape[2:]))),
    "sum over the map": lambda: Stranger(Body(lambda x: x + x.sum((2, 3), keepdim=True) / 1000)),
    "two means of one map": lambda: Stranger(
        Body(lambda x: x * x.mean((2, 3), keepdim=True).sigmoid() + x.mean((2, 3), keepdim=True))
    ),
    "a mean of a mean's map": lambda: Stranger(
        Body(lambda x: (y := x * x.mean((2, 3), keepdim=True)) + (y - 1).relu().mean((2, 3), keepdim=True))
    ),
    "mean of the images": lambda: _OwnNormalisation(),
    "pyramid pooling": lambda: Stranger(_PyramidPooling()),
    "squeeze and excite": lambda: Stranger(_SqueezeExcite()),
    "transposed convolution": lambda: Stranger(
        nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ConvTranspose2d(8, 8, 3, 2, 1, 1), nn.PReLU(8)), multiple=4
    ),
    "dilated transposed convolution in groups": lambda: Stranger(
        nn.Sequential(nn.ConvTranspose2d(8, 12, 4, 2, 3, 1, groups=2, dilation=2), nn.AvgPool2d(2)), 12
    ),
    "PReLU": lambda: Stranger(nn.PReLU()),
    "activations": lambda: Stranger(
        nn.Sequential(nn.Hardswish(), nn.GELU(), nn.ELU(), nn.Mish(), nn.Softplus(), nn.Tanh(), nn.ReLU6(), nn.SiLU())
    ),
    "pixel shuffle": lambda: Stranger(
        nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(32, 32, 3, padding=1), nn.PixelShuffle(2)), multiple=4
    ),
    "channels split and shuffled": lambda: Stranger(
        Body(
            lambda x, conv, shuffle: shuffle(torch.cat([x.chunk(2, 1)[1], conv(x.chunk(2, 1)[0])], 1)),
            conv=nn.Conv2d(4, 4, 3, padding=1),
            shuffle=nn.ChannelShuffle(4),
        )
    ),
    "spatial attention": lambda: Stranger(
        Body(
            lambda x, conv: x * conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid(),
            conv=nn.Conv2d(2, 1, 7, padding=3),
        )
    ),
    "softmax of channels": lambda: Stranger(Body(lambda x: x.softmax(1) * x.max(1, keepdim=True)[0])),
    "unit vectors": lambda: Stranger(Body(lambda x: F.normalize(x, dim=1))),
    "padding in words": lambda: Stranger(nn.Conv2d(8, 8, (4, 3), padding="same", dilation=(1, 2))),
    "reflected padding": lambda: Stranger(nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")),
    "uneven padding": lambda: Stranger(nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), nn.Conv2d(8, 8, (4, 4)))),
    "cropped": lambda: Stranger(Body(lambda x, conv: conv(x)[:, :, 1:-1, 1:-1], conv=nn.Conv2d(8, 8, 3, padding=2))),
    "every other pixel": lambda: Stranger(Body(lambda x: x[:, :, ::2, ::2]), stride=4),
    "poolings that reach beyond": lambda: Stranger(
        nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(3, 1, 1, count_include_pad=False)), stride=4
    ),
    "average pooling that counts its padding": lambda: Stranger(nn.AvgPool2d(5, 1, 2)),
    "average pooling with a divisor": lambda: Stranger(nn.AvgPool2d(3, 1, 1, divisor_override=5)),
    "average pooling that reaches beyond": lambda: Stranger(nn.AvgPool2d(2, ceil_mode=True), stride=4),
    "constants in the forward pass": lambda: Stranger(
        Body(lambda x: x * torch.tensor([1.0, 2.0] * 4).view(1, 8, 1, 1).to(x) + torch.arange(8).view(8, 1, 1).to(x))
    ),
    "chosen by value": lambda: Stranger(Body(lambda x: torch.where(x > 0, x, 0.1 * x**2) / 2 - 1)),
    "nearest and exact": lambda: Stranger(
        Body(lambda x: F.interpolate(F.interpolate(x, scale_factor=1.5), x.shape[2:], mode="nearest-exact"))
    ),
    "resized and back": lambda: Stranger(
        Body(
            lambda x: F.interpolate(
                F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=True), x.shape[2:], mode="bilinear"
            )
        )
    ),
    "area resize": lambda: Stranger(
        Body(lambda x: F.adaptive_avg_pool2d(x, (x.shape[2] // 2, x.shape[3] // 2))), stride=4, multiple=4
    ),
}
"""Each is computed by blocks with the numbers of the whole."""

REFUSED: dict[str, tuple[Callable[[], Stranger], str]] = {
    "attention": (lambda: Stranger(Body(_attention)), "rearranges the axes of a map"),
    "group normalisation": (lambda: Stranger(nn.GroupNorm(2, 8)), "normalises by the deviation"),
    "instance normalisation": (lambda: Stranger(nn.InstanceNorm2d(8)), "normalises by the deviation"),
    "max unpooling": (lambda: Stranger(Body(_unpooled), multiple=4), "counted over the whole map"),
    "maximum over the map": (lambda: Stranger(Body(lambda x: x - x.amax((2, 3), keepdim=True))), "rows or columns"),
    "adaptive maximum": (lambda: Stranger(Body(lambda x: x - F.adaptive_max_pool2d(x, 1))), "maximum of the whole map"),
    "mean of each row": (lambda: Stranger(Body(lambda x: x - x.mean(3, keepdim=True))), "rows or columns"),
    "softmax of places": (lambda: Stranger(Body(lambda x: x.softmax(2))), "rows or columns"),
    "mirrored": (lambda: Stranger(Body(lambda x: x.flip(3))), "one edge of a map to another"),
    "circular padding": (lambda: Stranger(nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")), "the other edge"),
    "a place's own value": (
        lambda: Stranger(Body(lambda x: x + torch.arange(x.shape[-1]).to(x))),
        "value of its own at each place",
    ),
    "bicubic resize": (
        lambda: Stranger(Body(lambda x: F.interpolate(x, x.shape[2:], mode="bicubic"))),
        "no rule by which upsample_bicubic2d",
    ),
    "layer normalisation": (
        lambda: Stranger(Body(lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2))),
        "rearranges the axes",
    ),
    "a branch by value": (lambda: Stranger(Body(lambda x: x if x.sum() > 0 else -x)), "PyTorch cannot take its graph"),
}
"""Each is refused before any work, for the reason that matches."""


class _OwnNormalisation(Stranger):
    """Subtracts the images' own mean."""

    def __init__(self) -> None:
        super().__init__(nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 5, h, w)."""
        return super().forward(x - F.adaptive_avg_pool2d(x, 1))
