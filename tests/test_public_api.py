"""The public interface changes only on purpose."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from scripts import freeze_api

from segscape.files import atomic_path


def _differences(frozen: dict, found: dict) -> list[str]:
    """Say which names were added, removed or changed, and of changed ones what."""
    lines = [f"added: {name}" for name in sorted(found.keys() - frozen.keys())]
    lines += [f"removed: {name}" for name in sorted(frozen.keys() - found.keys())]
    for name in sorted(found.keys() & frozen.keys()):
        before, now = _flat(name, frozen[name]), _flat(name, found[name])
        lines += [
            f"changed: {key}: {before.get(key, 'nothing')} became {now.get(key, 'nothing')}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
    if list(frozen) == list(found) and not lines and json.dumps(frozen) != json.dumps(found):
        lines.append("changed: the order of fields or members")
    return lines


def _flat(name: str, description: dict) -> dict[str, str]:
    """Return a description with one key for each field and member."""
    flat = {}
    for key, value in description.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{part}": text for part, text in value.items()}
        else:
            flat[f"{name} ({key})"] = value if isinstance(value, str) else ", ".join(value)
    return flat


def test_the_public_interface_is_the_frozen_one() -> None:
    differences = _differences(json.loads(freeze_api.FROZEN.read_text()), freeze_api.public_api())
    message = "\n".join(["The public interface differs from tests/public_api.json:", *differences])
    assert not differences, f"{message}\nIf that is wanted: {freeze_api.COMMAND}, and a line in CHANGELOG.md."


@dataclasses.dataclass
class _Record:
    first: tuple[int, ...]
    second: list[str] = dataclasses.field(default_factory=list)

    @property
    def both(self) -> str | None: ...


class _Worker:
    def __init__(self, size: int = 3, *, mode: Literal["fast", "exact"] = "fast") -> None:
        self.size, self._mode = size, mode
        self.name: str = ""

    def __enter__(self) -> _Worker: ...

    def _private(self) -> None: ...

    @classmethod
    def of(cls, text: str) -> _Worker: ...

    @staticmethod
    def count(start: int, /, *rest: int, **more: float) -> Iterator[int]: ...

    @cached_property
    def slow(self) -> float: ...


_Record.__module__ = _Worker.__module__ = "segscape.made_up"


def test_a_dataclass_is_described_by_its_fields() -> None:
    assert freeze_api.describe(_Record) == {
        "kind": "dataclass",
        "fields": {"first": "tuple[int, ...]", "second": "list[str] = made by list"},
        "members": {"both": "property -> str | None"},
    }


def test_a_class_is_described_by_what_programs_use() -> None:
    assert freeze_api.describe(_Worker) == {
        "kind": "class",
        "constructor": "(size: int = 3, *, mode: Literal['fast', 'exact'] = 'fast')",
        "attributes": ["name", "size"],
        "members": {
            "__enter__": "method() -> _Worker",
            "count": "staticmethod(start: int, /, *rest: int, **more: float) -> Iterator[int]",
            "of": "classmethod(text: str) -> _Worker",
            "slow": "property -> float",
        },
    }


def test_functions_are_seen_through_their_decorators() -> None:
    assert freeze_api.describe(atomic_path)["signature"].startswith("(path: ")


def test_defaults_without_a_lasting_representation_are_named_by_their_kind() -> None:
    def function(key: object = object(), sort: object = len) -> None: ...

    assert freeze_api.signature_of(function) == "(key: object = object, sort: object = <built-in function len>) -> None"


def test_differences_are_said() -> None:
    before = {
        "gone": {"kind": "function", "signature": "()"},
        "kept": {"kind": "dataclass", "fields": {"a": "int", "b": "int"}, "members": {}},
    }
    now = {
        "kept": {"kind": "dataclass", "fields": {"a": "str", "c": "int"}, "members": {}},
        "new": {"kind": "function", "signature": "()"},
    }
    assert _differences(before, now) == [
        "added: new",
        "removed: gone",
        "changed: kept.a: int became str",
        "changed: kept.b: int became nothing",
        "changed: kept.c: nothing became int",
    ]
    turned = {"kept": {**before["kept"], "fields": {"b": "int", "a": "int"}}}
    assert _differences({"kept": before["kept"]}, turned) == ["changed: the order of fields or members"]
