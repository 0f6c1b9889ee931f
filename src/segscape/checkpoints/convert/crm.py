"""CRM: the names of github.com/dvlab-research/Entity, folder High-Quality-Segmention."""

from __future__ import annotations

import re

from segscape.checkpoints.convert.official import OfficialFormat, renamed

_BRANCHES = ("128", "256", "1024")
_PATTERNS = (
    (re.compile(r"^extractor\."), "feats."),
    *(
        (re.compile(rf"^fusion\.branches\.{number}\.{ours}\."), theirs.format(_BRANCHES[number]))
        for number in range(3)
        for ours, theirs in (
            (r"conv\.conv", "aspp_.aspp1_{}.atrous_conv."),
            (r"conv\.bn", "aspp_.aspp1_{}.bn."),
            ("norm", "aspp_.bn1_{}."),
        )
    ),
    (re.compile(r"^fusion\.join\.conv\."), "aspp_.last_conv.0."),
    (re.compile(r"^fusion\.join\.bn\."), "aspp_.last_conv.1."),
    (re.compile(r"^decoder\.first\."), "imnet.layers.0."),
    *((re.compile(rf"^decoder\.hidden\.{number}\."), f"imnet.layers.{2 * number + 2}.") for number in range(3)),
    (re.compile(r"^decoder\.last\."), "imnet.layers.8."),
)

FORMATS = {
    "crm_resnet50": (
        OfficialFormat(
            origin="CRM",
            official_name=lambda name: renamed(name, _PATTERNS),
            classifier="imnet.layers.8.weight",
            # Computed by the authors, and read by nothing.
            unused=re.compile(r"feats\.layer4\..*"),
            pretrained={"extractor": "feats."},
        ),
    ),
}
