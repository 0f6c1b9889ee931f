"""Parts of people: LIP."""

from __future__ import annotations

from segscape.labels.spec import LabelSpec


def _lip() -> LabelSpec:
    rows = (
        ("background", (0, 0, 0)),
        ("hat", (128, 0, 0)),
        ("hair", (255, 0, 0)),
        ("glove", (0, 85, 0)),
        ("sunglasses", (170, 0, 51)),
        ("upper clothes", (255, 85, 0)),
        ("dress", (0, 0, 85)),
        ("coat", (0, 119, 221)),
        ("socks", (85, 85, 0)),
        ("pants", (0, 85, 85)),
        ("jumpsuits", (85, 51, 0)),
        ("scarf", (52, 86, 128)),
        ("skirt", (0, 128, 0)),
        ("face", (0, 0, 255)),
        ("left arm", (51, 170, 221)),
        ("right arm", (0, 255, 255)),
        ("left leg", (85, 255, 170)),
        ("right leg", (170, 255, 85)),
        ("left shoe", (255, 255, 0)),
        ("right shoe", (255, 170, 0)),
    )
    return LabelSpec(
        name="LIP",
        class_names=tuple(name for name, _ in rows),
        palette=tuple(colour for _, colour in rows),
        raw_to_index={index: index for index in range(len(rows))},
        flip_pairs=((14, 15), (16, 17), (18, 19)),
    )


LIP = _lip()
"""Look into Person: 20 classes, background included; every pixel has one."""
