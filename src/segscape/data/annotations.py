"""Annotation files that are no label images, recognised so that a message can say how to convert them."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

_START = 100_000
"""Characters that are read of a file: the names that tell its format stand near its beginning."""
_FILES = 1_000
"""Files that are looked at."""

_FORMATS: tuple[tuple[str, str, str], ...] = (
    (r"\s*\{.*\"(shapes|imagePath)\"\s*:", "labelme", "labelme's `labelme2voc.py` writes them as label images"),
    (
        r"\s*\[.*\"(annotations|completions|task|data)\"\s*:",
        "Label Studio",
        "export them from Label Studio as `Brush labels to PNG`",
    ),
    (
        r"\s*\{.*\"(images|annotations|categories)\"\s*:\s*\[",
        "COCO",
        "pycocotools writes each as a mask: `COCO(FILE).annToMask(annotation)`",
    ),
    (r".*<annotations\b", "CVAT", "export the task from CVAT as `Segmentation mask 1.1`"),
    (
        r".*<annotation\b",
        "Pascal VOC",
        "its label images are in `SegmentationClass`; boxes alone are no labels of pixels",
    ),
)
"""The beginning of a file of each format, its name, and the way to label images."""


def find_annotations(root: Path) -> str | None:
    """Return a sentence on the first annotation file in a folder whose format is known, or None.

    Args:
        root: The data set's folder; files in its folders count too.
    """
    files = (path for path in root.rglob("*") if path.suffix.lower() in (".json", ".xml") and path.is_file())
    for path in islice(files, _FILES):
        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.read(_START)
        for pattern, name, way in _FORMATS:
            if re.match(pattern, start, re.DOTALL):
                return f"{path} holds annotations in the format of {name}, not a label for each pixel; {way}."
    return None
