"""How much memory there is."""

from __future__ import annotations

import re
from pathlib import Path

import torch

_MOST_ON_CPU = 2 << 30
"""Larger blocks save little work."""
_MEMINFO = Path("/proc/meminfo")


def default_budget(device: torch.device) -> int:
    """Bytes that a refinement may take if nobody says: half of what is free, on a CPU at most 2 GiB."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (torch.cuda.mem_get_info(device)[0] + kept) // 2
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE) if _MEMINFO.exists() else None
    # Only Linux tells it in a file.
    return _MOST_ON_CPU if found is None else min(int(found[1]) * 1024 // 2, _MOST_ON_CPU)
