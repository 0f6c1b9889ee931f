"""Files: written whole or not at all, and checked before they are read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; rename it to `path` when the block ends without an error.

    A process that is killed leaves at most the hidden temporary file, which the next one overwrites.

    Args:
        path: The file to be written; its folder is created if missing.

    Raises:
        OSError: The folder cannot be created or written to, or the disk is full; the message names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        # Not every library's error names the file, and where one does, it is the temporary one.
        if error.errno == errno.ENOSPC:
            raise OSError(f"{path} cannot be written: the disk is full.") from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_readable(path: Path) -> None:
    """Check that a file exists and may be read.

    Raises:
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path} may not be read; its permissions forbid it.")
