"""The import graph points one way, and the package is light to import."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import segscape

ROOT = Path(segscape.__file__).parent

FLOORS = [
    {"choices", "files", "yaml_file", "normalisation", "concurrency", "messages"},
    {"registry", "figures"},
    {"labels", "geometry", "config_file"},
    {"networks", "losses", "metrics", "rasters", "viz"},
    {"checkpoints", "runtime", "data"},
    {"export"},
    {"arguments"},
    {"segmentation"},
    {"scenes", "refinement", "evaluation"},
    {"cutout", "training"},
    {"benchmark"},
    {"cli"},
    {"__main__"},
]
"""The rooms of the package from the ground up: a room may import the floors below its own, and nothing else."""

HEAVY = [
    *("torch", "lightning", "torchmetrics", "matplotlib", "numba", "rasterio", "pyogrio", "pyproj", "shapely", "av"),
    *("onnxruntime", "openvino", "nncf", "ray"),
]


def _imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("segscape.")}
    return rooms


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    floor = next(floor for floor, rooms in enumerate(FLOORS) if room in rooms)
    strangers = _imported_rooms(path) - {room}.union(*FLOORS[:floor])
    assert not strangers, f"{room} may not import {', '.join(sorted(strangers))}"


def test_no_room_is_a_house() -> None:
    """No room holds 15 % of the package's lines or more."""
    lines = Counter()
    for path in ROOT.rglob("*.py"):
        lines[path.relative_to(ROOT).parts[0]] += len(path.read_text().splitlines())
    assert lines.most_common(1)[0][1] < 0.15 * lines.total(), lines.most_common(3)


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_is_light() -> None:
    assert not _modules_after("import segscape") & set(HEAVY)


def test_inference_needs_no_extra() -> None:
    extras = set(HEAVY) - {"torch"}
    assert (
        not _modules_after("import segscape; segscape.Segmenter, segscape.create_model, segscape.list_models()")
        & extras
    )


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'"):
        _ = segscape.Segmentor
