"""What the commands print: text as it is, whatever file and class names hold.

Names come from strangers. Square brackets in them are no markup, and control characters, which could move the cursor or
forge a line, are shown as their codes.
"""

from __future__ import annotations

import logging
from typing import Any

from rich.console import Console
from rich.text import Text

_CODES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def shown(text: str) -> str:
    """Return a text with its control characters as codes, except for line breaks and tabs."""
    return text.translate(_CODES)


_LONGEST = 2000
"""The characters of the longest line that is printed whole."""


def one_line(text: str) -> str:
    """Return a text with all its control characters as codes, line breaks too, and without the middle if it is long.

    Messages quote what files hold, which may be anything.
    """
    line = shown(text).replace("\n", "\\n").replace("\t", "\\t")
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


class PlainConsole(Console):
    """A console that prints text as `shown` gives it, and takes nothing in it for markup.

    Args:
        stderr: Print to standard error.
        width: Of tables, in characters; by default the terminal's.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, highlight=False, soft_wrap=True, emoji=False)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Turn a string that is printed, or stands in a table, into text."""
        return super().render_str(shown(text), **settings)


class PlainFormatter(logging.Formatter):
    """The formatter of log messages in one line each."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message."""
        return one_line(super().format(record))
