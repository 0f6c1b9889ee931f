"""DABNet: the names of github.com/isyangshu/DABNet, equal in its checkpoints and its published logs."""

from __future__ import annotations

import re

from segscape.checkpoints.convert.official import OfficialFormat

_PATCH_MODULE = {
    "high.conv": "h2h_0",
    "high.bn": "bnh_0",
    "low.channel.conv": "h2l_0",
    "low.channel.bn": "bnl_0",
    "low.join.high": "l2l_p1",
    "low.join.low": "l2l_p2",
    "low.join.bn": "l2l_bn",
    "to_high.high": "h2h_1",
    "to_high.low": "l2h_1",
    "to_high.bn": "bnh_1",
    "to_low.high": "h2l_1",
    "to_low.low": "l2l_1",
    "to_low.bn": "bnl_1",
    "out.high": "h2h_2",
    "out.low": "l2h_2",
    "out.bn": "bnh_2",
}
_NAMES = {
    "backbone": "backbone.backbone",
    **{
        f"patches.{number}.{ours}": f"backbone.SIM_{number}.{theirs}"
        for number in range(4)
        for ours, theirs in _PATCH_MODULE.items()
    },
    "spatial.image": "backbone.sp_0",
    "spatial.context4": "backbone.cp_1",
    "spatial.down": "backbone.sp_1",
    "spatial.context8": "backbone.cp_2",
    "spatial.out": "backbone.sp_2",
    **{
        f"context.{ours}": f"backbone.{theirs}"
        for stride in (16, 32)
        for ours, theirs in {
            f"refine.{stride}.conv": f"arm{stride}.conv_layer",
            f"refine.{stride}.gate": f"arm{stride}.atten_conv_layer.1",
            f"smooth.{stride}": f"conv_head{stride}",
        }.items()
    },
    "fusion.conv": "backbone.ffm.conv1",
    "fusion.gate": "backbone.ffm.conv_atten.0",
    **{
        f"{ours}.{layer}": f"{theirs}.{official}"
        for ours, theirs in {
            "head": "decode_head",
            "aux16": "auxiliary_head.0",
            "aux32": "auxiliary_head.1",
        }.items()
        for layer, official in {"conv": "convs.0", "classifier": "conv_seg"}.items()
    },
}
"""Where each of our modules stands in the official segmentor."""

_MODULE = re.compile(rf"^(?:{'|'.join(map(re.escape, _NAMES))})(?=\.)")
_NORM_OF_PAIR = re.compile(r"(\.bn\d)\.0\.")


def _official_name(name: str) -> str:
    name = _MODULE.sub(lambda match: _NAMES[match[0]], name)
    # EfficientNet's norms that activate are one module there, and a pair of modules here.
    return _NORM_OF_PAIR.sub(r"\1.", name)


_FORMAT = OfficialFormat(
    origin="DABNet",
    official_name=_official_name,
    classifier="decode_head.conv_seg.weight",
    wrapper="state_dict",
    pretrained={"backbone": "backbone.backbone."},
)

FORMATS = {
    **{f"dabnet_resnet18_p{patch}": (_FORMAT,) for patch in (1, 2, 4, 8, 16)},
    "dabnet_efficientnet_b1": (_FORMAT,),
}
