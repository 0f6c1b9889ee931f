"""One data set by name, or several whose classes differ, as Lightning's loaders."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from segscape.data.check import check_labels
from segscape.data.datasets import SegmentationDataset, find_dataset
from segscape.data.samples import ImageSample, InMemory, Sample, Samples, SplitImages
from segscape.data.stream import StreamSource
from segscape.data.transforms import Augmentation, CameraAugmentation
from segscape.labels import AERIAL, ClassMapping, LabelSpec, unions_of
from segscape.labels.file import read_label_file
from segscape.training.loaders import eval_loader, train_loader

_log = logging.getLogger(__name__)


class SegmentationDataModule(L.LightningDataModule):
    """Training crops and whole evaluation images of one data set.

    A batch holds `image` (N, 3, H, W) uint8, `mask` (N, H, W) uint8 and `name`; for prediction, N is 1 and there is no
    `mask`.

    Args:
        dataset: A data set's name, one of `segscape.data.datasets.DATASETS`.
        root: Its folder.
        augmentation: The recipe's augmentation.
        batch_size: Crops per step and process.
        eval_batch_size: Whole images per step; those of one size are computed together.
        train_split: The split to train on.
        val_split: The split that `validate` and the checks during training measure.
        test_split: The split that `test` measures.
        predict_split: The split whose images are predicted; it needs no labels.
        num_workers: Loader processes.
        in_memory: Decode the training split once and keep it.
        seed: Fixes order, crops and colours.

    Attributes:
        label_spec: The data set's classes.
        maps: The mapping of the labels of each measured loader to the network's classes: here to the same.
        unions: The unions of classes that further training labels stand for: here there are none.

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
        _check_counts(batch_size=batch_size, eval_batch_size=eval_batch_size)
        self.dataset = find_dataset(dataset)
        self.label_spec = self.dataset.spec(Path(root))
        self.maps = (ClassMapping.same(self.label_spec),)
        self.unions: tuple[tuple[int, ...], ...] = ()
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

    def described(self, split: Literal["train", "val", "test"]) -> str:
        """Describe the data set and split that is trained on or measured, in words."""
        return f"{self.label_spec.name} {getattr(self, f'{split}_split')}"

    @property
    def shown(self) -> list[tuple[Samples[Sample], LabelSpec]]:
        """Whole images to show predictions on, with their classes."""
        return [(self._val, self.label_spec)]

    def setup(self, stage: str) -> None:
        """Find the files of the splits that `stage` needs."""
        if stage == TrainerFn.FITTING:
            train = self.dataset(self.root, self.train_split)
            self._train: Samples[Sample] = InMemory(train) if self.in_memory else train
        if stage in (TrainerFn.FITTING, TrainerFn.VALIDATING):
            self._val = self.dataset(self.root, self.val_split)
        if stage == TrainerFn.FITTING:
            _check(train, self.train_split)
            _check(self._val, self.val_split)
        if stage == TrainerFn.TESTING:
            self._test = self.dataset(self.root, self.test_split)
        if stage == TrainerFn.PREDICTING:
            self._predict = SplitImages(self.dataset, self.root, self.predict_split)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return the loader of augmented crops, beginning where a resumed run stopped.

        Raises:
            ValueError: The split has too few images for one joint batch, or a joint batch is a single image.
        """
        assert self.trainer is not None
        return train_loader(
            self.trainer,
            [StreamSource(self._train, self.augmentation.build(self.label_spec))],
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return the loader of this process's share of the validation split, as whole images in order."""
        return self._eval_loader(self._val, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return the loader of this process's share of the test split, as whole images in order."""
        return self._eval_loader(self._test, self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[ImageSample]:
        """Return the loader of this process's share of the images to predict: whole, in order, one at a time."""
        return self._eval_loader(self._predict, 1)

    def _eval_loader(self, dataset: Samples[Any], batch_size: int) -> DataLoader[Any]:
        assert self.trainer is not None
        return eval_loader(self.trainer, dataset, batch_size=batch_size, num_workers=self.num_workers)


@dataclass(frozen=True)
class JointSet:
    """One of several data sets that are trained on together.

    Attributes:
        dataset: Its name, one of `segscape.data.datasets.DATASETS`.
        root: Its folder, below the joint root.
        draws: The number of crops that it contributes to each round of all sets' draws.
        scales: The range of the factor by which its images are scaled; by default the augmentation's.
        resolution: Metres per pixel of its images, with `resolutions` in place of `scales`.
        resolutions: The finest and the coarsest resolution, in metres per pixel, to which its images are scaled.
        classes: By the name of one of its classes, the names of the network's classes that it stands for; see
            `segscape.labels.ClassMapping.of`.
        train_split: The split to train on.
        val_split: The split to measure.
    """

    dataset: str
    root: str
    draws: int = 1
    scales: tuple[float, float] | None = None
    resolution: float | None = None
    resolutions: tuple[float, float] | None = None
    classes: dict[str, list[str]] = field(default_factory=dict)
    train_split: str = "train"
    val_split: str | None = "val"

    def scale_range(self, usual: tuple[float, float]) -> tuple[float, float]:
        """Return the range of the factor by which images are scaled, `usual` if the set specifies none.

        Raises:
            ValueError: Of `resolution` and `resolutions` one is missing, or `scales` are given too.
        """
        if self.resolution is None and self.resolutions is None:
            return self.scales or usual
        if self.resolution is None or self.resolutions is None or self.scales is not None:
            raise ValueError(f"{self.root}: `resolution` and `resolutions` go together, and without `scales`.")
        finest, coarsest = self.resolutions
        return self.resolution / coarsest, self.resolution / finest


class _Relabelled:
    """Samples with the labels of training: classes of the network, and unions of them."""

    def __init__(self, dataset: SegmentationDataset, table: npt.NDArray[np.uint8]) -> None:
        self.dataset = dataset
        self.table = torch.from_numpy(table)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        labels = self.table[sample["mask"].as_subclass(Tensor).int()]
        return Sample(image=sample["image"], mask=tv_tensors.Mask(labels), name=sample["name"])


class JointDataModule(L.LightningDataModule):
    """Training crops of several data sets in one batch, and the whole validation images of each.

    A batch is the same as of `SegmentationDataModule`. Training labels are indices of the network's classes, then of
    unions of them, and the ignore index; validation labels are the data set's own.

    Args:
        sets: The data sets.
        root: The folder that their folders lie below.
        labels: The network's classes: the name of a data set that has them, `"aerial"`, or a `labels.yaml`.
        augmentation: The augmentation of all sets, with each one's own scales.
        batch_size: Crops per step and process.
        num_workers: Loader processes.
        in_memory: Decode the training splits once and keep them.
        seed: Fixes order, crops and colours.

    Attributes:
        label_spec: The network's classes.
        maps: The mapping of the classes of each measured set to them.
        unions: The unions of classes that further training labels stand for.

    Raises:
        FileNotFoundError: There is no such label file.
        ValueError: There is no such data set or class, or a set's scales are ambiguous.
    """

    def __init__(
        self,
        *,
        sets: list[JointSet],
        root: str,
        labels: str,
        augmentation: CameraAugmentation,
        batch_size: int,
        num_workers: int = 2,
        in_memory: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_counts(batch_size=batch_size)
        self.label_spec = AERIAL if labels == "aerial" else _spec_named(labels)
        self.sets = sets
        self.root = Path(root)
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.in_memory = in_memory
        self.seed = seed
        specs = [find_dataset(each.dataset).spec(self.root / each.root) for each in sets]
        # Scores are keyed by a set's name, so measured sets of one name are distinguished by their folders.
        named = Counter(spec.name for spec, each in zip(specs, sets, strict=True) if each.val_split is not None)
        self._maps = [
            ClassMapping.of(
                replace(spec, name=f"{spec.name} ({each.root})") if named[spec.name] > 1 else spec,
                *(self.label_spec, each.classes),
            )
            for spec, each in zip(specs, sets, strict=True)
        ]
        self.unions = unions_of(self._maps)
        self.maps = tuple(each for each, one in zip(self._maps, sets, strict=True) if one.val_split is not None)
        self._scales = [each.scale_range(augmentation.scales) for each in sets]

    def described(self, split: Literal["train", "val", "test"]) -> str:
        """Describe the data sets and splits that are trained on or measured, in words."""
        total = sum(each.draws for each in self.sets)
        named = [(found.own.name, each) for found, each in zip(self._maps, self.sets, strict=True)]
        if split == "train":
            return " + ".join(f"{name} {each.train_split} ({each.draws} of {total} crops)" for name, each in named)
        return " + ".join(f"{name} {each.val_split}" for name, each in named if each.val_split is not None)

    @property
    def shown(self) -> list[tuple[Samples[Sample], LabelSpec]]:
        """Whole images of each set to show predictions on, with their classes."""
        return [(dataset, each.own) for dataset, each in zip(self._val, self.maps, strict=True)]

    def setup(self, stage: str) -> None:
        """Find the files of the splits that `stage` needs.

        Raises:
            ValueError: There is no test or prediction of several data sets at once.
        """
        if stage not in (TrainerFn.FITTING, TrainerFn.VALIDATING):
            raise ValueError("Several data sets are trained on and validated together; test each by itself.")
        if stage == TrainerFn.FITTING:
            trained = [self._open(each, each.train_split) for each in self.sets]
            for dataset, each in zip(trained, self.sets, strict=True):
                _check(dataset, f"{each.root} {each.train_split}")
            tables = [each.table(self.unions) for each in self._maps]
            joint = [_Relabelled(*pair) for pair in zip(trained, tables, strict=True)]
            self._train: list[Samples[Sample]] = [InMemory(each) if self.in_memory else each for each in joint]
        self._val = [self._open(each, each.val_split) for each in self.sets if each.val_split is not None]

    def _open(self, each: JointSet, split: str) -> SegmentationDataset:
        return find_dataset(each.dataset)(self.root / each.root, split)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return the loader of augmented crops, beginning where a resumed run stopped.

        Raises:
            ValueError: There are too few images for one joint batch, or a joint batch is a single image.
        """
        assert self.trainer is not None
        sources = [
            StreamSource(dataset, self.augmentation.scaled(scales).build(self.label_spec), each.draws)
            for dataset, scales, each in zip(self._train, self._scales, self.sets, strict=True)
        ]
        return train_loader(
            self.trainer, sources, batch_size=self.batch_size, num_workers=self.num_workers, seed=self.seed
        )

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Return the loaders of this process's share of each validation split, as whole images in order."""
        assert self.trainer is not None
        return [eval_loader(self.trainer, dataset, batch_size=1, num_workers=self.num_workers) for dataset in self._val]


def _check(dataset: SegmentationDataset, split: str) -> None:
    """Look at some label files before anything is trained, and say what may be wrong."""
    remark = check_labels(dataset)
    if remark:
        rank_zero_only(_log.warning)("%s: %s", split, remark)


def _spec_named(labels: str) -> LabelSpec:
    """Return the classes of a data set by name, or of a label file."""
    if labels.endswith((".yaml", ".yml")):
        return read_label_file(Path(labels))
    return find_dataset(labels).label_spec


def _check_counts(**counts: int | None) -> None:
    """Refuse numbers of images that are none: a config may say null.

    Raises:
        ValueError: One is missing, or not positive.
    """
    for name, count in counts.items():
        if count is None or count < 1:
            raise ValueError(f"data.{name} is a number of images, at least 1, not {count}.")
