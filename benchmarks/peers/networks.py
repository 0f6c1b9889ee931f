"""Networks of other packages, of the class of those here, with random weights and 19 classes."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import torch
from torch import Tensor, nn

CLASSES = 19
Network = Callable[[Tensor], Tensor]
"""From normalised images (1, 3, H, W) to logits (1, K, h, w)."""


def smp_deeplabv3plus_resnet18() -> Network:
    import segmentation_models_pytorch as smp

    return smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=CLASSES).eval()


def smp_unet_resnet18() -> Network:
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet18", encoder_weights=None, classes=CLASSES).eval()


def transformers_segformer_b0() -> Network:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES)).eval()
    return lambda images: network(images).logits


def mmseg_stdc1() -> Network:
    """STDC1 as mmsegmentation configures it for Cityscapes; it evaluates no training heads either.

    mmsegmentation imports operators that mmcv-lite lacks, and that this network does not use.
    """
    _stub_mmcv_operators()
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules()
    norm = {"type": "BN", "requires_grad": True}
    network = MODELS.build(
        {
            "type": "EncoderDecoder",
            "backbone": {
                "type": "STDCContextPathNet",
                "backbone_cfg": {
                    "type": "STDCNet",
                    "stdc_type": "STDCNet1",
                    "in_channels": 3,
                    "channels": (32, 64, 256, 512, 1024),
                    "bottleneck_type": "cat",
                    "num_convs": 4,
                    "norm_cfg": norm,
                    "act_cfg": {"type": "ReLU"},
                    "with_final_conv": False,
                },
                "last_in_channels": (1024, 512),
                "out_channels": 128,
                "ffm_cfg": {"in_channels": 384, "out_channels": 256, "scale_factor": 4},
            },
            "decode_head": {
                "type": "FCNHead",
                "in_channels": 256,
                "channels": 256,
                "num_convs": 1,
                "num_classes": CLASSES,
                "in_index": 3,
                "concat_input": False,
                "dropout_ratio": 0.1,
                "norm_cfg": norm,
                "align_corners": True,
            },
        }
    ).eval()
    return lambda images: network(images, mode="tensor")


def _stub_mmcv_operators() -> None:
    """Put a module in place of `mmcv.ops`, any public name of which is an empty layer."""

    def operator(name: str) -> type[nn.Module]:
        if name.startswith("_"):
            raise AttributeError(name)
        return nn.Identity

    module = types.ModuleType("mmcv.ops")
    module.__getattr__ = operator  # type: ignore[method-assign]
    module.__path__ = []
    sys.modules.setdefault("mmcv.ops", module)


PEERS: dict[str, Callable[[], Network]] = {
    network.__name__: network
    for network in (smp_deeplabv3plus_resnet18, smp_unet_resnet18, transformers_segformer_b0, mmseg_stdc1)
}

if __name__ == "__main__":
    for name, make in PEERS.items():
        with torch.inference_mode():
            print(name, tuple(make()(torch.zeros(1, 3, 128, 256)).shape))
