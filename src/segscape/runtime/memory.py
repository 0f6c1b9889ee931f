"""How the C library deals with memory that PyTorch frees on a CPU."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
_USUAL = 32 << 20
"""The largest block that glibc keeps by itself."""
_LARGE = 1 << 30


def reuse_freed() -> None:
    """Have freed blocks of up to 1 GiB used again.

    By default glibc returns those above 32 MiB to the system and takes them again page by page, a fifth of the time of
    an image of 1024 x 2048. It holds for the whole process, which then stays as large as it has been. For networks that
    see images of few sizes; with many, memory falls into pieces.
    """
    _set(_LARGE, 2 * _LARGE - 1)


def return_freed() -> None:
    """Have freed blocks above 32 MiB returned to the system, as is usual: for work whose memory is counted."""
    _set(_USUAL, 2 * _USUAL)


def _set(mmap_threshold: int, trim_threshold: int) -> None:
    # Other libraries of C have no such function.
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, mmap_threshold)
        libc.mallopt(_TRIM_THRESHOLD, trim_threshold)
