"""What is in a data set's folder, and everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segscape.data.datasets import DATASETS, SegmentationDataset
from segscape.data.datasets.base import Pair, Sample
from segscape.labels import IGNORE_INDEX


@dataclass
class SplitReport:
    """What a split holds.

    Attributes:
        split: Its name.
        samples: The number of images with a label file.
        sizes: The number of samples of each size (height, width).
        pixels: (256,) int64, pixels by class index; the ignore index counts the pixels without a label.
        problems: A sentence for each thing that is wrong, naming its file.
    """

    split: str
    samples: int
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    pixels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(IGNORE_INDEX + 1, np.int64))
    problems: list[str] = field(default_factory=list)


def detect_dataset(root: Path) -> str:
    """The name of the data set whose layout a folder has.

    Raises:
        FileNotFoundError: There is no such folder, or it has no known layout.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    for name, dataset in DATASETS.items():
        if any(any(dataset.find_files(root, split)) for split in dataset.splits):
            return name
    layouts = "; ".join(f"{name}: {dataset.layout}" for name, dataset in DATASETS.items())
    raise FileNotFoundError(f"{root} has the layout of no known data set. Expected one of: {layouts}.")


def check_split(
    dataset: type[SegmentationDataset],
    root: Path,
    split: str,
    *,
    track: Callable[[Iterable[Sample | str], int], Iterable[Sample | str]],
) -> SplitReport:
    """Read every file of a split.

    Args:
        dataset: The data set's class.
        root: Its folder.
        split: One of its splits.
        track: Called with the decoded samples and their number; yields them again, for a progress bar.
    """
    pairs, problems = dataset.find_pairs(root, split)
    report = SplitReport(split, len(pairs), problems=problems)
    for result in track(_read_all(dataset, pairs), len(pairs)):
        if isinstance(result, str):
            report.problems.append(result)
            continue
        mask = result["mask"].numpy()
        report.sizes[mask.shape] += 1
        report.pixels += np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1)
    return report


def _read_all(dataset: type[SegmentationDataset], pairs: list[Pair]) -> Iterator[Sample | str]:
    """Each sample in order, or the sentence that says why it cannot be read; a few are decoded ahead."""

    def read(pair: Pair) -> Sample | str:
        try:
            return dataset.read_pair(pair)
        except (ValueError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        remaining = iter(pairs)
        ahead = [pool.submit(read, pair) for pair in islice(remaining, 16)]
        while ahead:
            yield ahead.pop(0).result()
            ahead += [pool.submit(read, pair) for pair in islice(remaining, 1)]
