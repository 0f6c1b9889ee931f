"""A user's own classes, read from a `labels.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segscape.labels.spec import IGNORE_INDEX, Colour, LabelSpec
from segscape.yaml_file import read_yaml

_KEYS = {"name", "classes", "ignore_value", "ignore_colour", "splits"}
_CLASS_KEYS = {"name", "colour", "value"}


def read_label_file(path: Path) -> LabelSpec:
    """The classes that a `labels.yaml` describes.

    It has a list `classes`, each with a `name`, a `colour` [red, green, blue] and, where label files hold other values
    than 0, 1, 2 and so on, a `value`; and, as far as needed, a `name` of the whole (by default that of the folder), an
    `ignore_value` (by default 255) and an `ignore_colour` of pixels without a label.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no YAML, or an entry is missing, strange or twice; the message says which.
    """
    content = read_label_yaml(path)
    rows = content.get("classes")
    if not isinstance(rows, list) or not 0 < len(rows) <= IGNORE_INDEX:
        raise ValueError(f"{path} needs a list `classes` of 1 to {IGNORE_INDEX} classes.")
    names: list[str] = []
    palette: list[Colour] = []
    values: list[int] = []
    for position, row in enumerate(rows):
        place = f"{path}, class {position}"
        _check_keys(row, _CLASS_KEYS, place)
        if not isinstance(row.get("name"), str) or "colour" not in row:
            raise ValueError(f"{place} needs a `name` and a `colour`.")
        names.append(row["name"])
        palette.append(_colour(row["colour"], place))
        values.append(_value(row.get("value", position), place))
    _refuse_twice(names, f"{path}, class names")
    _refuse_twice(values, f"{path}, values of classes")
    return LabelSpec(
        name=str(content.get("name", path.absolute().parent.name)),
        class_names=tuple(names),
        palette=tuple(palette),
        raw_to_index=_with_ignored_value(values, content, path),
        colour_to_index=_with_ignored_colour(palette, content, path),
    )


def read_label_yaml(path: Path) -> dict[str, Any]:
    """The content of a `labels.yaml`, its keys checked; see `read_label_file`."""
    if not path.exists():
        raise FileNotFoundError(
            f"There is no {path}; a folder of your own images needs it, with the names and colours of the classes."
        )
    content = read_yaml(path)
    _check_keys(content, _KEYS, str(path))
    return content


def _with_ignored_value(values: list[int], content: dict[str, Any], path: Path) -> dict[int, int]:
    raw_to_index = {value: index for index, value in enumerate(values)}
    ignored = _value(content.get("ignore_value", IGNORE_INDEX), f"{path}, ignore_value")
    if ignored not in raw_to_index:
        return {**raw_to_index, ignored: IGNORE_INDEX}
    if "ignore_value" in content:
        raise ValueError(f"{path} has {ignored} both as a class's value and as `ignore_value`.")
    return raw_to_index


def _with_ignored_colour(palette: list[Colour], content: dict[str, Any], path: Path) -> dict[Colour, int]:
    if len(set(palette)) < len(palette):
        # Masks with values are still told apart.
        return {}
    colours = {colour: index for index, colour in enumerate(palette)}
    if "ignore_colour" in content:
        ignored = _colour(content["ignore_colour"], f"{path}, ignore_colour")
        if ignored in colours:
            raise ValueError(f"{path} has {ignored} both as a class's colour and as `ignore_colour`.")
        colours[ignored] = IGNORE_INDEX
    return colours


def _check_keys(entry: object, known: set[str], place: str) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{place} must have the keys {', '.join(sorted(known))}, as far as they are needed.")
    strange = [str(key) for key in entry if key not in known]
    if strange:
        raise ValueError(f"{place} has no key {strange[0]!r}; there are {', '.join(sorted(known))}.")


def _refuse_twice(entries: Sequence[object], place: str) -> None:
    twice = next((entry for entry in entries if entries.count(entry) > 1), None)
    if twice is not None:
        raise ValueError(f"{place}: {twice!r} is there twice.")


def _value(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
        raise ValueError(f"{place}: {value!r} is no value of an 8-bit label file, 0 to 255.")
    return value


def _colour(colour: object, place: str) -> Colour:
    if not isinstance(colour, list) or len(colour) != 3:
        raise ValueError(f"{place}: {colour!r} is no colour [red, green, blue].")
    red, green, blue = (_value(channel, place) for channel in colour)
    return red, green, blue
