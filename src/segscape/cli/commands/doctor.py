"""`segscape doctor`: one page on this installation and this machine, for reports of faults."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

import segscape
from segscape.choices import STREET_WEIGHTS
from segscape.cli.output import Output
from segscape.runtime.cache import cache_folder
from segscape.runtime.machine import processor, versions
from segscape.runtime.system_memory import free_memory
from segscape.segmentation.segmenter import Segmenter

_LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "numba",
    "opencv-python-headless",
    "pillow",
    "safetensors",
    "rich",
)
_VARIABLES = re.compile(r"SEGSCAPE_|OMP_|MKL_|NUMBA_|CUDA_|PYTORCH_|TORCH|GDAL_|NO_COLOR|THP_MEM")
_SPEED_SIZE = (512, 1024)
_SPEED_RUNS = 5


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape doctor`."""
    output = Output(arguments)
    page = {
        "segscape": _installation(),
        "machine": _machine(),
        "libraries": versions(*_LIBRARIES),
        "extras": extras(),
        "devices": _devices(),
        "cache": _cache(),
        "environment": {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.match(name)},
    }
    if not arguments.no_speed:
        page["speed"] = _speed()
    for title, facts in page.items():
        table = Table("", "", title=title, title_justify="left", show_header=False, width=100)
        for name, fact in facts.items():
            table.add_row(str(name), str(fact))
        if facts:
            output.console.print(table)
    output.record("doctor", **page)
    return 0


def _installation() -> dict[str, str]:
    return {
        "version": segscape.__version__,
        "folder": str(Path(segscape.__file__).parent),
        "python": f"{platform.python_version()} ({sys.executable})",
    }


def _machine() -> dict[str, str]:
    return {
        "system": platform.platform(),
        "processor": processor(torch.device("cpu")),
        "cores": f"{os.cpu_count()}, of which PyTorch uses {torch.get_num_threads()}",
        "memory": f"{free_memory(torch.device('cpu')) / 1e9:.1f} GB free",
        "terminal": f"{shutil.get_terminal_size().columns} columns, {sys.stdout.encoding}",
    }


def extras() -> dict[str, str]:
    """Return what is there and what is missing of each extra, by the package's own metadata."""
    wanted: dict[str, dict[str, str]] = {}
    try:
        requirements = requires("segscape") or []
    except PackageNotFoundError:
        return {"unknown": "this copy of the package is not installed, and says nothing of its extras"}
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra == ['"]([\w-]+)['"]""", requirement)
        if name and extra and name[0] != "segscape":
            wanted.setdefault(extra[1], {}).update(versions(name[0]))
    return {
        extra: ", ".join(f"{name} {'missing' if found == '-' else found}" for name, found in packages.items())
        for extra, packages in wanted.items()
        if extra not in ("dev", "docs")
    }


def _devices() -> dict[str, str]:
    found = {"cpu": "always"}
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        memory = f"{properties.total_memory / 1e9:.0f} GB"
        found[f"cuda:{number}"] = f"{properties.name}, {memory}, compute {properties.major}.{properties.minor}"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple"
    return found


def _cache() -> dict[str, str]:
    folder = cache_folder()
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    size = sum(path.stat().st_size for path in files)
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return {
        "folder": str(folder),
        "content": f"{len(files)} file(s), {size / 1e6:.1f} MB",
        "room": f"{shutil.disk_usage(existing).free / 1e9:.1f} GB free",
        "writable": "yes" if os.access(existing, os.W_OK) else "no",
    }


def _speed() -> dict[str, Any]:
    """Return the milliseconds that this machine takes for an image, and for a large product."""
    segmenter = Segmenter.from_weights(STREET_WEIGHTS, working_size=None)
    image = np.random.default_rng(0).integers(0, 256, (*_SPEED_SIZE, 3), dtype=np.uint8)
    segmenter.segment(image)
    product = torch.ones(1024, 1024)

    def median(work: Any) -> float:
        times = []
        for _ in range(_SPEED_RUNS):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    seconds = median(lambda: product @ product)
    return {
        "{} on {} x {} pixels".format(STREET_WEIGHTS, *reversed(_SPEED_SIZE)): (
            f"{1000 * median(lambda: segmenter.segment(image)):.0f} ms, median of {_SPEED_RUNS}, on {segmenter.device}"
        ),
        "product of matrices, CPU": f"{2 * 1024**3 / seconds / 1e9:.0f} GFLOP/s",
    }
