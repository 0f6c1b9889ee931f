"""The tasks of a scene in the order in which they may be done, resumed where an interrupted run has stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from segscape.scenes.journal import Journal
from segscape.scenes.task import Sums, Task, Worker


class WorkerSequence:
    """Several workers, one after the other, as a single one.

    Args:
        workers: The workers, in order.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._sweeps = [(number, worker, tasks) for number, worker in enumerate(workers) for tasks in worker.tasks()]

    def tasks(self) -> list[list[Task]]:
        """Return the tasks of each sweep, with the sweeps of all workers numbered consecutively."""
        return [[task._replace(sweep=sweep) for task in tasks] for sweep, (_, _, tasks) in enumerate(self._sweeps)]

    def work(self, task: Task) -> float:
        """Return the work of a task, as a number of pixels through the network."""
        _, worker, tasks = self._sweeps[task.sweep]
        return worker.work(tasks[task.block])

    def run(self, task: Task, sums: Mapping[str, Sequence[float]], on_progress: Callable[[float], None]) -> Sums:
        """Do one task; see `segscape.scenes.task.Worker`."""
        stage, worker, tasks = self._sweeps[task.sweep]
        # Workers for several views name their sums alike.
        prefix = f"{stage}/"
        own = {name.removeprefix(prefix): total for name, total in sums.items() if name.startswith(prefix)}
        made = worker.run(tasks[task.block], own, on_progress)
        return {prefix + name: part for name, part in made.items()}


def open_tasks(worker: Worker, journal: Journal) -> tuple[list[Task], Sums]:
    """Return the tasks that may be done now: the open ones of the first sweep that has any; none when all are done.

    Returns:
        The tasks, and the sums over the whole scene from the sweeps before.
    """
    sums: Sums = {}
    for sweep in worker.tasks():
        tasks = [task for task in sweep if task not in journal.done]
        if tasks:
            return tasks, sums
        sums |= joined([journal.done[task] for task in sweep])
    return [], sums


def run_tasks(worker: Worker, journal: Journal, *, on_progress: Callable[[float], None]) -> None:
    """Do every task that is not done yet, one after the other.

    Args:
        worker: Does the tasks.
        journal: Holds the tasks that are done; the others are added to it.
        on_progress: Called with the share of all work that is done, from 0 to 1.
    """
    work = {task: worker.work(task) for sweep in worker.tasks() for task in sweep}
    total = sum(work.values())

    def do(task: Task, sums: Sums, before: float) -> None:
        def tell(share: float) -> None:
            on_progress((before + share * work[task]) / total)

        journal.add(task, worker.run(task, sums, tell))
        tell(1)

    tasks, sums = open_tasks(worker, journal)
    while tasks:
        for task in tasks:
            do(task, sums, sum(work[done] for done in journal.done))
        tasks, sums = open_tasks(worker, journal)


def joined(parts: Sequence[Sums]) -> Sums:
    """Add up the sums of all blocks; their order has to be fixed, as it decides how the totals are rounded."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: np.sum([part[name] for part in parts if name in part], axis=0).tolist() for name in names}
