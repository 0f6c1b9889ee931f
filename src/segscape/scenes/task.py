"""The pieces of work that a scene is cut into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

Sums = dict[str, list[float]]
"""A block's part of sums over the whole scene: one number for each channel, by the sum's name."""


class Task(NamedTuple):
    """One block of the scene in one sweep over it; its result depends on nothing but the sums of earlier sweeps.

    Attributes:
        sweep: From 0.
        block: From 0.
    """

    sweep: int
    block: int


class Worker(Protocol):
    """Does the tasks of one scene."""

    def tasks(self) -> list[list[Task]]:
        """The tasks of each sweep; those of one may be done in any order, before any of the next."""

    def work(self, task: Task) -> float:
        """How much work a task is, in a unit of the worker's own."""

    def run(self, task: Task, sums: Mapping[str, Sequence[float]], on_progress: Callable[[float], None]) -> Sums:
        """Do a task; what it makes is in its files when this returns.

        Args:
            task: Which.
            sums: What the sweeps before have gathered over the whole scene.
            on_progress: Called with the share of the task that is done, from 0 to 1.

        Returns:
            The block's part of the sums that this sweep gathers.
        """
