"""The import graph points one way, and the package is light to import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import segscape

ROOT = Path(segscape.__file__).parent

LEAVES = {"labels", "registry", "files", "normalisation"}
ALLOWED = {
    "labels": set(),
    "registry": set(),
    "files": set(),
    "normalisation": set(),
    "networks": LEAVES,
    "losses": LEAVES,
    "metrics": LEAVES,
    "rasters": LEAVES,
    "viz": LEAVES,
    "checkpoints": LEAVES | {"networks"},
    "runtime": LEAVES | {"networks", "checkpoints"},
    "export": LEAVES | {"networks", "checkpoints", "runtime", "rasters"},
    "inference": LEAVES | {"networks", "checkpoints", "runtime", "export", "rasters", "viz"},
    "data": LEAVES | {"rasters"},
    "training": LEAVES
    | {"networks", "losses", "metrics", "data", "checkpoints", "runtime", "export", "rasters", "inference", "viz"},
}
ALLOWED["benchmark"] = ALLOWED["inference"] | {"inference"}
ALLOWED["cli"] = ALLOWED["training"] | {"training", "benchmark"}
"""What each part of the package may import of the others."""

HEAVY = [
    *("torch", "lightning", "torchmetrics", "matplotlib", "numba", "rasterio", "pyogrio", "shapely", "av"),
    *("onnxruntime", "openvino", "nncf", "fastapi", "ray"),
]


def _imported_parts(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("segscape.")}
    return parts


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    strangers = _imported_parts(path) - ALLOWED[part] - {part}
    assert not strangers, f"{part} may not import {', '.join(sorted(strangers))}"


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
