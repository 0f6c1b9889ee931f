"""The precisions that this machine computes in, and the names and versions that identify it."""

from __future__ import annotations

import logging
import platform
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from segscape.choices import Precision
from segscape.runtime.base import RuntimeUnavailableError

_CPUINFO = Path("/proc/cpuinfo")

_log = logging.getLogger(__name__)


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 numbers itself, and faster than float32; False for unknown CPUs."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", _cpuinfo()) is not None


def processor(device: torch.device) -> str:
    """Return the name of the GPU, or of the CPU with the instruction set that PyTorch uses on it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    found = re.search(r"^model name\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    return f"{found[1] if found else platform.processor()} {torch.backends.cpu.get_cpu_capability()}"


def versions(*packages: str) -> dict[str, str]:
    """Return the installed version of each package by name; `-` for one that is missing."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "-"
    return found


def require_float_precision(runtime: str, precision: Precision, device: torch.device) -> None:
    """Refuse a precision that PyTorch cannot compute in, and warn of one that it computes in slowly.

    Raises:
        RuntimeUnavailableError: The device does not compute in this precision.
    """
    allowed = ("fp32", "bf16", "fp16") if device.type == "cuda" else ("fp32", "bf16")
    if precision not in allowed:
        raise RuntimeUnavailableError(
            f"The runtime {runtime} computes on this device in {' or '.join(allowed)}, not in {precision}."
        )
    if precision == "bf16" and not has_bf16(device):
        _log.warning("This processor has no bf16 arithmetic: bf16 is slower here than fp32.")


@cache
def _cpuinfo() -> str:
    return _CPUINFO.read_text() if _CPUINFO.exists() else ""
