"""What scripts and benchmarks take from the package is there: most of them run for too long to be tests."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "scripts").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_is_imported_exists(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("segscape"):
            continue
        module = importlib.import_module(node.module)
        for name in (alias.name for alias in node.names):
            # A package's modules are its attributes only once they are imported.
            assert hasattr(module, name) or importlib.import_module(f"{node.module}.{name}")
