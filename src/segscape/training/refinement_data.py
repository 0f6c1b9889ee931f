"""Pairs and triples of mask refinement as Lightning's loaders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import ConcatDataset, DataLoader

from segscape.data.refinement.pairs import NoPairsError, RefinementPairs
from segscape.data.refinement.samples import PairSample, TripleSample
from segscape.data.refinement.transforms import PerturbedPairs, RefinementAugmentation
from segscape.data.refinement.triples import RefinementTriples
from segscape.data.samples import InMemory, Samples
from segscape.data.stream import StreamSource
from segscape.training.loaders import eval_loader, train_loader


class RefinementDataModule(L.LightningDataModule):
    """Training crops with coarse masks computed from the exact ones, and whole images for evaluation.

    A batch holds `image` (N, 3, H, W), `mask` and `truth` (N, 1, H, W), all uint8, and `name`; whole images come one at
    a time.

    Args:
        root: The folder of pairs; of triples for `test`.
        roots: Folders of pairs below the root to train on together instead, each with its draws: the number of crops
            that it contributes to each round of all draws, such as `{ecssd: 2, davis: 1}`. Those with the validation
            split are measured.
        augmentation: The recipe's augmentation.
        batch_size: Crops per step and process.
        sources: Only these sources of pairs below the root; by default all that are there.
        train_split: The split of pairs to train on.
        val_split: The split of pairs that `validate` and the checks during training measure, with coarse masks that are
            always the same; without one nothing is measured during training.
        num_workers: Loader processes.
        in_memory: Decode the training split once and keep it.
        seed: Fixes order, crops, colours and coarse masks.

    Attributes:
        folder: The root's own name, for statements of what was trained on and measured.
        shown: Whole images with coarse masks, of the validation split where there is one.
    """

    def __init__(
        self,
        *,
        root: str,
        roots: dict[str, int] | None = None,
        augmentation: RefinementAugmentation = RefinementAugmentation(),  # noqa: B008 - frozen
        batch_size: int = 6,
        sources: list[str] | None = None,
        train_split: str = "train",
        val_split: str | None = "val",
        num_workers: int = 2,
        in_memory: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if roots is not None and (not roots or min(roots.values()) < 1):
            raise ValueError(f"roots must name at least one folder, each with at least one draw, not {roots}.")
        self.root = root
        self.roots = roots or {".": 1}
        self.folder = Path(root).resolve().name if roots is None else ", ".join(roots)
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.sources = sources
        self.train_split = train_split
        self.val_split = val_split
        self.num_workers = num_workers
        self.in_memory = in_memory
        self.seed = seed

    def setup(self, stage: str) -> None:
        """Find the files of the splits that `stage` needs.

        Raises:
            FileNotFoundError: A folder has no pairs of the split to train on, or none has any to validate on.
            ValueError: There is no split to validate on.
        """
        if stage == TrainerFn.VALIDATING and self.val_split is None:
            raise ValueError("There is no split to validate on; name one: --data.val_split SPLIT.")
        if stage == TrainerFn.FITTING:
            parts = self._parts(self.train_split)
            self._train: list[Samples[PairSample]] = [InMemory(part) if self.in_memory else part for part in parts]
            self.shown = PerturbedPairs(ConcatDataset(parts), seed=self.seed)
        if stage in (TrainerFn.FITTING, TrainerFn.VALIDATING) and self.val_split is not None:
            self.shown = PerturbedPairs(ConcatDataset(self._parts(self.val_split, some=True)), seed=self.seed)
        if stage == TrainerFn.TESTING:
            self._test = RefinementTriples(self.root)

    def _parts(self, split: str, *, some: bool = False) -> list[RefinementPairs]:
        """Return the pairs of each of the roots, or with `some` those of the roots that have the split."""
        parts: list[RefinementPairs] = []
        for number, folder in enumerate(self.roots, start=1):
            path = Path(self.root, folder)
            try:
                parts.append(RefinementPairs(path, split, self.sources))
            except NoPairsError:
                # The last root may lack the split only if another one has it.
                if not (some and path.is_dir() and (parts or number < len(self.roots))):
                    raise
        return parts

    def train_dataloader(self) -> DataLoader[TripleSample]:
        """Return the loader of augmented crops, beginning where a resumed run stopped.

        Raises:
            ValueError: The split has too few images for one joint batch, or a joint batch is a single image.
        """
        assert self.trainer is not None
        return train_loader(
            self.trainer,
            [
                StreamSource(dataset, self.augmentation.build(), draws)
                for dataset, draws in zip(self._train, self.roots.values(), strict=True)
            ],
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
        )

    def val_dataloader(self) -> DataLoader[TripleSample] | list[Any]:
        """Return the loader of this process's share of the validation split, as whole images in order."""
        return [] if self.val_split is None else self._eval_loader(self.shown)

    def test_dataloader(self) -> DataLoader[TripleSample]:
        """Return the loader of this process's share of the triples, as whole images in order."""
        return self._eval_loader(self._test)

    def _eval_loader(self, dataset: Samples[TripleSample]) -> DataLoader[TripleSample]:
        assert self.trainer is not None
        return eval_loader(self.trainer, dataset, batch_size=1, num_workers=self.num_workers)

    def measured_on(self, split: str) -> str:
        """Describe the data that `validate` (`"val"`) or `test` (`"test"`) measures on, in words."""
        return f"{self.folder} {self.val_split}, perturbed" if split == "val" else self.folder
