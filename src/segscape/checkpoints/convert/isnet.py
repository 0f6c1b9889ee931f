"""ISNet: the names of github.com/SegmentationBLWX/sssegmentation and of its port in MMSegmentation's projects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from segscape.checkpoints.convert.official import OfficialFormat, renamed

_INSIDE = (
    (re.compile(r"^image_context\."), "ilc_net."),
    (re.compile(r"^semantic_context\."), "slc_net."),
    (re.compile(r"\.attention\.(query|key|value|out)\."), r".correlate_net.\1_project."),
    (re.compile(r"\.fuse\."), ".bottleneck."),
    (re.compile(r"^reduce\."), "bottleneck."),
)
_SSSEGMENTATION = (
    (re.compile(r"^backbone\."), "backbone_net."),
    *_INSIDE,
    (re.compile(r"^(stage\d)\.conv\."), r"decoder_\1."),
    (re.compile(r"^(stage\d)\.classifier\."), r"decoder_\1.4."),
    (re.compile(r"^stage2\.1\."), "decoder_stage2.1."),
    (re.compile(r"^aux\.conv\."), "auxiliary_decoder."),
    (re.compile(r"^aux\.classifier\."), "auxiliary_decoder.4."),
)
_MMSEGMENTATION = (
    *_INSIDE,
    (re.compile(r"^(stage\d)\.conv\."), r"decoder_\1.0."),
    (re.compile(r"^(stage\d)\.classifier\."), r"decoder_\1.2."),
    (re.compile(r"^stage2\.1\."), "decoder_stage2.1."),
    (re.compile(r"^aux\.conv\."), "auxiliary_head.convs.0."),
    (re.compile(r"^aux\.classifier\."), "auxiliary_head.conv_seg."),
    (re.compile(r"^(?!backbone\.|auxiliary_head\.)"), "decode_head."),
)


def _sssegmentation_name(name: str) -> str:
    name = renamed(name, _SSSEGMENTATION)
    if name.startswith("backbone_net."):
        return name
    # There, a convolution and its norm are the first two of a sequence.
    return re.sub(r"\.bn\.(\w+)$", r".1.\1", re.sub(r"\.conv\.(weight|bias)$", r".0.\1", name))


def _mmsegmentation_name(name: str) -> str:
    return renamed(name, _MMSEGMENTATION)


class _Port(OfficialFormat):
    """The port's format; its form with a shortcut is another network."""

    def convert(
        self, create: Callable[[int], nn.Module], official: Mapping[str, Tensor], num_classes: int | None
    ) -> dict[str, Tensor]:
        _refuse_shortcut(official)
        return super().convert(create, official, num_classes)

    def restore(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        official = super().restore(state)
        _refuse_shortcut(official)
        return official


def _refuse_shortcut(official: Mapping[str, Tensor]) -> None:
    if any(name.startswith("decode_head.shortcut.") for name in official):
        raise ValueError(
            "ISNet with a shortcut is another network in MMSegmentation, with a 3x3 convolution before the last "
            "classifier instead of the authors' 1x1; take the authors' own checkpoint (sssegmentation)."
        )


_FORMATS = (
    OfficialFormat(
        origin="sssegmentation",
        official_name=_sssegmentation_name,
        classifier="decoder_stage1.4.weight",
        wrapper="model",
        pretrained={"backbone": "backbone_net."},
    ),
    _Port(
        origin="mmsegmentation",
        official_name=_mmsegmentation_name,
        classifier="decode_head.decoder_stage1.2.weight",
        wrapper="state_dict",
    ),
)

FORMATS = {
    f"isnet_{backbone}{form}": _FORMATS for backbone in ("resnet50", "resnet101", "resnest101") for form in ("", "_lip")
}
