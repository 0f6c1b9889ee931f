"""STDC, STDC-Seg and BiSeSTDC: the names of github.com/MichaelFan01/STDC-Seg and github.com/bearking79/BiSeSTDC."""

from __future__ import annotations

import re

from segscape.checkpoints.convert.official import OfficialFormat, renamed
from segscape.networks.stdc import STDC1_BLOCKS, STDC2_BLOCKS

_INSIDE = (
    (re.compile(r"\.convs\."), ".conv_list."),
    (re.compile(r"\.down\.conv\."), ".avd_layer.0."),
    (re.compile(r"\.down\.bn\."), ".avd_layer.1."),
    (re.compile(r"^context\.average\."), "cp.conv_avg."),
    (re.compile(r"^context\.smooth\.(\d+)\."), r"cp.conv_head\1."),
    (re.compile(r"^context\.refine\.(\d+)\.gate\.conv\."), r"cp.arm\1.conv_atten."),
    (re.compile(r"^context\.refine\.(\d+)\.gate\.bn\."), r"cp.arm\1.bn_atten."),
    (re.compile(r"^context\.refine\.(\d+)\.conv\."), r"cp.arm\1.conv."),
    (re.compile(r"^spatial\."), "cp.backbone.featuresSP."),
    (re.compile(r"^spatial_fusion\."), "cp.backbone.ffm."),
    (re.compile(r"^fusion\."), "ffm."),
    (re.compile(r"ffm\.conv\."), "ffm.convblk."),
    (re.compile(r"ffm\.squeeze\."), "ffm.conv1."),
    (re.compile(r"ffm\.excite\."), "ffm.conv2."),
    (re.compile(r"^head\."), "conv_out."),
    (re.compile(r"^aux(\d+)\."), r"conv_out\1."),
    (re.compile(r"^detail\."), "conv_out_sp8."),
    (re.compile(r"^(conv_out\w*)\.classifier\."), r"\1.conv_out."),
    (re.compile(r"^classifier\."), "linear."),
)
_ALIAS = re.compile(r"^((?:cp\.backbone\.)?)(SP)?x(?:2|4|8|16|32)\.0\.(\d+)\.")
_FEATURE = re.compile(r"^((?:cp\.backbone\.)?)features(SP)?\.(\d+)\.")
_UNUSED_BACKBONE = r"(?:conv_last\..*|fc\.weight|bn\..*|linear\.weight)"


def _canonical(name: str) -> str:
    return _ALIAS.sub(lambda match: f"{match[1]}features{match[2] or ''}.{match[3]}.", name)


def _aliases(name: str, *, blocks: tuple[int, int, int]) -> tuple[str, ...]:
    """The name under the stage that repeats a layer: `x2` to `x32` in the backbone, `SPx2` to `SPx8` beside it."""
    match = _FEATURE.match(name)
    if match is None:
        return ()
    index = int(match[3])
    ends = (1, 2, 3) if match[2] else (1, 2, 2 + blocks[0], 2 + blocks[0] + blocks[1], 2 + sum(blocks))
    stage = next(number for number, end in enumerate(ends) if index < end)
    return (f"{match[1]}{match[2] or ''}x{2 ** (stage + 1)}.0.{index}.{name[match.end() :]}",)


def _official_name(name: str, *, blocks: tuple[int, int, int], prefix: str) -> str:
    if name.startswith("backbone."):
        _, stage, rest = name.split(".", 2)
        if stage in ("stage2", "stage4"):
            name = f"{prefix}features.{('stage2', 'stage4').index(stage)}.{rest}"
        else:
            block, rest = rest.split(".", 1)
            first = {"stage8": 2, "stage16": 2 + blocks[0], "stage32": 2 + blocks[0] + blocks[1]}[stage]
            name = f"{prefix}features.{first + int(block)}.{rest}"
    return renamed(name, _INSIDE)


def _segmentation(origin: str, blocks: tuple[int, int, int]) -> OfficialFormat:
    return OfficialFormat(
        origin=origin,
        official_name=lambda name: _official_name(name, blocks=blocks, prefix="cp.backbone."),
        classifier="conv_out.conv_out.weight",
        pretrained={"backbone": "cp.backbone."},
        canonical=_canonical,
        aliases=lambda name: _aliases(name, blocks=blocks),
        unused=re.compile(rf"cp\.backbone\.{_UNUSED_BACKBONE}|conv_out_sp(?:2|4|16)\..*"),
        # Outside the backbone's own stages the authors use mapillary's in-place norm.
        absolute_scale=lambda name: name.endswith(".bn.weight") and not name.startswith(("backbone.", "spatial.")),
    )


def _classification(blocks: tuple[int, int, int]) -> OfficialFormat:
    return OfficialFormat(
        origin="STDC-Seg",
        official_name=lambda name: _official_name(name, blocks=blocks, prefix=""),
        classifier="linear.weight",
        canonical=_canonical,
        aliases=lambda name: _aliases(name, blocks=blocks),
        unused=re.compile(r"bn\..*"),
    )


FORMATS = {
    "stdc1": (_classification(STDC1_BLOCKS),),
    "stdc2": (_classification(STDC2_BLOCKS),),
    "stdc1_seg": (_segmentation("STDC-Seg", STDC1_BLOCKS),),
    "stdc2_seg": (_segmentation("STDC-Seg", STDC2_BLOCKS),),
    "bisestdc": (_segmentation("BiSeSTDC", STDC1_BLOCKS),),
    "bisestdc2": (_segmentation("BiSeSTDC", STDC1_BLOCKS),),
}
