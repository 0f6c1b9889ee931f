"""The check of a folder of pairs: its content, and everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from segscape.data.check import read_all
from segscape.data.refinement.sources import SOURCES, SPLITS, PairFiles, read_aligned

_THRESHOLD = 127


class PairFinding(NamedTuple):
    """The content of one mask.

    Attributes:
        path: Its file.
        size: Height and width.
        foreground: Pixels above 127.
        fringe: Pixels that are neither 0 nor 255.
    """

    path: Path
    size: tuple[int, int]
    foreground: int
    fringe: int


Track = Callable[[Iterable[PairFinding | str], int], Iterable[PairFinding | str]]
"""Called with the findings, or the reasons why pairs cannot be read, and their number; yields them again."""


@dataclass
class PairReport:
    """The content of a split of a source.

    Attributes:
        source: One of `SOURCES`.
        split: The split's name.
        pairs: The number of images with a mask.
        sizes: The number of pairs of each size (height, width).
        foreground: Pixels above 127, which train as foreground.
        fringe: Pixels that are neither 0 nor 255.
        fringed: Masks with such pixels.
        problems: A sentence for each thing that is wrong, naming its file.
    """

    source: str
    split: str
    pairs: int
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    foreground: int = 0
    fringe: int = 0
    fringed: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        """The number of pixels of all pairs that can be read."""
        return sum(height * width * count for (height, width), count in self.sizes.items())


def holds_pairs(root: Path) -> bool:
    """Return whether a folder has the layout of a source of pairs, with at least one complete pair."""
    return any(find(root, split).pairs for find in SOURCES.values() for split in SPLITS)


def check_pairs(root: Path, source: str, split: str, *, track: Track) -> PairReport | None:
    """Read every file of a split of a source and report its content; None where a folder does not hold it.

    Args:
        root: The folder.
        source: One of `SOURCES`.
        split: One of `SPLITS`.
        track: For a progress bar.
    """
    found = SOURCES[source](root, split)
    if not any(found):
        return None
    report = PairReport(source, split, len(found.pairs), problems=[*found.problems, *found.left_out])
    for reading in track(read_all(found.pairs, _measure), len(found.pairs)):
        if isinstance(reading, str):
            report.problems.append(reading)
            continue
        report.sizes[reading.size] += 1
        report.foreground += reading.foreground
        report.fringe += reading.fringe
        report.fringed += reading.fringe > 0
        if not reading.foreground:
            report.problems.append(f"{reading.path} is empty: no pixel is above {_THRESHOLD}.")
    return report


def _measure(pair: PairFiles) -> PairFinding:
    _, [grey] = read_aligned(pair.image, pair.truth)
    foreground, fringe = int((grey > _THRESHOLD).sum()), int(((grey > 0) & (grey < 255)).sum())
    return PairFinding(pair.truth, grey.shape, foreground, fringe)
