"""Write down the public interface of the package, so that it changes only on purpose: tests/public_api.json.

    python scripts/freeze_api.py

Every name of `segscape.__all__` is described by its kind and its signatures, as they stand in the source: annotations
are not evaluated, so that the description is the same for every version of Python. The test compares it with the file.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import segscape

FROZEN = Path(__file__).parents[1] / "tests" / "public_api.json"
COMMAND = "python scripts/freeze_api.py"

Description = dict[str, Any]

_SPECIAL = {"__call__", "__enter__", "__exit__", "__getitem__", "__iter__", "__len__"}
"""Methods that programs use without naming them."""


class _Verbatim:
    """A text that is shown without quotation marks where a representation is shown."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _annotation(stated: Any) -> Any:
    if stated is inspect.Parameter.empty:
        return stated
    assert isinstance(stated, str), f"the annotation {stated} lacks `from __future__ import annotations` in its module"
    return _Verbatim(stated)


def _default(value: Any) -> str:
    """Return a default value as text that is the same in every process."""
    text = repr(value)
    return getattr(value, "__qualname__", type(value).__qualname__) if " at 0x" in text else text


def signature_of(function: Any, *, is_bound: bool = False) -> str:
    """Return the signature of a function as its source has it.

    Args:
        function: Any function; what decorators have wrapped is seen through.
        is_bound: Whether the first parameter, `self` or `cls`, is left out.
    """
    stated = inspect.signature(function)
    parameters = [
        each.replace(
            annotation=_annotation(each.annotation),
            default=each.default if each.default is inspect.Parameter.empty else _Verbatim(_default(each.default)),
        )
        for each in list(stated.parameters.values())[int(is_bound) :]
    ]
    return str(stated.replace(parameters=parameters, return_annotation=_annotation(stated.return_annotation)))


def _described_member(member: Any) -> str | None:
    """Return a member of a class as text; None for what is no method and no property."""
    if isinstance(member, (property, cached_property)):
        function = member.fget if isinstance(member, property) else member.func
        return f"property{signature_of(function, is_bound=True).removeprefix('()')}"
    if isinstance(member, classmethod):
        return f"classmethod{signature_of(member.__func__, is_bound=True)}"
    if isinstance(member, staticmethod):
        return f"staticmethod{signature_of(member.__func__)}"
    if inspect.isfunction(member):
        return f"method{signature_of(member, is_bound=True)}"
    return None


def _members(kind: type) -> Iterator[tuple[str, str]]:
    """Yield the public methods and properties of a class, those of its own bases in the package included."""
    # From the most basic class on, so that the last description of a name is that of the class itself.
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith("segscape"):
            continue
        for name, member in vars(base).items():
            is_public = not name.startswith("_") or name in _SPECIAL
            described = _described_member(member) if is_public else None
            if described is not None:
                yield name, described


def _fields(kind: type) -> dict[str, str]:
    described = {}
    for field in dataclasses.fields(kind):
        text = str(_annotation(field.type))
        if field.default is not dataclasses.MISSING:
            text += f" = {_default(field.default)}"
        elif field.default_factory is not dataclasses.MISSING:
            text += f" = made by {getattr(field.default_factory, '__qualname__', 'a function')}"
        described[field.name] = text
    return described


def _attributes(constructor: Any) -> list[str]:
    """Return the public attributes that a constructor sets, sorted."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(constructor)))
    return sorted(
        {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
            and not node.attr.startswith("_")
        }
    )


def describe(thing: Any) -> Description:
    """Return the description of one public name, as plain JSON."""
    if not inspect.isclass(thing):
        return {"kind": "function", "signature": signature_of(thing)}
    members = dict(sorted(_members(thing)))
    if dataclasses.is_dataclass(thing):
        return {"kind": "dataclass", "fields": _fields(thing), "members": members}
    # The class's own function: what a class says of its signature depends on the version of Python.
    constructor = vars(thing)["__init__"]
    return {
        "kind": "class",
        "constructor": signature_of(constructor, is_bound=True).removesuffix(" -> None"),
        "attributes": _attributes(constructor),
        "members": members,
    }


def public_api() -> dict[str, Description]:
    """Return the description of every public name of the package."""
    return {name: describe(getattr(segscape, name)) for name in sorted(segscape.__all__)}


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(public_api(), indent=2, ensure_ascii=False) + "\n")
