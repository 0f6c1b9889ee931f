"""Files: written whole or not at all, and checked before they are read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}\.partial(\..*)?")
_LEFT_OVER_SECONDS = 24 * 3600
_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "its owner's share of the disk is used up",
    errno.EFBIG: "it is too large for the disk",
}


def resolved(path: Path) -> Path:
    """Return the absolute path without links; `Path.resolve` raises an error where they lead in circles."""
    return Path(os.path.realpath(path))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; rename it to `path` when the block ends without an error.

    The temporary name is drawn, so that two processes do not write into each other's file and nobody can plant a link
    there. A process that is killed leaves at most this hidden file; a later write into the folder removes those of
    processes of this machine that have ended, and whatever is a day old.

    Args:
        path: The file to be written; its folder is created if missing.

    Raises:
        OSError: The folder cannot be created or written to, or the disk is full; the message names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(resolved(path.parent))
    temporary = path.with_name(f".{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        # Not every library's error names the file, and where one does, it is the temporary one.
        if error.errno in _NO_ROOM:
            raise cannot_be_written(path, _NO_ROOM[error.errno]) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@lru_cache(maxsize=1024)
def _remove_left_over(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder, once in the life of this process."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            found = _TEMPORARY.fullmatch(entry.name)
            if found is None:
                continue
            has_ended = found["machine"] == _machine() and not _is_running(int(found["process"]))
            if has_ended or time.time() - entry.stat().st_mtime > _LEFT_OVER_SECONDS:
                os.unlink(entry.path)


@cache
def _machine() -> str:
    """Return eight digits that stand for where the numbers of processes are this process's own."""
    names = [platform.node()]
    with contextlib.suppress(OSError):
        # Containers of one name count their processes each by itself.
        names.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256(repr(names).encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    if os.name != "posix":
        # There is no way to ask without a library; files that are a day old are removed all the same.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


@contextmanager
def written_by_library(path: Path) -> Iterator[None]:
    """Turn whatever a library raises while it writes a file, within the context, into an `OSError`.

    Args:
        path: The file, for the message; it may be written under a temporary name.

    Raises:
        OSError: The file cannot be written; the message names it, and the free room.
    """
    try:
        yield
    except Exception as error:  # libraries in C++ raise errors of any type for a full disk
        raise cannot_be_written(path, str(error).strip().partition("\n")[0] or type(error).__name__) from None


def write_from_memory(path: Path, save: Callable[[BinaryIO], object]) -> None:
    """Write a file that PyTorch makes, as a whole or not at all.

    It is made in memory: where the disk is full, PyTorch's own writing ends the process.

    Args:
        path: The file.
        save: Makes its contents.

    Raises:
        OSError: The file cannot be written.
    """
    contents = io.BytesIO()
    save(contents)
    with atomic_path(path) as temporary:
        temporary.write_bytes(contents.getbuffer())


def cannot_be_written(path: Path, reason: object) -> OSError:
    """Return the error of a file that cannot be written, with the room that is free beside it."""
    folder = path.parent.absolute()
    free = shutil.disk_usage(folder).free / 1e6
    return OSError(f"{path} cannot be written: {reason}; {free:.0f} MB are free in {folder}.")


def check_readable(path: Path) -> None:
    """Check that a file exists and may be read.

    Raises:
        FileNotFoundError: There is no such file, or it is a pipe, a folder or a device.
        PermissionError: It may not be read.
    """
    if not path.is_file():
        if path.exists():
            raise FileNotFoundError(f"{path} is no file, but a folder, a pipe or a device.")
        raise FileNotFoundError(f"There is no file {path}.")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path} may not be read; its permissions forbid it.")
