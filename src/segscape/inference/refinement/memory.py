"""How much memory there is."""

from __future__ import annotations

import os

import torch

_MOST_ON_CPU = 2 << 30
"""Larger blocks save little work, and small ones stay nearer to the processor's caches."""


def default_budget(device: torch.device) -> int:
    """Bytes that a refinement may take if nobody says: half of what is free, on a CPU at most 2 GiB."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on every system
        return _MOST_ON_CPU
    return min(free // 2, _MOST_ON_CPU)
