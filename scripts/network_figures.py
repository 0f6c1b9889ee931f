"""Draw `docs/pictures/networks/<system>.svg`: how each network is built, from the descriptions below.

python scripts/network_figures.py

Every number of a description is checked in `tests/test_pages.py` against the network that Segscape builds.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.drawing import Drawing, Point, text_width  # noqa: E402

FOLDER = ROOT / "docs" / "pictures" / "networks"

Kind = Literal["plain", "backbone", "join", "mean", "head"]
Place = tuple[float, float]

_BOX = (142.0, 62.0)
_GAP = (30.0, 24.0)
_MARGIN = 18.0
_KINDS: dict[Kind, str] = {
    "backbone": "starts from ImageNet weights",
    "plain": "other layers",
    "mean": "looks at the whole map",
    "join": "joins several maps",
    "head": "gives the result",
}


@dataclass(frozen=True)
class Box:
    """A part of a network and the map that it gives.

    Attributes:
        place: (column, row) of the grid.
        title: What it is.
        stride: Pixels of the image per pixel of the map.
        channels: Of the map; `"K"` for the number of classes.
        module: The submodule whose output the map is; the numbers are checked where it is given.
        kind: Decides the colour.
        training: Whether only training uses it.
        note: A line in place of stride and channels, or under them.
        network: Another network than the figure's, in which the submodule is.
        of: Whether the map is the submodule's output, or what it is given.
    """

    place: Place
    title: str
    stride: int | None = None
    channels: int | str | None = None
    module: str | None = None
    kind: Kind = "plain"
    training: bool = False
    note: str | None = None
    network: str | None = None
    of: Literal["output", "input"] = "output"

    @property
    def lines(self) -> list[str]:
        """The lines below the title."""
        stride = "" if self.stride is None else f"stride {self.stride}"
        channels = "K classes" if self.channels == "K" else "1 channel" if self.channels == 1 else ""
        if isinstance(self.channels, int) and self.channels > 1:
            channels = f"{self.channels} channels"
        return [line for line in (stride, channels, self.note) if line]


@dataclass(frozen=True)
class Arrow:
    """What a part is given.

    Attributes:
        start: The name of a box, and the side where the arrow leaves it: `l`, `r`, `t` or `b`, with an offset from its
            middle as a share of the side, such as `image.r` or `image.b-0.3`.
        end: The same of the box that it enters.
        training: Whether only training uses it.
        word: Stands at its start.
        direct: Whether it is one straight line.
    """

    start: str
    end: str
    training: bool = False
    word: str | None = None
    direct: bool = False


@dataclass(frozen=True)
class Figure:
    """The drawing of a network.

    Attributes:
        name: Of the file.
        network: The registered name of the network that it shows.
        title: What the figure shows, in a sentence.
        boxes: By a name for the arrows.
        arrows: Between them.
        size: (height, width) of the images with which the numbers are checked.
    """

    name: str
    network: str
    title: str
    boxes: dict[str, Box]
    arrows: list[Arrow] = field(default_factory=list)
    size: tuple[int, int] = (256, 256)


def _chain(*names: str, sides: str = "bt", training: bool = False) -> list[Arrow]:
    leave, enter = sides
    pairs = itertools.pairwise(names)
    return [Arrow(f"{a}.{leave}", f"{b}.{enter}", training) for a, b in pairs]


_STDC_BACKBONE = {
    "image": Box((0, 0), "Image", 1, 3, "backbone.stage2", of="input"),
    "s2": Box((0, 1), "Convolution", 2, 32, "backbone.stage2", "backbone"),
    "s4": Box((0, 2), "Convolution", 4, 64, "backbone.stage4", "backbone"),
    "s8": Box((0, 3), "STDC blocks", 8, 256, "backbone.stage8", "backbone"),
    "s16": Box((0, 4), "STDC blocks", 16, 512, "backbone.stage16", "backbone"),
    "s32": Box((0, 5), "STDC blocks", 32, 1024, "backbone.stage32", "backbone"),
    "mean": Box((0, 6), "Image mean", None, 128, "context.average", "mean"),
    "gate16": Box((1, 4), "Gated features", 16, 128, "context.refine.16", "mean"),
    "gate32": Box((1, 5), "Gated features", 32, 128, "context.refine.32", "mean"),
    "up32": Box((2, 5), "Sum, enlarged", 16, 128, "context.smooth.32", "join"),
    "up16": Box((2, 4), "Sum, enlarged", 8, 128, "context.smooth.16", "join"),
}

_STDC_ARROWS = [
    *_chain("image", "s2", "s4", "s8", "s16", "s32", "mean"),
    *_chain("s16", "gate16", "up16", sides="rl"),
    *_chain("s32", "gate32", "up32", sides="rl"),
    Arrow("mean.r", "up32.b"),
    Arrow("up32.t", "up16.b"),
]

STDC_SEG = Figure(
    "stdc_seg",
    "stdc1_seg",
    "STDC-Seg: an STDC backbone, a context path from stride 32 up to stride 8, and a fusion at stride 8.",
    {
        **_STDC_BACKBONE,
        "fusion": Box((2, 3), "Gated fusion", 8, 256, "fusion", "mean"),
        "head": Box((2, 2), "Logits", 8, "K", "head", "head"),
        "detail": Box((1, 2), "Edges", 8, 1, "detail", "head", training=True),
        "aux16": Box((3, 4), "Logits", 8, "K", "aux16", "head", training=True),
        "aux32": Box((3, 5), "Logits", 16, "K", "aux32", "head", training=True),
    },
    [
        *_STDC_ARROWS,
        Arrow("s8.r", "fusion.l"),
        Arrow("up16.t", "fusion.b"),
        Arrow("fusion.t", "head.b"),
        Arrow("s8.r-0.25", "detail.b", training=True),
        Arrow("up16.r", "aux16.l", training=True),
        Arrow("up32.r", "aux32.l", training=True),
    ],
)

BISESTDC = Figure(
    "bisestdc",
    "bisestdc",
    "BiSeSTDC: STDC-Seg with a second, shallow branch and a context path that goes on to stride 4.",
    {
        **_STDC_BACKBONE,
        "spatial1": Box((1, 0), "Convolution", 2, 32, "spatial.0"),
        "spatial2": Box((2, 0), "Convolution", 2, 64, "spatial.1"),
        "spatial3": Box((2, 1), "STDC block", 4, 256, "spatial.2"),
        "spatial": Box((2, 2), "Gated fusion", 4, 256, "spatial_fusion", "mean"),
        "gate8": Box((1, 3), "Gated features", 8, 128, "context.refine.8", "mean"),
        "up8": Box((2, 3), "Sum, enlarged", 4, 128, "context.smooth.8", "join"),
        "fusion": Box((3, 2), "Gated fusion", 4, 256, "fusion", "mean"),
        "head": Box((3, 1), "Logits", 4, "K", "head", "head"),
        "detail": Box((1, 1), "Edges", 4, 1, "detail", "head", training=True),
        "aux8": Box((3, 3), "Logits", 4, "K", "aux8", "head", training=True),
        "aux16": Box((3, 4), "Logits", 8, "K", "aux16", "head", training=True),
        "aux32": Box((3, 5), "Logits", 16, "K", "aux32", "head", training=True),
    },
    [
        *_STDC_ARROWS,
        *_chain("image", "spatial1", "spatial2", sides="rl"),
        *_chain("spatial2", "spatial3", "spatial"),
        *_chain("s4", "spatial", "fusion", sides="rl"),
        *_chain("s8", "gate8", "up8", sides="rl"),
        Arrow("up16.t", "up8.b"),
        Arrow("up8.r", "fusion.l+0.3"),
        Arrow("fusion.t", "head.b"),
        Arrow("spatial.l-0.3", "detail.b", training=True),
        Arrow("up8.r", "aux8.l", training=True),
        Arrow("up16.r", "aux16.l", training=True),
        Arrow("up32.r", "aux32.l", training=True),
    ],
)

ISDNET = Figure(
    "isdnet",
    "isdnet_resnet18",
    "ISDNet: a shallow branch on the full image, a deep branch on the image at a quarter of its size, two fusions.",
    {
        "image": Box((0, 0), "Image", 1, 3, "pyramid", of="input"),
        "pyramid": Box((0, 1), "Image pyramid", 1, 6, "pyramid"),
        "shallow8": Box((0, 2), "STDC blocks", 8, 256, "shallow.stage8", "backbone"),
        "shallow16": Box((0, 3), "STDC blocks", 16, 512, "shallow.stage16", "backbone"),
        "quarter": Box((3, 1), "Quarter size", 4, 3, "backbone.stem", of="input"),
        "layer3": Box((3, 2), "ResNet, 3 stages", 32, 256, "backbone.layer3", "backbone"),
        "layer4": Box((3, 3), "ResNet, stage 4", 32, 512, "backbone.layer4", "backbone"),
        "aspp": Box((3, 4), "Pyramid pooling", 32, 128, "aspp", "mean"),
        "fuse16": Box((1, 3), "Relation fusion", 16, 128, "fuse16.smooth", "mean"),
        "fuse8": Box((1, 2), "Relation fusion", 8, 128, "fuse8.smooth", "mean"),
        "head": Box((1, 1), "Logits", 8, "K", "head", "head"),
        "context16": Box((2, 3), "Logits", 16, "K", "context16", "head", training=True),
        "context8": Box((2, 2), "Logits", 8, "K", "context8", "head", training=True),
        "aux3": Box((4, 2), "Logits", 32, "K", "layer3", "head", training=True),
        "deep": Box((4, 4), "Logits", 32, "K", "deep", "head", training=True),
        "rebuilt": Box((3, 5), "Reconstruction", 2, 3, "reconstruction.head", "head", training=True),
    },
    [
        *_chain("image", "pyramid", "shallow8", "shallow16"),
        Arrow("image.r", "quarter.t"),
        *_chain("quarter", "layer3", "layer4", "aspp"),
        Arrow("shallow16.r", "fuse16.l"),
        Arrow("aspp.l", "fuse16.b"),
        Arrow("shallow8.r", "fuse8.l"),
        *_chain("fuse16", "fuse8", "head", sides="tb"),
        *_chain("fuse16", "context16", sides="rl", training=True),
        *_chain("fuse8", "context8", sides="rl", training=True),
        *_chain("layer3", "aux3", sides="rl", training=True),
        *_chain("aspp", "deep", sides="rl", training=True),
        *_chain("aspp", "rebuilt", training=True),
    ],
)

ISNET = Figure(
    "isnet",
    "isnet_resnet50",
    "ISNet: a dilated ResNet, attention over all pixels, and attention over the classes of a first classifier.",
    {
        "image": Box((0, 0), "Image", 1, 3, "backbone.stem", of="input"),
        "layer1": Box((0, 1), "ResNet, stage 1", 4, 256, "backbone.layer1", "backbone"),
        "layer2": Box((0, 2), "ResNet, stage 2", 8, 512, "backbone.layer2", "backbone"),
        "layer3": Box((0, 3), "ResNet, stage 3", 8, 1024, "backbone.layer3", "backbone"),
        "layer4": Box((0, 4), "ResNet, stage 4", 8, 2048, "backbone.layer4", "backbone"),
        "reduce": Box((0, 5), "Convolution", 8, 512, "reduce"),
        "stage1": Box((0, 6), "First logits", 8, "K", "stage1", "head"),
        "pool": Box((0, 7), "A vector a class", None, None, None, "mean", note="512 channels each"),
        "pixels": Box((1, 5), "Pixel attention", 8, 512, "image_context", "mean"),
        "classes": Box((1, 6), "Class attention", 8, 512, "semantic_context.attention", "mean"),
        "fuse": Box((2, 5), "Joined", 8, 512, "semantic_context.fuse", "join"),
        "stage2": Box((2, 4), "Logits", 8, "K", "stage2", "head"),
        "aux": Box((1, 3), "Logits", 8, "K", "aux", "head", training=True),
        "shortcut": Box((1, 1), "Shortcut (_lip)", 4, 48, "shortcut", network="isnet_resnet50_lip"),
        "stage2_lip": Box((3, 1), "Logits (_lip)", 4, "K", "stage2", "head", network="isnet_resnet50_lip"),
    },
    [
        *_chain("image", "layer1", "layer2", "layer3", "layer4", "reduce", "stage1", "pool"),
        *_chain("reduce", "pixels", "fuse", sides="rl"),
        Arrow("reduce.r", "classes.l"),
        Arrow("pool.r", "classes.b"),
        Arrow("classes.r", "fuse.b"),
        Arrow("fuse.t", "stage2.b"),
        *_chain("layer3", "aux", sides="rl", training=True),
        *_chain("layer1", "shortcut", "stage2_lip", sides="rl"),
        Arrow("fuse.r", "stage2_lip.b"),
    ],
)

DABNET = Figure(
    "dabnet",
    "dabnet_resnet18_p2",
    "DABNet: a ResNet with a patch module after each stage, a spatial path fed by its early features, a context path.",
    {
        "image": Box((0, 0), "Image", 1, 3, "backbone.stem", of="input"),
        "x2": Box((0, 1), "Stem", 2, 64, "backbone.stem", "backbone"),
        "x4": Box((0, 2), "Stage 1, patches", 4, 64, "patches.0", "backbone"),
        "x8": Box((0, 3), "Stage 2, patches", 8, 128, "patches.1", "backbone"),
        "x16": Box((0, 4), "Stage 3, patches", 16, 256, "patches.2", "backbone"),
        "x32": Box((0, 5), "Stage 4, patches", 32, 512, "patches.3", "backbone"),
        "spatial4": Box((1, 1), "Image and stem", 4, 64, "spatial.image", "join"),
        "spatial8": Box((1, 2), "Sum, halved", 8, 64, "spatial.down", "join"),
        "spatial": Box((1, 3), "Sum", 8, 128, "spatial.out", "join"),
        "gate16": Box((1, 4), "Gated features", 16, 128, "context.refine.16", "mean"),
        "gate32": Box((1, 5), "Gated features", 32, 128, "context.refine.32", "mean"),
        "up32": Box((2, 5), "Enlarged", 16, 128, "context.smooth.32"),
        "up16": Box((2, 4), "Sum, enlarged", 8, 128, "context.smooth.16", "join"),
        "fusion": Box((2, 3), "Gated fusion", 8, 256, "fusion", "mean"),
        "head": Box((2, 2), "Logits", 8, "K", "head", "head"),
        "aux16": Box((3, 4), "Logits", 8, "K", "aux16", "head", training=True),
        "aux32": Box((3, 5), "Logits", 16, "K", "aux32", "head", training=True),
    },
    [
        *_chain("image", "x2", "x4", "x8", "x16", "x32"),
        Arrow("image.r", "spatial4.t"),
        *_chain("x2", "spatial4", sides="rl"),
        *_chain("x4", "spatial8", sides="rl"),
        *_chain("x8", "spatial", "fusion", sides="rl"),
        *_chain("spatial4", "spatial8", "spatial"),
        *_chain("x16", "gate16", "up16", sides="rl"),
        *_chain("x32", "gate32", "up32", sides="rl"),
        *_chain("up32", "up16", "fusion", "head", sides="tb"),
        *_chain("up16", "aux16", sides="rl", training=True),
        *_chain("up32", "aux32", sides="rl", training=True),
    ],
)

DABNET_PATCHES = Figure(
    "dabnet_patches",
    "dabnet_resnet18_p2",
    "DABNet's patch module: a branch of pixels and one of patches exchange what they know; the sum is added.",
    {
        "in": Box((0, 0.5), "A stage's map", 4, 64, "patches.0", of="input"),
        "high": Box((1, 0), "Pixels", 4, 32, "patches.0.high"),
        "low": Box((1, 1), "Patches of 2 x 2", 8, 32, "patches.0.low"),
        "to_high": Box((2.3, 0), "Pixels", 4, 32, "patches.0.to_high", "join"),
        "to_low": Box((2.3, 1), "Patches", 8, 32, "patches.0.to_low", "join"),
        "out": Box((3.3, 0.5), "Joined, added", 4, 64, "patches.0", "join"),
    },
    [
        Arrow("in.r", "high.l"),
        Arrow("in.r", "low.l"),
        *_chain("high", "to_high", sides="rl"),
        *_chain("low", "to_low", sides="rl"),
        Arrow("high.r+0.25", "to_low.l-0.25", direct=True),
        Arrow("low.r-0.25", "to_high.l+0.25", direct=True),
        Arrow("to_high.r", "out.l-0.2"),
        Arrow("to_low.r", "out.l+0.2"),
        Arrow("in.b", "out.b", word="unchanged"),
    ],
)

CRM = Figure(
    "crm",
    "crm_resnet50",
    "CRM: features of image and mask at strides 2, 4 and 8, joined, and a decoder that is asked at every pixel.",
    {
        "image": Box((0, 0), "Image and mask", 1, 4, "extractor.conv1", of="input"),
        "stem": Box((0, 1), "Stem", 2, 64, "extractor.act1", "backbone"),
        "layer1": Box((0, 2), "ResNet, stage 1", 4, 256, "extractor.layer1.2", "backbone"),
        "layer3": Box((0, 3), "Stages 2 and 3", 8, 1024, "extractor.layer3.5", "backbone"),
        "branch1": Box((1, 1), "1x1 convolution", 2, 64, "fusion.branches.0"),
        "branch2": Box((1, 2), "1x1 convolution", 4, 64, "fusion.branches.1"),
        "branch3": Box((1, 3), "1x1 convolution", 8, 128, "fusion.branches.2"),
        "join": Box((2, 2), "Joined", 2, 256, "fusion.join", "join"),
        "decoder": Box((3, 2), "Point decoder", None, None, None, note="4 nearest features"),
        "mask": Box((3, 1), "Soft mask", 1, 1, "decoder", "head"),
    },
    [
        *_chain("image", "stem", "layer1", "layer3"),
        *_chain("stem", "branch1", sides="rl"),
        *_chain("layer1", "branch2", "join", "decoder", sides="rl"),
        *_chain("layer3", "branch3", sides="rl"),
        Arrow("branch1.r", "join.t"),
        Arrow("branch3.r", "join.b"),
        Arrow("decoder.t", "mask.b"),
        Arrow("mask.t", "image.r", word="the next stage, at the next larger scale"),
    ],
)

SCAPENET = Figure(
    "scapenet",
    "scapenet_lite0",
    "ScapeNet: EfficientNet-Lite and a feature pyramid down to stride 4.",
    {
        "image": Box((0, 0), "Image", 1, 3, "backbone.conv_stem", of="input"),
        "x2": Box((0, 1), "Stem, stage 1", 2, 16, "backbone.blocks.0", "backbone"),
        "x4": Box((0, 2), "Stage 2", 4, 24, "backbone.blocks.1", "backbone"),
        "x8": Box((0, 3), "Stage 3", 8, 40, "backbone.blocks.2", "backbone"),
        "x16": Box((0, 4), "Stages 4, 5", 16, 112, "backbone.blocks.4", "backbone"),
        "x32": Box((0, 5), "Stages 6, 7", 32, 320, "backbone.blocks.6", "backbone"),
        "l4": Box((1, 2), "1x1 convolution", 4, 64, "lateral.4"),
        "l8": Box((1, 3), "1x1 convolution", 8, 96, "lateral.8"),
        "l16": Box((1, 4), "1x1 convolution", 16, 96, "lateral.16"),
        "l32": Box((1, 5), "1x1 convolution", 32, 96, "lateral.32"),
        "p16": Box((2, 4), "Sum, convolution", 16, 96, "smooth.16", "join"),
        "p8": Box((2, 3), "Sum, convolution", 8, 64, "smooth.8", "join"),
        "p4": Box((2, 2), "Sum, convolution", 4, 64, "smooth.4", "join"),
        "logits": Box((2, 1), "Logits", 4, "K", "classifier", "head"),
        "aux8": Box((3, 3), "Logits", 8, "K", "aux8", "head", training=True),
        "aux16": Box((3, 4), "Logits", 16, "K", "aux16", "head", training=True),
    },
    [
        *_chain("image", "x2", "x4", "x8", "x16", "x32"),
        *_chain("x4", "l4", "p4", sides="rl"),
        *_chain("x8", "l8", "p8", sides="rl"),
        *_chain("x16", "l16", "p16", sides="rl"),
        *_chain("x32", "l32", sides="rl"),
        Arrow("l32.r", "p16.b"),
        *_chain("p16", "p8", "p4", "logits", sides="tb"),
        *_chain("p8", "aux8", sides="rl", training=True),
        *_chain("p16", "aux16", sides="rl", training=True),
    ],
)

FIGURES = (ISDNET, ISNET, CRM, STDC_SEG, BISESTDC, DABNET, DABNET_PATCHES, SCAPENET)


def draw(figure: Figure) -> str:
    """Return a figure as SVG."""
    columns = max(box.place[0] for box in figure.boxes.values()) + 1
    rows = max(box.place[1] for box in figure.boxes.values()) + 1
    width = 2 * _MARGIN + columns * _BOX[0] + (columns - 1) * _GAP[0]
    keys = _keys(figure, width)
    lowest = max(y for arrow in figure.arrows for _, y in _route(figure, arrow))
    grid = 2 * _MARGIN + max(rows * _BOX[1] + (rows - 1) * _GAP[1], lowest - _MARGIN)
    drawing = Drawing(width, grid + 22 * (max(line for _, _, line in keys) + 1), figure.title)
    for arrow in figure.arrows:
        points = _route(figure, arrow)
        drawing.path(points, dashed=arrow.training)
        if arrow.word is not None:
            middle = max(itertools.pairwise(points), key=lambda pair: abs(pair[0][0] - pair[1][0]))
            x, y = (middle[0][0] + middle[1][0]) / 2, middle[0][1] - 6
            drawing.text(x, y, arrow.word, size=11.5, colour="soft")
    for box in figure.boxes.values():
        _draw_box(drawing, box)
    for key, x, line in keys:
        y = grid + 22 * line
        drawing.box(x, y - 8, 22, 13, "plain" if key == "training" else key, dashed=key == "training", radius=3)
        drawing.text(x + 28, y + 3, _word(key), size=11.5, colour="soft", anchor="start")
    return drawing.svg()


def _word(key: str) -> str:
    return "only in training" if key == "training" else _KINDS[key]  # type: ignore[index]


def _keys(figure: Figure, width: float) -> list[tuple[str, float, int]]:
    """The legend: each key with its place, and in which line it stands."""
    kinds = {box.kind for box in figure.boxes.values()}
    keys = [kind for kind in _KINDS if kind in kinds and kind != "plain"]
    keys += ["training"] if any(box.training for box in figure.boxes.values()) else []  # type: ignore[list-item]
    placed, x, line = [], _MARGIN, 0
    for key in keys:
        needed = 28 + text_width(_word(key), 11.5) + 16
        if x + needed > width:
            x, line = _MARGIN, line + 1
        placed.append((key, x, line))
        x += needed
    return placed


def _corner(box: Box) -> Point:
    return tuple(_MARGIN + at * (side + gap) for at, side, gap in zip(box.place, _BOX, _GAP, strict=True))  # type: ignore[return-value]


def _draw_box(drawing: Drawing, box: Box) -> None:
    (x, y), (width, height) = _corner(box), _BOX
    drawing.box(x, y, width, height, box.kind, dashed=box.training)
    lines = box.lines
    top = y + height / 2 + 4.5 - 7.5 * len(lines)
    drawing.text(x + width / 2, top, box.title, size=13, bold=True, room=width - 2)
    for number, line in enumerate(lines, start=1):
        drawing.text(x + width / 2, top + 15 * number, line, size=12, room=width - 4)


def _anchor(figure: Figure, end: str) -> tuple[Point, str]:
    name, _, side = end.partition(".")
    (x, y), (width, height) = _corner(figure.boxes[name]), _BOX
    shift = float(side[1:] or 0)
    across, down = x + width * (0.5 + shift), y + height * (0.5 + shift)
    return {"l": (x, down), "r": (x + width, down), "t": (across, y), "b": (across, y + height)}[side[0]], side[0]


def _route(figure: Figure, arrow: Arrow) -> list[Point]:
    """Return the corners of an arrow: horizontal and vertical lines only, unless it is direct."""
    (start, leave), (end, enter) = _anchor(figure, arrow.start), _anchor(figure, arrow.end)
    sideways, into_side = leave in "lr", enter in "lr"
    if arrow.direct or start[0] == end[0] or (start[1] == end[1] and sideways):
        return [start, end]
    if sideways and into_side:
        # It turns in the gap before the box that it enters.
        x = end[0] + (-1 if enter == "l" else 1) * _GAP[0] / 2
        return [start, (x, start[1]), (x, end[1]), end]
    if leave == enter == "b":
        y = max(start[1], end[1]) + _BOX[1] / 2 + 1.5 * _GAP[1]
        return [start, (start[0], y), (end[0], y), end]
    if not sideways and not into_side:
        y = end[1] + (-1 if enter == "t" else 1) * _GAP[1] / 2
        return [start, (start[0], y), (end[0], y), end]
    return [start, (end[0], start[1]) if sideways else (start[0], end[1]), end]


def main() -> None:
    """Write every figure."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for figure in FIGURES:
        (FOLDER / f"{figure.name}.svg").write_text(draw(figure))
        print(f"written: {FOLDER / figure.name}.svg")


if __name__ == "__main__":
    main()
