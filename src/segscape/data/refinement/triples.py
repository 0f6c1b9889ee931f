"""Images with a coarse and an exact mask in the layout of the test set BIG, on which refinement is measured.

Source: CascadePSP (arXiv:2005.02551), whose BIG and relabelled PASCAL VOC sets have this layout.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch.utils.data import Dataset

from segscape.data.refinement.samples import TripleSample, read_with_masks
from segscape.data.scan import files_by_name

_IMAGES = "_im.jpg", "_im.png"
_TRUTHS = "_gt.png"
_MASKS = "_seg.png"


class TripleFiles(NamedTuple):
    """The three files of a sample.

    Attributes:
        name: The sample's name.
        image: The image file.
        mask: The file of its coarse mask.
        truth: The file of its exact mask.
    """

    name: str
    image: Path
    mask: Path
    truth: Path


class RefinementTriples(Dataset[TripleSample]):
    """Every `<name>_im.jpg` (or `.png`) of a folder, with its `<name>_seg.png` and `<name>_gt.png`.

    Args:
        root: The folder.

    Attributes:
        triples: The files of each sample, sorted by name.

    Raises:
        FileNotFoundError: There are no images, or a sample lacks one of its files; the message names it.
        ValueError: A sample has two images.
    """

    def __init__(self, root: str | Path) -> None:
        root = Path(root)
        images = files_by_name(root, *_IMAGES)
        masks, truths = files_by_name(root, _MASKS), files_by_name(root, _TRUTHS)
        names = sorted(images.keys() | masks.keys() | truths.keys())
        if not names:
            raise FileNotFoundError(f"No images in {root}; expected <name>_im.jpg, <name>{_MASKS} and <name>{_TRUTHS}.")
        kinds = {"_im.jpg": images, _MASKS: masks, _TRUTHS: truths}
        missing = [f"{name}{ending}" for name in names for ending, found in kinds.items() if name not in found]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise FileNotFoundError(f"{root} lacks {missing[0]}{more}; a sample is its image, {_MASKS} and {_TRUTHS}.")
        self.triples = [TripleFiles(name, images[name], masks[name], truths[name]) for name in names]

    def __len__(self) -> int:
        return len(self.triples)

    def __getitem__(self, index: int) -> TripleSample:
        """Decode one sample.

        Raises:
            ValueError: A file is damaged, or the sizes differ; the message names the file.
        """
        files = self.triples[index]
        image, [mask, truth] = read_with_masks(files.image, files.mask, files.truth)
        return TripleSample(image=image, mask=mask, truth=truth, name=files.name)
