"""What the commands print: text as it is, whatever file and class names hold.

Names come from strangers. Square brackets in them are no markup, and control characters, which could move the cursor or
forge a line, are shown as their codes.
"""

from __future__ import annotations

import logging
from typing import Any

from rich.console import Console
from rich.text import Text

from segscape.messages import one_line, shown


class PlainConsole(Console):
    """A console that prints text as `shown` gives it, and takes nothing in it for markup.

    Args:
        stderr: Print to standard error.
        width: Of tables, in characters; by default the terminal's.
        quiet: Print nothing.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None, quiet: bool = False) -> None:
        super().__init__(
            stderr=stderr, width=width, quiet=quiet, markup=False, highlight=False, soft_wrap=True, emoji=False
        )

    def render_str(self, text: str, **settings: Any) -> Text:
        """Turn a string that is printed, or stands in a table, into text."""
        return super().render_str(shown(text), **settings)


class PlainFormatter(logging.Formatter):
    """The formatter of log messages in one line each."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message."""
        return one_line(super().format(record))
