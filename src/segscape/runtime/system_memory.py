"""How much memory there is, and how the C library deals with what PyTorch frees on a CPU."""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

import torch

_MOST_ON_CPU = 2 << 30
"""Larger blocks save little work."""
_MEMINFO = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")
_LIMITED = (
    (
        Path("/sys/fs/cgroup/memory.max"),
        Path("/sys/fs/cgroup/memory.current"),
        Path("/sys/fs/cgroup/memory.stat"),
    ),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.stat"),
    ),
)
"""Where Linux keeps the limit, the use and the parts of the use of a container, of either generation."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
_USUAL = 32 << 20
"""The largest block that glibc keeps by itself."""
_LARGE = 1 << 30


def default_budget(device: torch.device) -> int:
    """Bytes that a computation may take if nobody says: half of what is free, on a CPU at most 2 GiB."""
    half = free_memory(device) // 2
    return half if device.type == "cuda" else min(half, _MOST_ON_CPU)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a GPU, or on the machine and in the container; where nobody tells, 4 GiB."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE) if _MEMINFO.exists() else None
    # Only Linux tells it in a file.
    free = 2 * _MOST_ON_CPU if found is None else int(found[1]) * 1024
    for limit, used, parts in _LIMITED:
        if limit.exists() and used.exists() and limit.read_text().strip().isdecimal():
            # Files that are kept in memory without need count as used.
            cached = parts.exists() and re.search(r"^(?:total_)?inactive_file (\d+)", parts.read_text(), re.MULTILINE)
            spare = int(cached[1]) if cached else 0
            free = min(free, max(int(limit.read_text()) - int(used.read_text()) + spare, 0))
    return free


def give_back_above(limit: int) -> None:
    """Return what was freed to the system if this process holds more than so many bytes.

    By default glibc keeps blocks of up to 32 MiB for itself, which adds up to hundreds of MiB when sizes vary.
    """
    if resident() > limit:
        _call("malloc_trim", 0)


def resident() -> int:
    """Bytes that this process has in memory now; 0 where the system does not tell."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE) if _STATUS.exists() else None
    return 0 if found is None else int(found[1]) * 1024


def reuse_freed() -> None:
    """Have freed blocks of up to 1 GiB used again.

    By default glibc returns those above 32 MiB to the system and takes them again page by page, a fifth of the time of
    an image of 1024 x 2048. It holds for the whole process, which then stays as large as it has been. For networks that
    see images of few sizes; with many, memory falls into pieces.
    """
    _set_thresholds(_LARGE, 2 * _LARGE - 1)


def return_freed() -> None:
    """Have freed blocks above 32 MiB returned to the system, as is usual: for work whose memory is counted."""
    _set_thresholds(_USUAL, 2 * _USUAL)


def _set_thresholds(mmap: int, trim: int) -> None:
    _call("mallopt", _MMAP_THRESHOLD, mmap)
    _call("mallopt", _TRIM_THRESHOLD, trim)


def _call(function: str, *values: int) -> None:
    # Other libraries of C have no such function.
    with contextlib.suppress(OSError, AttributeError):
        getattr(ctypes.CDLL(None), function)(*values)
