"""Street scenes: CamVid and Cityscapes."""

from __future__ import annotations

from dataclasses import replace

from segscape.labels.spec import IGNORE_INDEX, Colour, LabelSpec


def _camvid() -> LabelSpec:
    rows = (
        ("Sky", (128, 128, 128)),
        ("Building", (128, 0, 0)),
        ("Pole", (192, 192, 128)),
        ("Road", (128, 64, 128)),
        ("Pavement", (60, 40, 222)),
        ("Tree", (128, 128, 0)),
        ("SignSymbol", (192, 128, 128)),
        ("Fence", (64, 64, 128)),
        ("Car", (64, 0, 128)),
        ("Pedestrian", (64, 64, 0)),
        ("Bicyclist", (0, 128, 192)),
    )
    identity = {index: index for index in range(len(rows))}
    return LabelSpec(
        name="CamVid",
        class_names=tuple(name for name, _ in rows),
        palette=tuple(colour for _, colour in rows),
        raw_to_index={**identity, IGNORE_INDEX: IGNORE_INDEX},
    )


def _camvid_original() -> LabelSpec:
    # Eleven of the 32 classes under their own names; none is merged with another.
    kept: tuple[tuple[str, Colour], ...] = (
        ("Sky", (128, 128, 128)),
        ("Building", (128, 0, 0)),
        ("Column-Pole", (192, 192, 128)),
        ("Road", (128, 64, 128)),
        ("Sidewalk", (0, 0, 192)),
        ("Tree", (128, 128, 0)),
        ("Sign-Symbol", (192, 128, 128)),
        ("Fence", (64, 64, 128)),
        ("Car", (64, 0, 128)),
        ("Pedestrian", (64, 64, 0)),
        ("Bicyclist", (0, 128, 192)),
    )
    left_out: dict[str, Colour] = {
        "Animal": (64, 128, 64),
        "Archway": (192, 0, 128),
        "Bridge": (0, 128, 64),
        "CartLuggagePram": (64, 0, 192),
        "Child": (192, 128, 64),
        "LaneMkgsDriv": (128, 0, 192),
        "LaneMkgsNonDriv": (192, 0, 64),
        "Misc_Text": (128, 128, 64),
        "MotorcycleScooter": (192, 0, 192),
        "OtherMoving": (128, 64, 64),
        "ParkingBlock": (64, 192, 128),
        "RoadShoulder": (128, 128, 192),
        "SUVPickupTruck": (64, 128, 192),
        "TrafficCone": (0, 0, 64),
        "TrafficLight": (0, 64, 64),
        "Train": (192, 64, 128),
        "Truck_Bus": (192, 128, 192),
        "Tunnel": (64, 0, 64),
        "VegetationMisc": (192, 192, 0),
        "Void": (0, 0, 0),
        "Wall": (64, 192, 0),
    }
    colours = {colour: index for index, (_, colour) in enumerate(kept)}
    return LabelSpec(
        name="CamVid original",
        class_names=tuple(name for name, _ in kept),
        palette=tuple(colour for _, colour in kept),
        raw_to_index={**{index: index for index in range(len(kept))}, IGNORE_INDEX: IGNORE_INDEX},
        colour_to_index={**colours, **dict.fromkeys(left_out.values(), IGNORE_INDEX)},
    )


def _cityscapes() -> LabelSpec:
    # (labelId, name, colour) of the classes that are evaluated, in the order of their train ids.
    evaluated = (
        (7, "road", (128, 64, 128)),
        (8, "sidewalk", (244, 35, 232)),
        (11, "building", (70, 70, 70)),
        (12, "wall", (102, 102, 156)),
        (13, "fence", (190, 153, 153)),
        (17, "pole", (153, 153, 153)),
        (19, "traffic light", (250, 170, 30)),
        (20, "traffic sign", (220, 220, 0)),
        (21, "vegetation", (107, 142, 35)),
        (22, "terrain", (152, 251, 152)),
        (23, "sky", (70, 130, 180)),
        (24, "person", (220, 20, 60)),
        (25, "rider", (255, 0, 0)),
        (26, "car", (0, 0, 142)),
        (27, "truck", (0, 0, 70)),
        (28, "bus", (0, 60, 100)),
        (31, "train", (0, 80, 100)),
        (32, "motorcycle", (0, 0, 230)),
        (33, "bicycle", (119, 11, 32)),
    )
    # The official colours of the other ids; those that are missing here are black.
    others: dict[int, Colour] = {
        5: (111, 74, 0),
        6: (81, 0, 81),
        9: (250, 170, 160),
        10: (230, 150, 140),
        14: (180, 165, 180),
        15: (150, 100, 100),
        16: (150, 120, 90),
        18: (153, 153, 153),
        29: (0, 0, 90),
        30: (0, 0, 110),
        34: (0, 0, 142),  # the licence plate, whose id is -1
    }
    colours = others | {label_id: colour for label_id, _, colour in evaluated}
    # The other 16 of the 35 ids (0 to 33 and -1, the licence plate) are not evaluated.
    raw_to_index = dict.fromkeys([*range(34), -1], IGNORE_INDEX)
    raw_to_index.update({label_id: index for index, (label_id, _, _) in enumerate(evaluated)})
    return LabelSpec(
        name="Cityscapes",
        class_names=tuple(name for _, name, _ in evaluated),
        palette=tuple(colour for _, _, colour in evaluated),
        raw_to_index=raw_to_index,
        raw_palette=tuple(colours.get(label_id, (0, 0, 0)) for label_id in range(35)),
    )


CAMVID = _camvid()
"""CamVid with the 11 classes of its SegNet edition."""

CAMVID_RAW = replace(CAMVID, raw_to_index={**{index: index for index in range(11)}, 11: IGNORE_INDEX}, raw_palette=())
"""The label files of the SegNet edition's download, where 11 is void."""

CAMVID_ORIGINAL = _camvid_original()
"""CamVid as first published: 11 of its 32 classes, the other 21 not evaluated."""

CITYSCAPES = _cityscapes()
"""Cityscapes: 19 evaluated classes, read from `labelIds` files with all 35 ids."""

IDD_LITE = LabelSpec(
    name="IDD-Lite",
    class_names=(
        "drivable",
        "non-drivable",
        "living thing",
        "vehicle",
        "roadside object",
        "far object",
        "sky",
    ),
    palette=(
        (128, 64, 128),
        (244, 35, 232),
        (220, 20, 60),
        (0, 0, 142),
        (190, 153, 153),
        (70, 70, 70),
        (70, 130, 180),
    ),
    raw_to_index={**{index: index for index in range(7)}, IGNORE_INDEX: IGNORE_INDEX},
)
"""India Driving Dataset, Lite edition: seven classes of 320 x 227 street frames."""
