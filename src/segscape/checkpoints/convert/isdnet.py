"""ISDNet: the names of github.com/cedricgsh/ISDNet."""

from __future__ import annotations

import re

from segscape.checkpoints.convert.official import OfficialFormat

_SHALLOW = "refine_head.stdc_net."
_SHALLOW_LAYERS = ("x2.0.0", "x4.0.1", "x8.0.2", "x8.0.3", "x16.0.4", "x16.0.5")
_PREFIXES = {
    "aspp.pool.": "decode_head.image_pool.1.",
    "aspp.branches.": "decode_head.aspp_modules.",
    "aspp.bottleneck.": "decode_head.bottleneck.",
    "reduce.conv.": "refine_head.reduce.conv1.",
    "reduce.bn.": "refine_head.reduce.bn1.",
    "deep.1.": "decode_head.conv_seg.",
    "layer3.0.": "auxiliary_head.convs.0.",
    "layer3.2.": "auxiliary_head.conv_seg.",
    **{f"shallow.stage8.{index}.": f"{_SHALLOW}{layer}." for index, layer in enumerate(_SHALLOW_LAYERS[:4])},
    **{f"shallow.stage16.{index}.": f"{_SHALLOW}{layer}." for index, layer in enumerate(_SHALLOW_LAYERS[4:])},
    "fuse": "refine_head.fuse",
    "head.1.": "refine_head.conv_seg.",
    # The names of the authors' two auxiliary heads are crossed.
    "context8.": "refine_head.conv_seg_aux_16.",
    "context16.": "refine_head.conv_seg_aux_8.",
    **{f"reconstruction.convs.{index}.": f"refine_head.sr_decoder.conv{index + 1}." for index in range(3)},
    "reconstruction.head.": "refine_head.sr_decoder.conv_sr.",
}
_INSIDE = {
    ".convs.": ".conv_list.",
    ".down.conv.": ".avd_layer.0.",
    ".down.bn.": ".avd_layer.1.",
    ".conv.conv.": ".conv_bn_relu.conv.",
    ".conv.bn.": ".conv_bn_relu.bn.",
    ".classifier.": ".conv_out.",
    ".spatial.": ".spatial_att.",
    ".context.": ".context_att.",
    ".project.": ".conv_1x1.",
    ".spatial_scale": ".g1",
    ".context_scale": ".g2",
    ".context_conv.": ".context_head.",
}
_FEATURE = re.compile(rf"^{re.escape(_SHALLOW)}features\.(\d)\.")
_LAYER = re.compile(rf"^{re.escape(_SHALLOW)}x\d+\.0\.(\d)\.")


def _official_name(name: str) -> str:
    prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
    name = _PREFIXES.get(prefix, "") + name.removeprefix(prefix)
    if name.startswith("refine_head."):
        for ours, official in _INSIDE.items():
            name = name.replace(ours, official)
    return name


def _canonical(name: str) -> str:
    """The shallow branch's layers are read under their stage, as the authors' own loading ends with that value."""
    return _FEATURE.sub(lambda match: f"{_SHALLOW}{_SHALLOW_LAYERS[int(match[1])]}.", name)


def _aliases(name: str) -> tuple[str, ...]:
    return (_LAYER.sub(rf"{_SHALLOW}features.\1.", name),) if _LAYER.match(name) else ()


_FORMAT = OfficialFormat(
    origin="ISDNet",
    official_name=_official_name,
    classifier="refine_head.conv_seg.conv_out.weight",
    canonical=_canonical,
    aliases=_aliases,
    # The authors changed the decoder after the released DeepGlobe checkpoint.
    may_differ=re.compile(r"refine_head\.sr_decoder\..*"),
    wrapper="state_dict",
    pretrained={"backbone": "backbone.", "shallow": _SHALLOW},
)

FORMATS = {"isdnet_resnet18": (_FORMAT,), "isdnet_resnet50": (_FORMAT,)}
