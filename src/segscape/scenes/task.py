"""The tasks that the work on a scene is divided into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

Sums = dict[str, list[float]]
"""A block's part of sums over the whole scene: one number for each channel, by the sum's name."""


class Task(NamedTuple):
    """One block of the scene in one sweep over it; it depends on earlier sweeps only, not on other tasks of its own.

    Attributes:
        sweep: The number of the sweep, from 0.
        block: The number of the block, from 0.
    """

    sweep: int
    block: int


class Worker(Protocol):
    """An object that does the tasks of one scene."""

    def tasks(self) -> list[list[Task]]:
        """Return the tasks of each sweep; those of one may be done in any order, before any of the next."""

    def work(self, task: Task) -> float:
        """Return the work of a task, in a unit of the worker's own."""

    def run(self, task: Task, sums: Mapping[str, Sequence[float]], on_progress: Callable[[float], None]) -> Sums:
        """Do a task; its results are in the files when this returns.

        Args:
            task: The task.
            sums: The sums over the whole scene from the sweeps before.
            on_progress: Called with the share of the task that is done, from 0 to 1.

        Returns:
            The block's part of the sums that this sweep gathers.
        """
