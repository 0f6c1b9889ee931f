"""A data set by name as Lightning's loaders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset

from segscape.data.datasets import ImageSample, InMemory, Sample, SegmentationDataset, SplitImages, find_dataset
from segscape.data.transforms import Augmentation
from segscape.training.loaders import eval_loader, train_loader


class SegmentationDataModule(L.LightningDataModule):
    """Training crops and whole evaluation images of one data set.

    A batch holds `image` (N, 3, H, W) uint8, `mask` (N, H, W) uint8 and `name`; for prediction, N is 1 and there is no
    `mask`.

    Args:
        dataset: A data set's name, one of `segscape.data.datasets.DATASETS`.
        root: Its folder.
        augmentation: The recipe's augmentation.
        batch_size: Crops a step and process.
        eval_batch_size: Whole images a step; more than one needs images of one size.
        train_split: The split to train on.
        val_split: The split that `validate` and the checks during training measure.
        test_split: The split that `test` measures.
        predict_split: The split whose images are predicted; it needs no labels.
        num_workers: Loader processes.
        in_memory: Decode the training split once and keep it.
        seed: Fixes order, crops and colours.

    Attributes:
        label_spec: The data set's classes.

    Raises:
        ValueError: There is no such data set; the message lists those that there are.
    """

    def __init__(
        self,
        *,
        dataset: str,
        root: str,
        augmentation: Augmentation,
        batch_size: int,
        eval_batch_size: int = 1,
        train_split: str = "train",
        val_split: str = "val",
        test_split: str = "test",
        predict_split: str = "test",
        num_workers: int = 2,
        in_memory: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dataset = find_dataset(dataset)
        self.label_spec = self.dataset.spec(Path(root))
        self.root = root
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.train_split = train_split
        self.val_split = val_split
        self.test_split = test_split
        self.predict_split = predict_split
        self.num_workers = num_workers
        self.in_memory = in_memory
        self.seed = seed

    def setup(self, stage: str) -> None:
        """Find the files of the splits that `stage` needs."""
        if stage == TrainerFn.FITTING:
            train = self.dataset(self.root, self.train_split)
            self._train: Dataset[Sample] = InMemory(train) if self.in_memory else train
        if stage in (TrainerFn.FITTING, TrainerFn.VALIDATING):
            self._val = self.dataset(self.root, self.val_split)
        if stage == TrainerFn.TESTING:
            self._test = self.dataset(self.root, self.test_split)
        if stage == TrainerFn.PREDICTING:
            self._predict = SplitImages(self.dataset, self.root, self.predict_split)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Augmented crops, beginning where a resumed run stopped.

        Raises:
            ValueError: The split has too few images for one joint batch, or a joint batch is a single image.
        """
        assert self.trainer is not None
        return train_loader(
            self.trainer,
            self._train,
            self.augmentation.build(self.label_spec),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the validation split, as whole images in order."""
        return self._eval_loader(self._val, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the test split, as whole images in order."""
        return self._eval_loader(self._test, self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[ImageSample]:
        """This process's share of the images to predict, whole, in order and one at a time."""
        return self._eval_loader(self._predict, 1)

    def _eval_loader(self, dataset: SegmentationDataset | SplitImages, batch_size: int) -> DataLoader[Any]:
        assert self.trainer is not None
        return eval_loader(self.trainer, dataset, batch_size=batch_size, num_workers=self.num_workers)
