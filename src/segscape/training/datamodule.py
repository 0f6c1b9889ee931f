"""A data set by name as Lightning's loaders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset

from segscape.data.datasets import ImageSample, InMemory, Sample, SegmentationDataset, SplitImages, find_dataset
from segscape.data.stream import SampleStream, StreamSampler
from segscape.data.transforms import Augmentation


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
        trainer = self.trainer
        assert trainer is not None
        stream = SampleStream(self._train, self.augmentation.build(self.label_spec), seed=self.seed)

        def steps_taken() -> int:
            # Lightning counts every batch it has trained on, those before a resumed run's checkpoint included.
            return trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]

        sampler = StreamSampler(
            stream.epoch_length, self.batch_size, steps_taken, rank=trainer.global_rank, world_size=trainer.world_size
        )
        if sampler.steps == 0 or self.batch_size * trainer.world_size < 2:
            raise ValueError(
                f"A joint batch of {self.batch_size} x {trainer.world_size} images does not do for a split of "
                f"{stream.epoch_length}: it needs at least 2, for the normalisation of pooled features, and at most "
                "the whole split; change batch_size."
            )
        return self._loader(stream, self.batch_size, sampler)

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
        trainer = self.trainer
        assert trainer is not None
        # Each image once over all processes, none repeated to even out their numbers.
        share = range(trainer.global_rank, len(dataset), trainer.world_size)
        return self._loader(dataset, batch_size, share)

    def _loader(self, dataset: Dataset[Any], batch_size: int, sampler: Iterable[int]) -> DataLoader[Any]:
        return _ResumableLoader(
            dataset,
            # By its name, because Lightning makes the loader of a prediction anew with arguments of its own.
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0 and isinstance(sampler, StreamSampler),
            pin_memory=torch.cuda.is_available(),
        )


class _ResumableLoader(DataLoader[Sample]):
    """A loader that Lightning knows to be resumable; its place follows from the trainer's counter alone."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass
