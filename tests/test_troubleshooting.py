"""The messages that docs/troubleshooting.md quotes are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUOTED = re.findall(r"^\*\*(.+)\*\*$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)

_VARIES = "\0"


def _texts(node: ast.AST) -> Iterator[str]:
    """The strings below a node, joined ones as one, with a mark for every part that varies."""
    text = _text(node)
    if text is not None:
        yield re.sub(r"%[sd]|%\.0f|\{\}|\{0\}", _VARIES, text).replace("%%", "%")
        return
    for child in ast.iter_child_nodes(node):
        yield from _texts(child)


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or _VARIES for part in node.values)
    if isinstance(node, ast.IfExp):
        return _text(node.body)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [_text(side) for side in (node.left, node.right)]
        return None if parts == [None, None] else "".join(_VARIES if part is None else part for part in parts)
    return None


@cache
def messages() -> frozenset[str]:
    """Every string of the package."""
    files = (ROOT / "src" / "segscape").rglob("*.py")
    return frozenset(text for file in files for text in _texts(ast.parse(file.read_text())))


def _occurs(quoted: str) -> bool:
    parts = [re.escape(part.strip()) for part in quoted.split("...") if part.strip()]
    pattern = re.compile(".*".join(parts), re.DOTALL)
    return any(_VARIES in text and pattern.search(text) for text in messages()) or any(
        quoted == text for text in messages()
    )


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_message_is_one_of_the_code(quoted: str) -> None:
    assert _occurs(quoted), "no string of src/ has these parts in this order"


def test_what_is_no_message_is_noticed() -> None:
    assert len(QUOTED) >= 40
    assert not _occurs("There are no ... weights of that colour; ...")
    assert not _occurs("... MiB beside the program itself, and there are ... MiB; raise --memory.")
