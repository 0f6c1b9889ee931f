"""The endless stream of training samples, a pure function of a seed and a position.

Whoever knows the number of steps taken knows the next sample, its crop and its colours: a resumed run goes on with
exactly what an uninterrupted one would have seen, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import v2


class SampleStream(Dataset[Any]):
    """Augmented samples by position: each run of `len(dataset)` positions is one shuffled epoch.

    Args:
        dataset: The samples.
        transform: The random augmentation of a sample.
        seed: Fixes the shuffling and the augmentation.
    """

    def __init__(self, dataset: Dataset[Any], transform: v2.Transform, *, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.epoch_length = len(dataset)  # type: ignore[arg-type]

    def __getitem__(self, position: int) -> Any:
        epoch, rank = divmod(position, self.epoch_length)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(self.epoch_length, generator=generator)
        sample = self.dataset[int(order[rank])]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1_000_003 + position)
            return self.transform(sample)


class StreamSampler(Sampler[int]):
    """The positions of a `SampleStream` that one of several processes takes, an epoch at each iteration.

    An iteration begins where the steps taken so far end, within an epoch too. The last, incomplete joint batch of an
    epoch is dropped.

    Args:
        epoch_length: Samples in an epoch.
        batch_size: Samples a step and process.
        steps_taken: Called when an iteration begins; the number of steps trained so far, in this run and those it
            resumes.
        rank: This process's number.
        world_size: The number of processes.

    Attributes:
        steps: Steps in an epoch.
    """

    def __init__(
        self, epoch_length: int, batch_size: int, steps_taken: Callable[[], int], *, rank: int = 0, world_size: int = 1
    ) -> None:
        self.epoch_length = epoch_length
        self.batch_size = batch_size
        self.steps_taken = steps_taken
        self.rank = rank
        self.world_size = world_size
        self.steps = epoch_length // (batch_size * world_size)

    def __len__(self) -> int:
        """Samples of a whole epoch, also when an iteration begins in the middle."""
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        epoch, first_step = divmod(self.steps_taken(), self.steps)
        for step in range(first_step, self.steps):
            first = epoch * self.epoch_length + (step * self.world_size + self.rank) * self.batch_size
            yield from range(first, first + self.batch_size)
