"""Configs: small YAML files that name the configs they build on."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from segscape.files import resolved
from segscape.messages import proposal
from segscape.yaml_file import read_yaml

BASE_KEY = "base"
"""The key of the configs that a config builds on: one or a list of paths relative to it, or names of shipped ones."""

IMPORT_KEY = "import"
"""The key of the modules beside a config that a run imports first: one name or a list. They may register networks."""

PUBLISHED_KEY = "published"
"""The key of a recipe's published result, which is not a setting: the authors' `score`, its `source`, and the number of
`processes` on which they trained."""


def shipped_configs() -> list[str]:
    """Return the names of the configs that ship with the package, such as `stdc1_seg/camvid`, sorted."""
    shipped = _folder()
    found = (file for file in shipped.rglob("*.yaml") if file.parent.name != BASE_KEY)
    return sorted(file.relative_to(shipped).with_suffix("").as_posix() for file in found)


def _folder() -> Path:
    return Path(str(files("segscape"))) / "configs"


def find_config(name: str) -> Path:
    """Find the file of a config given as a path, or as the name of one that ships with the package.

    Args:
        name: A path, or a name such as `stdc1_seg/camvid` or `configs/stdc1_seg/camvid.yaml`.

    Raises:
        FileNotFoundError: There is neither; the message gives the nearest names.
    """
    path = Path(name)
    if path.is_file():
        return path
    inside = _folder() / f"{name.removeprefix('configs/').removesuffix('.yaml')}.yaml"
    if inside.is_file():
        return inside
    hint = proposal(name, shipped_configs(), "give a file, or a name of `segscape config list`.")
    raise FileNotFoundError(f"There is no config {name}; {hint}")


def load_config(path: Path) -> dict[str, Any]:
    """Load a config, merged over those that its key `base` names, in their order.

    Mappings are merged; any other value replaces the earlier one.

    Raises:
        FileNotFoundError: There is no such file, or none that it builds on.
        ValueError: The file is not a YAML mapping, or builds on itself.
    """
    return _load(path, ())


def _load(path: Path, built_by: tuple[Path, ...]) -> dict[str, Any]:
    own = read_yaml(path)
    bases = own.pop(BASE_KEY, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(name, str) for name in bases):
        raise ValueError(f"{path}: `{BASE_KEY}` must be the name of the config that it builds on, or a list of them.")
    above = (*built_by, resolved(path))
    merged: dict[str, Any] = {}
    for name in bases:
        beside = path.parent / name
        try:
            base = beside if beside.is_file() else find_config(name)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} builds on a config that is not there: {error}") from None
        if resolved(base) in above:
            raise ValueError(f"{path} builds on {name}, which builds on it.")
        merged = _merge(merged, _load(base, above))
    return _merge(merged, own)


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
