"""YAML files of settings, read with a bound on what their aliases may grow to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_MOST_VALUES = 1_000_000
"""Values, each alias counted as what it stands for."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no YAML, no mapping, or its aliases stand for more values than any settings have; the
            message names it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
        if root is not None and _values(root, {}) > _MOST_VALUES:
            raise ValueError(f"{path} has aliases that stand for more than {_MOST_VALUES:,} values.")
        content = yaml.safe_load(text)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no settings; it must be a mapping of keys to values.")
    return content


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a node, each alias as what it stands for; one in itself is more than any."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES + 1
        parts = [part for pair in node.value for part in (pair if isinstance(node, yaml.MappingNode) else (pair,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
