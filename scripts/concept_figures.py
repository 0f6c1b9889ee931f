"""Draw `docs/pictures/concepts/*.svg`: how scenes are streamed and tiled. Schematic, not to scale.

python scripts/concept_figures.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.drawing import Drawing  # noqa: E402

FOLDER = ROOT / "docs" / "pictures" / "concepts"


def _key(drawing: Drawing, x: float, y: float, colour: str, text: str) -> None:
    drawing.box(x, y - 10, 20, 13, colour, radius=2)
    drawing.text(x + 27, y + 1, text, colour="soft", anchor="start")


def streaming() -> str:
    """A sweep, a block with its halo, and the passes."""
    drawing = Drawing(
        760,
        560,
        "Streaming: rows of a scene go through all layers, and each map keeps only those that are still to be read; "
        "a block reads a halo around itself; sweeps gather means over the scene, and the last one gives the labels.",
    )
    drawing.text(20, 30, "A sweep: new rows go through all layers", size=14, bold=True, anchor="start")
    top, height = 70, 230
    # Of each map: its name, and where its rows end that are dropped, kept, and computed in this step.
    maps = (
        ("image", 0.50, 0.62, 0.72),
        ("stride 2", 0.46, 0.58, 0.68),
        ("stride 8", 0.36, 0.50, 0.60),
        ("logits", 0.50, 0.50, 0.50),
        ("labels", 0.40, 0.40, 0.50),
    )
    for place, (name, dropped, kept, done) in enumerate(maps):
        x = 24 + 88 * place
        drawing.text(x + 28, top - 8, name)
        rows = (("panel", 0.0, dropped), ("backbone", dropped, kept), ("loud", kept, done), ("plain", done, 1.0))
        if name == "logits":
            rows = (("panel", 0.0, 0.40), ("loud", 0.40, 0.50), ("plain", 0.50, 1.0))
        if name == "labels":
            rows = (("head", 0.0, 0.40), ("loud", 0.40, 0.50), ("plain", 0.50, 1.0))
        for colour, first, last in rows:
            if last > first:
                drawing.box(x, top + first * height, 56, (last - first) * height, colour, radius=0)
        if place:
            before = maps[place - 1]
            middle = (before[2] + before[3]) / 2 if before[0] != "logits" else 0.45
            now = 0.45 if name in ("logits", "labels") else (kept + done) / 2
            drawing.path([(x - 30, top + middle * height), (x - 3, top + now * height)])
    _key(drawing, 24, 326, "loud", "computed in this step")
    _key(drawing, 204, 326, "backbone", "kept: still to be read")
    _key(drawing, 24, 348, "panel", "dropped")
    _key(drawing, 204, 348, "plain", "still to come")
    _key(drawing, 334, 348, "head", "written")

    drawing.text(488, 30, "A block and its halo", size=14, bold=True, anchor="start")
    left, width = 488, 252
    drawing.box(left, top, width, height, "plain", radius=0)
    for line in (1, 2):
        drawing.path([(left + line * width / 3, top), (left + line * width / 3, top + height)], arrow=False)
    drawing.box(left + width / 3 - 22, top, width / 3 + 44, height, "mean", dashed=True, radius=0)
    drawing.box(left + width / 3, top, width / 3, height, "backbone", radius=0)
    drawing.text(left + width / 2, top + 100, "block", size=13, bold=True)
    drawing.text(left + width / 2, top + 118, "its own part")
    drawing.path([(left + width / 2, top + 140), (left + width / 2, top + 205)])
    _key(drawing, left, 326, "mean", "halo: read and computed as well")
    _key(drawing, left, 348, "plain", "other blocks, before and after it")

    drawing.text(
        20, 392, "Sweeps that gather means over the scene, then one for the labels", size=14, bold=True, anchor="start"
    )
    steps = (
        ("Sweep 1", ("every block adds up", "its own rows")),
        ("Sweep 2", ("knows the first means,", "gathers the next")),
        ("Last sweep", ("knows all means,", "gives the labels")),
    )
    for place, (title, lines) in enumerate(steps):
        x = 20 + 260 * place
        drawing.box(x, 410, 200, 66, ("mean", "mean", "head")[place])
        drawing.text(x + 100, 432, title, size=13, bold=True)
        for number, line in enumerate(lines):
            drawing.text(x + 100, 450 + 15 * number, line, room=196)
        if place:
            drawing.path([(x - 60, 443), (x - 1, 443)])
            drawing.text(x - 31, 436, "means", size=11.5, colour="soft")
    drawing.box(150, 506, 460, 34, "join")
    drawing.text(380, 527, "a file beside the result: maps that later sweeps read again", room=456)
    drawing.path([(180, 476), (180, 506)])
    drawing.path([(340, 506), (340, 476)])
    drawing.path([(420, 476), (420, 506)])
    drawing.path([(580, 506), (580, 476)])
    return drawing.svg()


def tiling() -> str:
    """Tiles over a scene, and the weights of two neighbours."""
    drawing = Drawing(
        760,
        330,
        "Tiling: tiles of one size overlap, and two neighbours pass over into each other in the middle of "
        "their overlap.",
    )
    drawing.text(20, 30, "Tiles overlap", size=14, bold=True, anchor="start")
    left, top, side, step = 24, 50, 96, 78
    drawing.box(left, top, side + 2 * step, side + step, "plain", radius=0)
    for place in (1, 2):
        drawing.area(left + place * step, top, side - step, side + step, "mean")
    drawing.area(left, top + step, side + 2 * step, side - step, "mean")
    for row in (0, 1):
        for col in (0, 1, 2):
            x, y = left + col * step, top + row * step
            corners = [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]
            drawing.path(corners, dashed=(row + col) % 2 == 1, arrow=False)
    drawing.area(left, top, side, side, "backbone", 0.7)
    drawing.text(left + side / 2, top + side / 2 + 4, "a tile", size=13, bold=True)
    _key(drawing, left, 254, "mean", "seen by two tiles or four")
    drawing.text(left, 282, "Each tile is an image of its own", colour="soft", anchor="start")
    drawing.text(left, 298, "to the network.", colour="soft", anchor="start")

    drawing.text(330, 30, "What counts along a row of pixels", size=14, bold=True, anchor="start")
    # The overlap lies between 470 and 630, its middle quarter between 530 and 570.
    base, high = 210, 80
    drawing.area(470, high - 24, 160, base - high + 24, "mean", 0.55)
    drawing.path([(340, base), (740, base)], arrow=False)
    drawing.path([(340, high), (530, high), (570, base), (630, base)], arrow=False)
    drawing.path([(470, base), (530, base), (570, high), (740, high)], arrow=False, colour="loud")
    drawing.text(334, high + 4, "1", anchor="end")
    drawing.text(334, base + 4, "0", anchor="end")
    drawing.text(400, high - 8, "weight of the left tile")
    drawing.text(676, high - 8, "of the right tile", colour="loud")
    drawing.path([(550, 228), (470, 228)])
    drawing.path([(550, 228), (630, 228)])
    drawing.text(550, 246, "overlap: at least an eighth of a tile's side", size=11.5, colour="soft")
    drawing.path([(505, 272), (529, 272)])
    drawing.path([(595, 272), (571, 272)])
    drawing.text(550, 292, "both tiles count", size=11.5, colour="soft")
    return drawing.svg()


FIGURES: dict[str, Callable[[], str]] = {"streaming": streaming, "tiling": tiling}


def main() -> None:
    """Write every figure."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(draw())
        print(f"written: {FOLDER / name}.svg")


if __name__ == "__main__":
    main()
