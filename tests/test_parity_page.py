"""The page that names a test for every point of the authors' code names tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "parity.md").read_text()


def test_every_named_test_exists() -> None:
    named = set(re.findall(r"(tests/\w+\.py)::(\w+)", PAGE))
    assert len(named) > 100
    missing = []
    for file in {file for file, _ in named}:
        found = {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}
        missing += [f"{file}::{name}" for other, name in named if other == file and name not in found]
    assert not missing


def test_every_point_has_a_test_or_a_reason() -> None:
    rows = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    points = [row for row in rows if not row[0].strip().startswith("point")]
    assert len(points) > 80
    for point, proof in points:
        assert re.search(r"::test_|Not there: |No protocol|Not reproduced|stand in|Deviation: ", proof), point
