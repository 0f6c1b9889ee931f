"""The results of a benchmark on disk."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import segscape
from segscape.benchmark.protocol import Protocol
from segscape.files import atomic_path
from segscape.runtime.machine import processor, versions

_PACKAGES = ("torch", "openvino", "onnxruntime", "nncf", "numpy", "pillow", "opencv-python-headless")


def write_report(path: Path, rows: Sequence[dict[str, Any]], *, protocol: Protocol, device: torch.device) -> None:
    """Write the rows measured so far; the file appears whole or not at all.

    Args:
        path: The JSON file.
        rows: See `segscape.benchmark.entry.as_row`.
        protocol: The protocol that they were measured with.
        device: The device that they were measured on.

    Raises:
        OSError: The folder cannot be written to.
    """
    report = {
        "machine": machine(device),
        "versions": {"python": platform.python_version(), "segscape": segscape.__version__, **versions(*_PACKAGES)},
        "protocol": {**asdict(protocol), "batch": 1, "image": "a shipped photograph, resized"},
        "rows": list(rows),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")


def machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine as plain JSON."""
    return {
        "processor": processor(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "gpu": processor(device) if device.type == "cuda" else None,
        "system": platform.platform(),
    }
