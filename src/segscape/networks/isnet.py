"""ISNet: a dilated ResNet and two attentions in series, the first over the image, the second over the classes.

Paper: ISNet: Integrate Image-Level and Semantic-Level Context for Semantic Segmentation (ICCV 2021, arXiv:2108.12382).
Origin: github.com/SegmentationBLWX/sssegmentation. What differs: attention is computed block by block, so that no
matrix of pixels by pixels is ever held; classes are pooled without a loop; and in evaluation the second attention
reads each class once, weighted by its number of pixels, instead of once a pixel, which gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.networks.base import Parts, SegmentationNetwork, SegmentationOutput
from segscape.networks.layers import ConvNormAct, GlobalMean, SegmentationHead
from segscape.networks.resnet import DeepStemBackbone, DeepStemResNeSt101, DeepStemResNet
from segscape.registry import register_model

_CHANNELS = 512
_ATTENTION_CHANNELS = 256
_SHORTCUT_CHANNELS = 48
_DROPOUT = 0.1
_CONTEXT_STRIDE: Final = 8
_LIP_SLOPE = 0.01

Backbone = Literal["resnet50", "resnet101", "resnest101"]
# How each is built, and timm's name of its ImageNet weights.
_BACKBONES: dict[Backbone, tuple[Callable[[], DeepStemBackbone], str]] = {
    "resnet50": (partial(DeepStemResNet, 50, output_stride=_CONTEXT_STRIDE), "resnet50c.gluon_in1k"),
    "resnet101": (partial(DeepStemResNet, 101, output_stride=_CONTEXT_STRIDE), "resnet101c.gluon_in1k"),
    "resnest101": (DeepStemResNeSt101, "resnest101e.in1k"),
}


def _tokens(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, 1, h * w, C), contiguous: on other layouts PyTorch falls back to the whole score matrix."""
    return x.flatten(2).transpose(1, 2).unsqueeze(1).contiguous()


class ContextAttention(nn.Module):
    """Each pixel asks, a source answers: softmax(query keys^T / sqrt(256)) values, of one head.

    Args:
        source_channels: Of what keys and values are computed from.
        negative_slope: Of the activations; 0 is ReLU.
    """

    def __init__(self, source_channels: int, *, negative_slope: float) -> None:
        super().__init__()

        def project(in_channels: int, out_channels: int) -> ConvNormAct:
            return ConvNormAct(in_channels, out_channels, 1, negative_slope=negative_slope)

        inner = _ATTENTION_CHANNELS
        self.query = nn.Sequential(project(_CHANNELS, inner), project(inner, inner))
        self.key = nn.Sequential(project(source_channels, inner), project(inner, inner))
        self.value = project(source_channels, inner)
        self.out = project(inner, _CHANNELS)

    def forward(self, features: Tensor, source: Tensor, log_counts: Tensor | None = None) -> Tensor:
        """The context of every pixel.

        Args:
            features: (N, 512, h, w).
            source: (N, C, a, b), C being `source_channels`.
            log_counts: (N, a * b), the logarithm of how often each place of the source counts; once by default.

        Returns:
            (N, 512, h, w).
        """
        query, key, value = (_tokens(x) for x in (self.query(features), self.key(source), self.value(source)))
        scores = None if log_counts is None else log_counts[:, None, None]
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=scores)
        return self.out(context[:, 0].transpose(1, 2).reshape(features.shape[0], -1, *features.shape[2:]))


class ImageLevelContext(nn.Module):
    """Features enriched by attention to all pixels, each beside the mean of the image."""

    def __init__(self, *, negative_slope: float) -> None:
        super().__init__()
        self.mean = GlobalMean()
        self.attention = ContextAttention(2 * _CHANNELS, negative_slope=negative_slope)
        self.fuse = ConvNormAct(2 * _CHANNELS, _CHANNELS, 3, negative_slope=negative_slope)

    def forward(self, features: Tensor) -> Tensor:
        """(N, 512, h, w) -> (N, 512, h, w)."""
        source = torch.cat([self.mean(features).expand_as(features), features], dim=1)
        return self.fuse(torch.cat([features, self.attention(features, source)], dim=1))


