"""The main object of a photograph, whatever it is."""

from __future__ import annotations

from segscape.labels.spec import LabelSpec

SALIENT = LabelSpec(
    name="Salient objects",
    class_names=("background", "object"),
    palette=((0, 0, 0), (255, 255, 255)),
    # What is written comes first: black and white.
    raw_to_index={0: 0, 255: 1} | {grey: int(grey >= 128) for grey in range(256)},
)
"""Masks of salient objects: grey levels from 128 on are the object, as the benchmarks take them."""
