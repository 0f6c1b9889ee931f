"""What is said to people: once, however often it is found, and in one line, whatever strangers' names hold."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable
from functools import lru_cache


@lru_cache(maxsize=4096)
def say_once(log: logging.Logger, message: str) -> None:
    """Log a message as information, the first time that it is given."""
    log.info(message)


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


def proposal(wrong: str, names: Iterable[str], otherwise: str, *, most: int = 3) -> str:
    """Return the end of a message on a name that does not exist: the nearest ones that do, or what to say without any.

    Args:
        wrong: The name.
        names: Those that exist.
        otherwise: The end if none is near.
        most: How many are named; of options one, which are all alike in their dashes.
    """
    near = difflib.get_close_matches(wrong, list(names), n=most)
    return f"did you mean {' or '.join(near)}?" if near else otherwise
