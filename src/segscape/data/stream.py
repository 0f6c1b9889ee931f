"""The endless stream of training samples, a pure function of a seed and a position.

The number of steps taken determines the next sample, its crop and its colours: a resumed run sees exactly the samples
that an uninterrupted one would have seen, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import v2

from segscape.data.samples import Samples


@dataclass(frozen=True)
class StreamSource:
    """One of the data sets that a stream draws from.

    Attributes:
        dataset: The samples.
        transform: The random augmentation of a sample.
        draws: The number of samples that it contributes to every round of the stream.
    """

    dataset: Samples[Any]
    transform: v2.Transform
    draws: int = 1


class SampleStream(Dataset[Any]):
    """Augmented samples by position, of one data set or of several in fixed shares.

    The stream consists of rounds: in each, every source contributes as many samples as its `draws`, in a shuffled
    order. The samples of one source form one pass over it after another, each in a new order.

    Args:
        sources: The data sets.
        seed: Fixes the shuffling and the augmentation.

    Attributes:
        epoch_length: The number of samples of all sources together.
    """

    def __init__(self, sources: Sequence[StreamSource], *, seed: int) -> None:
        self.sources = tuple(sources)
        self.seed = seed
        self.lengths = [len(source.dataset) for source in sources]
        self.epoch_length = sum(self.lengths)
        # The source at each place of a round. All rounds share one order, so the samples that a source has contributed
        # before a position can be computed instead of counted.
        round_ = torch.tensor([number for number, source in enumerate(sources) for _ in range(source.draws)])
        self._round = round_[torch.randperm(len(round_), generator=torch.Generator().manual_seed(seed))].tolist()

    def __getitem__(self, position: int) -> Any:
        rounds, place = divmod(position, len(self._round))
        number = self._round[place]
        source = self.sources[number]
        # The samples that this source has contributed before, in complete rounds and in this one.
        given = rounds * source.draws + self._round[:place].count(number)
        epoch, rank = divmod(given, self.lengths[number])
        # The order is drawn anew from the pass's own seed instead of kept: nothing has to be restored on resuming, and
        # every worker process can compute any position.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(self.lengths[number], generator=generator)
        sample = source.dataset[int(order[rank])]
        # Transforms draw from the global generator. Its state is restored afterwards, as without workers it is also the
        # training's.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1_000_003 + position)
            return source.transform(sample)


class StreamSampler(Sampler[int]):
    """The positions of a `SampleStream` that one of several processes takes, an epoch per iteration.

    An iteration begins after the steps taken so far, also within an epoch. The last, incomplete joint batch of an epoch
    is dropped.

    Args:
        epoch_length: The number of samples in an epoch.
        batch_size: The number of samples per step and process.
        steps_taken: Called when an iteration begins; returns the number of steps trained so far, in this run and those
            that it resumes.
        rank: This process's number.
        world_size: The number of processes.

    Attributes:
        steps: The number of steps in an epoch.
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
        """Return the number of this process's samples in a whole epoch, also if an iteration begins in its middle."""
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        epoch, first_step = divmod(self.steps_taken(), self.steps)
        for step in range(first_step, self.steps):
            # The positions of a joint batch are consecutive, and each process takes its own part of them.
            first = epoch * self.epoch_length + (step * self.world_size + self.rank) * self.batch_size
            yield from range(first, first + self.batch_size)