class ClassPooling(nn.Module):
    """One vector for each class and image: the mean of its pixels, weighted by the softmax of their logits.

    Gradients reach the features and, through the weights, the logits; which class owns a pixel is taken as given.
    """

    def forward(self, features: Tensor, logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the pixels of each class, within each image.

        Args:
            features: (N, C, h, w).
            logits: (N, K, h, w).
            classes: (N, h, w) int64, the class of each pixel.

        Returns:
            The vectors (N, C, K), zero for classes without pixels, and the numbers of pixels (N, K).
        """
        owners = classes.flatten(1)
        # Half precision can neither count to the number of pixels nor add up as many weights.
        precise = torch.promote_types(logits.dtype, torch.float32)
        scores = logits.flatten(2).gather(1, owners[:, None])[:, 0].to(precise)
        zeros = scores.new_zeros(logits.shape[:2])
        largest = zeros.scatter_reduce(1, owners, scores.detach(), "amax", include_self=False)
        exponentials = (scores - largest.gather(1, owners)).exp()
        weights = exponentials / zeros.scatter_add(1, owners, exponentials).gather(1, owners)
        weighted = weights[:, None] * features.flatten(2)
        vectors = scores.new_zeros(*features.shape[:2], logits.shape[1])
        vectors = vectors.scatter_add(2, owners[:, None].expand_as(weighted), weighted)
        counts = zeros.scatter_add(1, owners, torch.ones_like(scores))
        return vectors.to(features.dtype), counts


class SemanticLevelContext(nn.Module):
    """Features enriched by attention to the classes, as a first classifier sees them."""

    def __init__(self, *, negative_slope: float) -> None:
        super().__init__()
        self.pool = ClassPooling()
        self.attention = ContextAttention(_CHANNELS, negative_slope=negative_slope)
        self.fuse = ConvNormAct(2 * _CHANNELS, _CHANNELS, 3, negative_slope=negative_slope)

    def forward(self, features: Tensor, logits: Tensor, image_context: Tensor) -> Tensor:
        """Features (N, 512, h, w), logits (N, K, h, w) and image-level context (N, 512, h, w) -> (N, 512, h, w)."""
        classes = logits.argmax(dim=1)
        vectors, counts = self.pool(features, logits, classes)
        if self.training:
            # Batch normalisation of keys and values takes its statistics over pixels, so each holds its class's vector.
            owners = classes.flatten(1)[:, None].expand(-1, _CHANNELS, -1)
            context = self.attention(features, vectors.gather(2, owners).view_as(features))
        else:
            # n equal keys weigh as much as one whose score is greater by log n; of absent classes, exactly nothing.
            context = self.attention(features, vectors[..., None], counts.log().to(features.dtype))
        return self.fuse(torch.cat([image_context, context], dim=1))


class ISNet(SegmentationNetwork):
    """ISNet: logits at stride 8.

    In training `.aux` holds `stage1`, the logits of the first classifier, which evaluation needs too, and `aux`, those
    of the auxiliary head on the backbone's third stage; both at stride 8.

    Args:
        backbone: The name of the backbone.
        num_classes: K, the number of classes.
        negative_slope: Of the activations outside the backbone; 0 is ReLU.
    """

    stride = _CONTEXT_STRIDE
    align_corners = False
    parts = Parts(
        backbone=("backbone",),
        new=("reduce", "image_context", "stage1", "semantic_context", "stage2"),
        training_only=("aux",),
        aux_logits=("stage1", "aux"),
    )

    def __init__(self, backbone: Backbone, num_classes: int, *, negative_slope: float = 0.0) -> None:
        super().__init__()
        build, imagenet = _BACKBONES[backbone]
        self.backbone = build()
        self.imagenet = {"backbone": imagenet}
        _, _, third, deep = self.backbone.channels
        self.reduce = ConvNormAct(deep, _CHANNELS, 3, negative_slope=negative_slope)
        self.image_context = ImageLevelContext(negative_slope=negative_slope)
        head = partial(SegmentationHead, bias=True, dropout=_DROPOUT, negative_slope=negative_slope)
        self.stage1 = head(_CHANNELS, _CHANNELS, num_classes, kernel=1)
        self.semantic_context = SemanticLevelContext(negative_slope=negative_slope)
        self.stage2: nn.Module = nn.Sequential(nn.Dropout2d(_DROPOUT), nn.Conv2d(_CHANNELS, num_classes, 1))
        self.aux = head(third, _CHANNELS, num_classes)

    def forward(self, images: Tensor) -> Tensor | SegmentationOutput:
        """Normalised images (N, 3, H, W) of any size -> logits (N, K, ceil(H/8), ceil(W/8)); see the class."""
        x1, _, x3, x4 = self.backbone(images)
        features = self.reduce(x4)
        image_context = self.image_context(features)
        stage1 = self.stage1(features)
        context = self.semantic_context(features, stage1, image_context)
        logits = self.classify(context, x1)
        if not self.training:
            return logits
        return SegmentationOutput(logits, {"stage1": stage1, "aux": self.aux(x3)})

    def classify(self, context: Tensor, shallow: Tensor) -> Tensor:
        """The logits at the network's stride.

        Args:
            context: (N, 512, ceil(H/8), ceil(W/8)).
            shallow: (N, 256, ceil(H/4), ceil(W/4)), the backbone's first stage; not used here.
        """
        return self.stage2(context)

    def skipped_macs(self, height: int, width: int) -> int:
        """What the second attention saves by reading each class once instead of once a pixel; see the base class."""
        pixels = -(-height // _CONTEXT_STRIDE) * -(-width // _CONTEXT_STRIDE)
        saved = pixels - self.stage1.classifier.out_channels
        projections = _ATTENTION_CHANNELS * (2 * _CHANNELS + _ATTENTION_CHANNELS)
        return saved * (projections + 2 * _ATTENTION_CHANNELS * pixels)


class ISNetShortcut(ISNet):
    """ISNet with a shortcut: the last classifier also sees the backbone's first stage, and its logits have stride 4.

    The other outputs are those of `ISNet`, and so are the arguments.
    """

    stride = 4
    parts = ISNet.parts._replace(new=(*ISNet.parts.new, "shortcut"))

    def __init__(self, backbone: Backbone, num_classes: int, *, negative_slope: float = 0.0) -> None:
        super().__init__(backbone, num_classes, negative_slope=negative_slope)
        self.shortcut = ConvNormAct(
            self.backbone.channels[0], _SHORTCUT_CHANNELS, 1, bias=True, negative_slope=negative_slope
        )
        self.stage2 = SegmentationHead(
            _CHANNELS + _SHORTCUT_CHANNELS,
            _CHANNELS,
            num_classes,
            kernel=1,
            bias=True,
            dropout=_DROPOUT,
            negative_slope=negative_slope,
        )

    def classify(self, context: Tensor, shallow: Tensor) -> Tensor:
        """Context and the first stage, see `ISNet.classify` -> logits (N, K, ceil(H/4), ceil(W/4))."""
        size = shallow.shape[2:]
        resized = F.interpolate(context, size=size, mode="bilinear", align_corners=False)
        return self.stage2(torch.cat([resized, self.shortcut(shallow)], dim=1))


@register_model()
def isnet_resnet50(num_classes: int) -> ISNet:
    """ISNet on ResNet-50, as published for Cityscapes, ADE20K and COCO-Stuff."""
    return ISNet("resnet50", num_classes)


@register_model()
def isnet_resnet101(num_classes: int) -> ISNet:
    """ISNet on ResNet-101, as published for Cityscapes, ADE20K and COCO-Stuff."""
    return ISNet("resnet101", num_classes)


@register_model()
def isnet_resnest101(num_classes: int) -> ISNet:
    """ISNet on ResNeSt-101, as published for Cityscapes, ADE20K and COCO-Stuff."""
    return ISNet("resnest101", num_classes)


@register_model()
def isnet_resnet50_lip(num_classes: int) -> ISNetShortcut:
    """ISNet on ResNet-50 as published for LIP, people's clothes and limbs: with a shortcut and leaky ReLU."""
    return ISNetShortcut("resnet50", num_classes, negative_slope=_LIP_SLOPE)


@register_model()
def isnet_resnet101_lip(num_classes: int) -> ISNetShortcut:
    """ISNet on ResNet-101 as published for LIP, people's clothes and limbs: with a shortcut and leaky ReLU."""
    return ISNetShortcut("resnet101", num_classes, negative_slope=_LIP_SLOPE)


@register_model()
def isnet_resnest101_lip(num_classes: int) -> ISNetShortcut:
    """ISNet on ResNeSt-101 as published for LIP, people's clothes and limbs: with a shortcut and leaky ReLU."""
    return ISNetShortcut("resnest101", num_classes, negative_slope=_LIP_SLOPE)
