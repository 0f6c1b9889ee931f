"""Label specifications: one table a data set, of class names, colours, raw values and the ignored index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

IGNORE_INDEX = 255
"""The index of pixels without a label in every label map that Segscape holds in memory."""


@dataclass(frozen=True)
class LabelSpec:
    """Names and colours of K classes, and how a data set's files spell them.

    Attributes:
        name: The data set whose classes these are.
        class_names: K names, in the order of the class indices 0 to K-1.
        palette: K colours (red, green, blue), each 0 to 255.
        raw_to_index: For each value that may stand in a label file, its class index, or `ignore_index`.
        ignore_index: The index of pixels that count in no loss and no score.
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    raw_to_index: Mapping[int, int]
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        assert len(self.class_names) == len(self.palette), f"{self.name}: a class has no colour, or a colour no class"
        allowed = {*range(self.num_classes), self.ignore_index}
        assert set(self.raw_to_index.values()) <= allowed, f"{self.name}: a raw value maps outside the classes"

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @cached_property
    def _table(self) -> npt.NDArray[np.int16]:
        table = np.full(256, -1, np.int16)
        for raw, index in self.raw_to_index.items():
            table[raw % 256] = index
        return table

    def to_indices(self, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Class indices of a label file's values.

        Args:
            raw: (H, W) uint8, the values of the file. A raw value of -1 stands in 8-bit files as 255.

        Returns:
            (H, W) uint8: class indices, and `ignore_index` where there is no label.

        Raises:
            ValueError: A value is in no row of the table; the message names the values and their pixel counts.
        """
        indices = self._table[raw]
        strange = indices < 0
        if strange.any():
            values, counts = np.unique(raw[strange], return_counts=True)
            listed = ", ".join(f"{value} ({count} pixels)" for value, count in zip(values[:8], counts[:8], strict=True))
            known = ", ".join(map(str, sorted(self.raw_to_index)))
            raise ValueError(f"label values that {self.name} does not have: {listed}; its values are {known}")
        return indices.astype(np.uint8)


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
    # The other 16 of the 35 ids (0 to 33 and -1, the licence plate) are not evaluated.
    raw_to_index = dict.fromkeys(range(-1, 34), IGNORE_INDEX)
    raw_to_index.update({label_id: index for index, (label_id, _, _) in enumerate(evaluated)})
    return LabelSpec(
        name="Cityscapes",
        class_names=tuple(name for _, name, _ in evaluated),
        palette=tuple(colour for _, _, colour in evaluated),
        raw_to_index=raw_to_index,
    )


CAMVID = _camvid()
"""CamVid with the 11 classes of its SegNet edition."""

CITYSCAPES = _cityscapes()
"""Cityscapes: 19 evaluated classes, read from `labelIds` files with all 35 ids."""
