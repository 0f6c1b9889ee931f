"""Scenes from above: DeepGlobe land cover, Inria aerial buildings, DroneDeploy, Dubai, and what they have in common."""

from __future__ import annotations

from dataclasses import replace

from segscape.labels.spec import IGNORE_INDEX, Colour, LabelSpec


def _deepglobe() -> LabelSpec:
    rows: dict[str, Colour] = {
        "unknown": (0, 0, 0),
        "urban": (0, 255, 255),
        "agriculture": (255, 255, 0),
        "rangeland": (255, 0, 255),
        "forest": (0, 255, 0),
        "water": (0, 0, 255),
        "barren": (255, 255, 255),
    }
    return LabelSpec(
        name="DeepGlobe",
        class_names=tuple(rows),
        palette=tuple(rows.values()),
        raw_to_index={index: index for index in range(len(rows))},
        excluded=(0,),
        # Of the eight corners of the colour cube, pure red is no class.
        colour_to_index={colour: index for index, colour in enumerate(rows.values())} | {(255, 0, 0): 0},
    )


DEEPGLOBE = _deepglobe()
"""DeepGlobe land cover: "unknown" is trained as class 0, but no part of the mean IoU."""

INRIA_AERIAL = LabelSpec(
    name="Inria Aerial",
    class_names=("background", "building"),
    palette=((0, 0, 0), (255, 255, 255)),
    raw_to_index={0: 0, 1: 1},
)
"""Inria Aerial Image Labeling: buildings against everything else."""

INRIA_AERIAL_RAW = replace(INRIA_AERIAL, raw_to_index={0: 0, 255: 1}, raw_palette=())
"""The label files of its download, where 255 is a building."""

DRONEDEPLOY = LabelSpec(
    name="DroneDeploy",
    class_names=("building", "clutter", "vegetation", "water", "ground", "car"),
    palette=((230, 25, 75), (145, 30, 180), (60, 180, 75), (245, 130, 48), (255, 255, 255), (0, 130, 200)),
    raw_to_index={**{index: index for index in range(6)}, IGNORE_INDEX: IGNORE_INDEX},
)
"""DroneDeploy: six classes of orthophotos at 10 cm a pixel."""

DUBAI = LabelSpec(
    name="Dubai",
    class_names=("building", "land", "road", "vegetation", "water"),
    palette=((60, 16, 152), (132, 41, 246), (110, 193, 228), (254, 221, 58), (226, 169, 41)),
    raw_to_index={**{index: index for index in range(5)}, IGNORE_INDEX: IGNORE_INDEX},
)
"""Dubai: five classes of satellite images, by Humans in the Loop."""

AERIAL = LabelSpec(
    name="Aerial",
    class_names=("building", "road", "ground", "vegetation", "water", "car"),
    palette=((230, 25, 75), (128, 128, 128), (210, 180, 140), (60, 180, 75), (0, 130, 200), (255, 225, 25)),
    raw_to_index={**{index: index for index in range(6)}, IGNORE_INDEX: IGNORE_INDEX},
)
"""What can be told apart in most images from above; the classes of networks trained on several data sets."""
