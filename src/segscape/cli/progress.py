"""The progress of every long command: a bar on a terminal, and a line now and then in a log file."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TimeRemainingColumn
from rich.text import Text

from segscape.cli.console import PlainConsole
from segscape.messages import one_line

_SECONDS_BETWEEN_LINES = 30.0


class _DescriptionColumn(ProgressColumn):
    """What is done, which may hold a file's name."""

    def render(self, task: Task) -> Text:
        return Text(one_line(task.description))


class _RateColumn(ProgressColumn):
    """The number of steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s")


class _Lines(Progress):
    """Progress as lines, for where there is no terminal on which a bar could move."""

    def __init__(self, *, quiet: bool) -> None:
        self._last_line = time.monotonic()
        super().__init__(console=PlainConsole(stderr=True, quiet=quiet), disable=True)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task; see `rich.progress.Progress.update`."""
        super().update(task_id, **changes)
        self._print(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Advance a task; see `rich.progress.Progress.advance`."""
        super().advance(task_id, advance)
        self._print(task_id)

    def _print(self, task_id: TaskID) -> None:
        """Print where a task stands, if some time has passed since the last line."""
        if time.monotonic() - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = time.monotonic()
        task = self._tasks[task_id]
        of, share = (f"/{task.total:.0f}", f" ({task.percentage:.0f} %)") if task.total else ("", "")
        rate = f", {task.speed:.1f}/s" if task.speed else ""
        left = f", {task.time_remaining:.0f} s left" if task.time_remaining else ""
        self.console.print(f"{one_line(task.description)}: {task.completed:.0f}{of}{share}{rate}{left}")


def progress(*, quiet: bool = False) -> Progress:
    """Return a bar with count, rate and time left, on standard error; without a terminal, lines in its place.

    Args:
        quiet: Show neither, and no messages but errors.
    """
    console = PlainConsole(stderr=True)
    if quiet or not console.is_terminal:
        return _Lines(quiet=quiet)
    return Progress(
        _DescriptionColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def show_error(bar: Progress, error: Exception) -> None:
    """Print above the bar why one of several files failed, also where the bar is quiet."""
    console = PlainConsole(stderr=True) if bar.console.quiet else bar.console
    console.print(f"error: {one_line(str(error))}")
