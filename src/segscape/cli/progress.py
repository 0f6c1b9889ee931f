"""The progress bar of every long command."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from segscape.cli.console import PlainConsole, one_line


class _DescriptionColumn(ProgressColumn):
    """What is done, which may hold a file's name."""

    def render(self, task: Task) -> Text:
        return Text(one_line(task.description))


class _RateColumn(ProgressColumn):
    """The number of steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s")


def progress() -> Progress:
    """Return a bar with count, rate and time left, on standard error."""
    return Progress(
        _DescriptionColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        console=PlainConsole(stderr=True),
    )


def show_error(bar: Progress, error: Exception) -> None:
    """Print above the bar why one of several files failed."""
    bar.console.print(f"error: {one_line(str(error))}")
