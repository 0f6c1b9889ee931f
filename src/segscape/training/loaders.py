"""Loaders of endless training streams and of whole evaluation splits, for any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from segscape.data.samples import Samples
from segscape.data.stream import SampleStream, StreamSampler, StreamSource


def train_loader(
    trainer: L.Trainer,
    sources: Sequence[StreamSource],
    *,
    batch_size: int,
    num_workers: int,
    seed: int,
) -> DataLoader[Any]:
    """Return the loader of this process's share of the training stream, beginning where a resumed run stopped.

    Args:
        trainer: Provides this process's rank, the number of processes and the steps taken.
        sources: The data sets to draw from.
        batch_size: Samples per step and process.
        num_workers: Loader processes.
        seed: Fixes order and augmentation.

    Raises:
        ValueError: There are too few samples for one joint batch, or a joint batch is a single sample.
    """
    stream = SampleStream(sources, seed=seed)

    def steps_taken() -> int:
        # Lightning counts every batch it has trained on, those before a resumed run's checkpoint included.
        return trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]

    sampler = StreamSampler(
        stream.epoch_length, batch_size, steps_taken, rank=trainer.global_rank, world_size=trainer.world_size
    )
    if sampler.steps == 0 or batch_size * trainer.world_size < 2:
        raise ValueError(
            f"A joint batch of {batch_size} x {trainer.world_size} images does not do for {stream.epoch_length} "
            "samples: it needs at least 2, for the normalisation of pooled features, and at most all of them; change "
            "batch_size."
        )
    return _loader(stream, batch_size, sampler, num_workers, keep_workers=num_workers > 0)


def eval_loader(trainer: L.Trainer, dataset: Samples[Any], *, batch_size: int, num_workers: int) -> DataLoader[Any]:
    """Return the loader of this process's share of a split, in order.

    Over all processes each sample is read once; none is repeated to give all processes the same number. With more than
    one sample a step, each step gives a list of batches: one of the samples of each size among them.

    Args:
        trainer: Provides this process's rank and the number of processes.
        dataset: The samples.
        batch_size: Samples per step and process.
        num_workers: Loader processes.
    """
    share = range(trainer.global_rank, len(dataset), trainer.world_size)
    collate = collate_by_size if batch_size > 1 else None
    return _loader(dataset, batch_size, share, num_workers, keep_workers=False, collate=collate)


def collate_by_size(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make a batch of the samples of each size, in the order in which the sizes occur.

    Args:
        samples: Each has an `image`, (C, H, W).
    """
    of_size: dict[torch.Size, list[dict[str, Any]]] = {}
    for sample in samples:
        of_size.setdefault(sample["image"].shape, []).append(sample)
    return [default_collate(group) for group in of_size.values()]


def _loader(
    dataset: Samples[Any] | SampleStream,
    batch_size: int,
    sampler: Iterable[int],
    num_workers: int,
    *,
    keep_workers: bool,
    collate: Callable[[Sequence[Any]], Any] | None = None,
) -> DataLoader[Any]:
    return _ResumableLoader(
        cast("Dataset[Any]", dataset),
        # By keyword, because Lightning creates the loader of a prediction again with arguments of its own.
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=keep_workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )


class _ResumableLoader(DataLoader[Any]):
    """A loader that Lightning takes for resumable: its position follows from the trainer's step counter alone."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass
