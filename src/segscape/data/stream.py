"""The endless stream of training samples, a pure function of a seed and a position.

Whoever knows the number of steps taken knows the next sample, its crop and its colours: a resumed run goes on with
exactly what an uninterrupted one would have seen, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import v2


@dataclass(frozen=True)
class StreamSource:
    """One of the data sets that a stream draws from.

    Attributes:
        dataset: The samples.
        transform: The random augmentation of a sample.
        draws: How many samples of every round of the stream are its.
    """

    dataset: Dataset[Any]
    transform: v2.Transform
    draws: int = 1


class SampleStream(Dataset[Any]):
    """Augmented samples by position, of one data set or of several in fixed shares.

    The stream goes in rounds: in each, every source gives as many samples as its `draws`, in a shuffled order. What a
    source gives is one shuffled pass over its samples after another.

    Args:
        sources: The data sets.
        seed: Fixes the shuffling and the augmentation.

    Attributes:
        epoch_length: The samples of all sources together.
    """

    def __init__(self, sources: Sequence[StreamSource], *, seed: int) -> None:
        self.sources = tuple(sources)
        self.seed = seed
        self.lengths = [len(source.dataset) for source in sources]  # type: ignore[arg-type]
        self.epoch_length = sum(self.lengths)
        round_ = torch.tensor([number for number, source in enumerate(sources) for _ in range(source.draws)])
        self._round = round_[torch.randperm(len(round_), generator=torch.Generator().manual_seed(seed))].tolist()

    def __getitem__(self, position: int) -> Any:
        rounds, place = divmod(position, len(self._round))
        number = self._round[place]
        source = self.sources[number]
        given = rounds * source.draws + self._round[:place].count(number)
        epoch, rank = divmod(given, self.lengths[number])
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(self.lengths[number], generator=generator)
        sample = source.dataset[int(order[rank])]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1_000_003 + position)
            return source.transform(sample)


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
