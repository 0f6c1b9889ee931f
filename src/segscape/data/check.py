"""The check of a data set's folder: its content, and everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from segscape.data.annotations import find_annotations
from segscape.data.datasets import DATASETS, SegmentationDataset
from segscape.data.datasets.base import Pair, match_files
from segscape.labels import IGNORE_INDEX, LabelSpec
from segscape.rasters.image import read_image

_ROWS = 256
"""Rows of a label map that are counted at once: counting takes eight bytes per pixel."""
_LOOKED_AT = 64
"""Label files that are looked at before training."""
_NAMED = 8
"""Classes that a message names."""


class Finding(NamedTuple):
    """The content of one sample.

    Attributes:
        size: Height and width.
        pixels: (256,) int64, pixels by class index; zeros where it has no labels.
    """

    size: tuple[int, int]
    pixels: npt.NDArray[np.int64]


Track = Callable[[Iterable[Finding | str], int], Iterable[Finding | str]]
"""Called with the findings, or the reasons why samples cannot be read, and their number; yields them again."""


@dataclass
class SplitReport:
    """The content of a split.

    Attributes:
        split: Its name.
        samples: The number of images with a label file, or of all images where no image has one.
        labelled: Whether there are label files.
        sizes: The number of samples of each size (height, width).
        pixels: (256,) int64, pixels by class index; the ignore index counts the pixels without a label.
        problems: A sentence for each thing that is wrong, naming its file.
        remarks: A sentence for each thing that may be wrong.
    """

    split: str
    samples: int
    labelled: bool = True
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    pixels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(IGNORE_INDEX + 1, np.int64))
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def detect_dataset(root: Path) -> str:
    """Return the name of the data set whose layout a folder has.

    Raises:
        FileNotFoundError: There is no such folder, or it has no known layout.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    for name, dataset in DATASETS.items():
        if dataset.recognises(root):
            return name
    layouts = "; ".join(f"{name}: {dataset.layout}" for name, dataset in DATASETS.items())
    raise FileNotFoundError(
        find_annotations(root)
        or f"{root} has the layout of no known data set; name it with --dataset, or prepare it with `segscape data "
        f"prepare`. Expected one of: {layouts}."
    )


def check_split(dataset: type[SegmentationDataset], root: Path, split: str, *, track: Track) -> SplitReport:
    """Read every file of a split and report its content.

    Args:
        dataset: The data set's class.
        root: Its folder.
        split: One of its splits.
        track: For a progress bar.
    """
    spec = dataset.spec(root)
    images, masks = dataset.find_files(root, split)
    if not masks and split in dataset.unlabelled_splits:
        report = SplitReport(split, len(images), labelled=False)
        nothing = np.zeros_like(report.pixels)
        readings = read_all(images.values(), lambda path: Finding(read_image(path).shape[:2], nothing))
    else:
        pairs, problems = match_files(images, masks)
        annotations = find_annotations(root) if images and not masks else None
        problems = [annotations, *problems] if annotations else problems
        report = SplitReport(split, len(pairs), problems=problems)

        def read(pair: Pair) -> Finding:
            _, mask = dataset.read_pair(pair, spec)
            return Finding(mask.shape, _count(mask))

        readings = read_all(pairs, read)
    for reading in track(readings, report.samples):
        if isinstance(reading, str):
            report.problems.append(reading)
            continue
        report.sizes[reading.size] += 1
        report.pixels += reading.pixels
    if report.labelled and report.sizes:
        remark = missing_classes(report.pixels, spec)
        if remark:
            # The labels of some published test splits are kept back, and their files hold none.
            wrong = not report.pixels[: spec.num_classes].any() and split not in dataset.unlabelled_splits
            (report.problems if wrong else report.remarks).append(remark)
    return report


def missing_classes(pixels: npt.NDArray[np.int64], spec: LabelSpec) -> str | None:
    """Return a sentence on the classes of which label files hold no pixel, and the likely reason; None if all occur.

    Args:
        pixels: (256,), pixels by class index.
        spec: The classes.
    """
    missing = [name for name, count in zip(spec.class_names, pixels, strict=False) if not count]
    if not missing:
        return None
    if len(missing) == spec.num_classes:
        return "no pixel has a class, all of them are ignored."
    named = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
    remark = f"no pixel of {named}"
    if len(missing) == spec.num_classes - 1 and pixels[IGNORE_INDEX] and spec.raw_to_index.get(255) == IGNORE_INDEX:
        remark += (
            "; there is one class, and all else is ignored: if the label files are black and white, 0 and 255, give "
            "the class that 255 stands for `value: 255` in labels.yaml"
        )
    return f"{remark}."


def check_labels(dataset: SegmentationDataset) -> str | None:
    """Look at some label files before training; return a sentence on what may be wrong, or None.

    Of a split of many samples only some are read; then rare classes may be missing among them, which is not said.

    Raises:
        ValueError: A label file cannot be read, or no pixel has a class; the message says which or why.
    """
    pairs = dataset.pairs[:: -(-len(dataset) // _LOOKED_AT)]
    pixels = np.zeros(IGNORE_INDEX + 1, np.int64)
    for found in read_all(pairs, lambda pair: _count(dataset.read_indices(pair.mask, dataset.label_spec))):
        if isinstance(found, str):
            raise ValueError(found)
        pixels += found
    remark = missing_classes(pixels, dataset.label_spec)
    occurring = np.count_nonzero(pixels[: dataset.label_spec.num_classes])
    if not occurring:
        raise ValueError(f"{dataset.pairs[0].mask.parent}: {remark}")
    return remark if len(pairs) == len(dataset) or occurring == 1 else None


def _count(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Count the pixels of each value: (256,) int64."""
    counts = np.zeros(IGNORE_INDEX + 1, np.int64)
    for first in range(0, len(mask), _ROWS):
        counts += np.bincount(mask[first : first + _ROWS].ravel(), minlength=IGNORE_INDEX + 1)
    return counts


_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def read_all(items: Iterable[_Item], read: Callable[[_Item], _Found]) -> Iterator[_Found | str]:
    """Read items in order and a few ahead; yield the content of each, or a sentence on why it cannot be read."""

    def attempt(item: _Item) -> _Found | str:
        try:
            return read(item)
        except (ValueError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        remaining = iter(items)
        ahead = [pool.submit(attempt, item) for item in islice(remaining, 16)]
        while ahead:
            yield ahead.pop(0).result()
            ahead += [pool.submit(attempt, item) for item in islice(remaining, 1)]
