"""The free memory, and the C library's treatment of memory that PyTorch frees on a CPU."""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

import torch

_MOST_ON_CPU = 2 << 30
"""The upper bound of the default budget on a CPU, in bytes; larger blocks save little work."""
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
"""The files in which Linux keeps a container's limit, its use and the parts of its use, of cgroup v2 and of v1."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
_USUAL = 32 << 20
"""The largest freed block that glibc keeps by default, in bytes."""
_LARGE = 1 << 30


def default_budget(device: torch.device) -> int:
    """Return the bytes that a computation may take by default: half of the free memory, on a CPU at most 2 GiB."""
    half = free_memory(device) // 2
    return half if device.type == "cuda" else min(half, _MOST_ON_CPU)


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a GPU, or of the machine and the container; 4 GiB where the system does not report them.

    Memory that PyTorch has reserved on a GPU without using it counts as free.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE) if _MEMINFO.exists() else None
    # Only Linux reports it in a file.
    free = 2 * _MOST_ON_CPU if found is None else int(found[1]) * 1024
    for limit, used, parts in _LIMITED:
        if limit.exists() and used.exists() and limit.read_text().strip().isdecimal():
            # The use includes cached files whose memory the system can reclaim.
            cached = parts.exists() and re.search(r"^(?:total_)?inactive_file (\d+)", parts.read_text(), re.MULTILINE)
            spare = int(cached[1]) if cached else 0
            free = min(free, max(int(limit.read_text()) - int(used.read_text()) + spare, 0))
    return free


def give_back_above(limit: int) -> None:
    """Return freed memory to the system if this process holds more than `limit` bytes.

    By default glibc keeps blocks of up to 32 MiB for itself, which adds up to hundreds of MiB when sizes vary.
    """
    if resident() > limit:
        _call("malloc_trim", 0)


def resident() -> int:
    """Return the bytes that this process has in memory now; 0 where the system does not report them."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE) if _STATUS.exists() else None
    return 0 if found is None else int(found[1]) * 1024


def reuse_freed() -> None:
    """Let the process reuse freed blocks of up to 1 GiB.

    By default glibc returns those above 32 MiB to the system and takes them again page by page, which takes a fifth of
    the time of an image of 1024 x 2048. The setting holds for the whole process, which then stays as large as it has
    been. It is for networks that see images of few sizes; with many sizes, memory becomes fragmented.
    """
    _set_thresholds(_LARGE, 2 * _LARGE - 1)


def return_freed() -> None:
    """Let freed blocks above 32 MiB return to the system, as by default: for work with a limit on its memory."""
    _set_thresholds(_USUAL, 2 * _USUAL)


def _set_thresholds(mmap: int, trim: int) -> None:
    _call("mallopt", _MMAP_THRESHOLD, mmap)
    _call("mallopt", _TRIM_THRESHOLD, trim)


def _call(function: str, *values: int) -> None:
    # C libraries other than glibc have no such function.
    with contextlib.suppress(OSError, AttributeError):
        getattr(ctypes.CDLL(None), function)(*values)
