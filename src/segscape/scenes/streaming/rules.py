"""The operations of PyTorch that can be computed window by window, their layers, and the reasons why others cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from segscape.scenes.streaming import pointwise, resized, windowed
from segscape.scenes.streaming.layer import Layer, Operation, UnsupportedLayerError

aten = torch.ops.aten

_RULES: dict[Any, Callable[[Operation], Layer]] = {
    **dict.fromkeys(
        (
            *(aten.relu.default, aten.leaky_relu.default, aten.hardtanh.default, aten.sigmoid.default),
            *(aten.silu.default, aten.hardswish.default, aten.hardsigmoid.default, aten.gelu.default),
            *(aten.elu.default, aten.mish.default, aten.softplus.default, aten.tanh.default, aten.clamp.default),
            *(aten.clamp_min.default, aten.clamp_max.default, aten.abs.default, aten.neg.default, aten.sign.default),
            *(aten.exp.default, aten.log.default, aten.sqrt.default, aten.rsqrt.default, aten.reciprocal.default),
            *(aten.pow.Tensor_Scalar, aten.add.Tensor, aten.sub.Tensor, aten.rsub.Scalar, aten.mul.Tensor),
            *(aten.div.Tensor, aten.maximum.default, aten.minimum.default, aten.where.self),
            *(aten.gt.Scalar, aten.lt.Scalar, aten.ge.Scalar, aten.le.Scalar, aten.clone.default),
        ),
        pointwise.elementwise,
    ),
    aten.prelu.default: pointwise.per_channel,
    aten._native_batch_norm_legit_no_training.default: pointwise.per_channel,
    aten.cat.default: pointwise.across_channels(1, 0),
    aten.softmax.int: pointwise.across_channels(1),
    aten.log_softmax.int: pointwise.across_channels(1),
    aten.split.Tensor: pointwise.across_channels(2, 0),
    aten.split_with_sizes.default: pointwise.across_channels(2, 0),
    aten.max.dim: pointwise.across_channels(1),
    aten.amax.default: pointwise.across_channels(1),
    aten.mean.dim: pointwise.across_channels(1),
    aten.sum.dim_IntList: pointwise.across_channels(1),
    aten.linalg_vector_norm.default: pointwise.across_channels(2),
    aten.channel_shuffle.default: pointwise.elementwise,
    aten.repeat.default: pointwise.repeat,
    aten.expand.default: pointwise.expand,
    aten.conv2d.default: windowed.conv,
    aten.conv2d.padding: windowed.conv,
    aten.conv_transpose2d.input: windowed.conv_transpose,
    aten.max_pool2d.default: windowed.max_pool,
    aten.max_pool2d_with_indices.default: windowed.max_pool,
    aten.avg_pool2d.default: windowed.avg_pool,
    aten.adaptive_avg_pool2d.default: windowed.adaptive_avg_pool,
    aten.pixel_shuffle.default: windowed.pixel_shuffle,
    aten.pixel_unshuffle.default: windowed.pixel_unshuffle,
    aten.upsample_bilinear2d.vec: resized.bilinear,
    aten.upsample_nearest2d.vec: resized.nearest,
    aten._upsample_nearest_exact2d.vec: resized.nearest,
    aten.pad.default: resized.padded,
    aten.slice.Tensor: resized.sliced,
}

SPREADING = {
    *(aten.expand.default, aten.upsample_bilinear2d.vec),
    *(aten.upsample_nearest2d.vec, aten._upsample_nearest_exact2d.vec),
}
"""Operations that turn a vector, or the means over a few parts of a map, into a map."""

_REASONS = {
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "permute", "transpose", "flatten", "squeeze", "unsqueeze"),
        "{} rearranges the axes of a map, as attention over the whole image does",
    ),
    **dict.fromkeys(
        ("group_norm", "instance_norm", "layer_norm", "std", "var", "var_mean", "std_mean", "native_group_norm"),
        "{} normalises by the deviation of the whole map",
    ),
    **dict.fromkeys(("adaptive_max_pool2d", "max"), "{} takes the maximum of the whole map"),
    "max_unpool2d": "{} puts values where places say that are counted over the whole map",
    **dict.fromkeys(("flip", "roll"), "{} moves one edge of a map to another"),
}


def layer_of(op: Operation) -> Layer:
    """Build the layer of an operation that reads the maps `op.inputs`.

    Raises:
        UnsupportedLayerError: It cannot be computed window by window.
    """
    rule = _RULES.get(op.call.target)
    if rule is None:
        reason = _REASONS.get(op.name, "there is no rule by which {} could be computed window by window")
        raise UnsupportedLayerError(reason.format(op.name))
    shape = op.result.meta["val"].shape
    if len(shape) != 4 or shape[0] != 1:
        raise UnsupportedLayerError(f"{op.name} makes something else than a map (1, C, H, W)")
    return rule(op)
