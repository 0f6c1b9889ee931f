"""Images with an exact mask of one object, of any class: the training sets of CascadePSP and CRM, and other folders."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import Dataset

from segscape.data.refinement.samples import PairSample, read_with_masks
from segscape.data.refinement.sources import LAYOUT, SOURCES, TRAIN, join

_log = logging.getLogger(__name__)


class NoPairsError(FileNotFoundError):
    """A folder holds no pair of the wanted split."""


class RefinementPairs(Dataset[PairSample]):
    """Every pair of image and exact mask that lies below a root, the sources one after the other.

    Args:
        root: The folder; see `LAYOUT` for what it may hold, also several sources at once.
        split: `"train"`, or another split of images and masks in folders by split.
        sources: Only these of `SOURCES`; all that are there by default.

    Attributes:
        pairs: The files of each sample, by source and sorted by name.

    Raises:
        FileNotFoundError: There are no pairs, or a file lacks its partner; the message names it.
        ValueError: There is no such source, or two files could be one sample's image.
    """

    def __init__(self, root: str | Path, split: str = TRAIN, sources: Sequence[str] | None = None) -> None:
        root = Path(root)
        unknown = sorted(set(sources or ()) - SOURCES.keys())
        if unknown:
            raise ValueError(f"There is no source of pairs {unknown[0]!r}; there are {', '.join(SOURCES)}.")
        wanted = [name for name in SOURCES if sources is None or name in sources]
        found = join(SOURCES[name](root, split) for name in wanted)
        for sentence in found.left_out:
            _log.warning(sentence)
        if found.problems:
            more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
            raise FileNotFoundError(f"{found.problems[0]}{more}; `segscape data check {root}` lists every problem.")
        if not found.pairs:
            raise NoPairsError(f"No pairs of image and mask for split {split} in {root}; expected {LAYOUT}.")
        self.pairs = found.pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> PairSample:
        """Decode one sample.

        Raises:
            ValueError: A file is damaged, or the two sizes differ; the message names the file.
        """
        pair = self.pairs[index]
        image, [truth] = read_with_masks(pair.image, pair.truth)
        return PairSample(image=image, truth=truth, name=pair.name)
