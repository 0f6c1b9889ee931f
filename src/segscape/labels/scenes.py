"""Scenes of everything: ADE20K and COCO-Stuff, whose names and colours stand in `tables/`."""

from __future__ import annotations

import csv
from importlib.resources import files

from segscape.labels.spec import IGNORE_INDEX, Colour, LabelSpec


def _read_table(name: str) -> dict[int, tuple[str, Colour | None]]:
    """Name and colour by raw id; no colour where a class never occurs in the labels."""
    text = (files("segscape.labels") / "tables" / f"{name}.csv").read_text(encoding="utf-8")
    rows = {}
    for row in csv.DictReader(text.splitlines()):
        channels = [row[channel] for channel in ("red", "green", "blue")]
        colour = (int(channels[0]), int(channels[1]), int(channels[2])) if all(channels) else None
        rows[int(row["id"])] = (row["name"], colour)
    return rows


def _interleaved_colour(number: int) -> Colour:
    """PASCAL VOC's rule: the bits of a number dealt in turn to red, green and blue, from their highest bit down."""
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return channels[0], channels[1], channels[2]


def _ade20k() -> LabelSpec:
    rows = _read_table("ade20k")
    return LabelSpec(
        name="ADE20K",
        class_names=tuple(name for name, _ in rows.values()),
        palette=tuple(colour for _, colour in rows.values() if colour),
        raw_to_index={0: IGNORE_INDEX, **{raw: raw - 1 for raw in rows}},
    )


_COCO = _read_table("coco_stuff")
_COCO_USED = {raw: (name, colour) for raw, (name, colour) in _COCO.items() if colour}


def _coco_stuff(name: str, raw_to_index: dict[int, int]) -> LabelSpec:
    names = tuple(name for name, _ in _COCO_USED.values())
    return LabelSpec(name, names, tuple(colour for _, colour in _COCO_USED.values()), raw_to_index)


def _coco_stuff_10k_182() -> LabelSpec:
    return LabelSpec(
        name="COCO-Stuff 10k, 182 classes",
        class_names=tuple(name for name, _ in _COCO.values()),
        palette=tuple(_interleaved_colour(raw) for raw in _COCO),
        raw_to_index={0: IGNORE_INDEX, IGNORE_INDEX: IGNORE_INDEX, **{raw: raw - 1 for raw in _COCO}},
    )


ADE20K = _ade20k()
"""ADE20K scene parsing: 150 classes, in files with the class index plus one; 0 is unlabelled."""

COCO_STUFF_10K = _coco_stuff(
    "COCO-Stuff 10k", {0: IGNORE_INDEX, **{place: place - 1 for place in range(1, 172)}, IGNORE_INDEX: IGNORE_INDEX}
)
"""COCO-Stuff 10k: 171 classes, in prepared files with the class index plus one; 0 is unlabelled."""

COCO_STUFF_10K_RAW = _coco_stuff(
    "COCO-Stuff 10k",
    {0: IGNORE_INDEX, IGNORE_INDEX: IGNORE_INDEX, **{raw: place for place, raw in enumerate(_COCO_USED)}},
)
"""The label files of its download, with category ids, of which 11 below 183 never occur."""

COCO_STUFF_164K = _coco_stuff(
    "COCO-Stuff 164k", {IGNORE_INDEX: IGNORE_INDEX, **{raw - 1: place for place, raw in enumerate(_COCO_USED)}}
)
"""COCO-Stuff 164k: the same 171 classes, in files with the category id minus one; 255 is unlabelled."""

COCO_STUFF_10K_182 = _coco_stuff_10k_182()
"""COCO-Stuff 10k with a class for each of the 182 category ids, the 11 that never occur included."""
