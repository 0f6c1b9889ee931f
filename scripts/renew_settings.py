"""Write `src/segscape/arguments/settings.json`: the settings of `segscape fit`, `validate`, `test` and `predict`.

The command line checks them before Lightning is loaded, and prints them as help. Run this when a setting was added,
changed or removed on purpose, and say so in CHANGELOG.md: configs of users depend on them.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from segscape.arguments.training import SETTINGS_FILE
from segscape.cli.commands.train import training_parsers

_NAMES = {int: "int", float: "float", bool: "bool", str: "str", type(None): "null", Path: "str"}
_ENOUGH = 160
"""The characters of a help text after which no further sentence is added."""


def collect() -> list[dict[str, Any]]:
    """Return every setting once, with the kinds of runs and the commands that have it."""
    found: dict[str, dict[str, Any]] = {}
    for kind, parser in training_parsers():
        for command, inner in parser._subcommands_action._name_parser_map.items():
            for setting in _settings(inner):
                entry = found.setdefault(json.dumps(setting), {**setting, "kinds": [], "commands": []})
                entry["kinds"] += [kind] if kind not in entry["kinds"] else []
                entry["commands"] += [command] if command not in entry["commands"] else []
    return list(found.values())


def _settings(parser: Any) -> Iterator[dict[str, Any]]:
    for action in parser._actions:
        flags = [flag for flag in action.option_strings if flag.startswith("--") and not flag.endswith(("+", ".help"))]
        # What is printed is set by our own `--verbose`.
        if not flags or action.dest in ("help", "config", "print_config", "verbose"):
            continue
        hint = getattr(action, "_typehint", action.type)
        # Groups, such as `--model`, which take a file.
        if hint is None:
            continue
        simple = _simple(hint)
        yield {
            "name": flags[0].removeprefix("--"),
            "types": simple[0] if simple else [],
            "choices": simple[1] if simple else [],
            "default": _default(action.default),
            "help": _help(action.help or ""),
        }


def _simple(hint: Any) -> tuple[list[str], list[Any]] | None:
    """Return the names of a type's simple types and its choices, or None if it is not made of such alone."""
    if hint in _NAMES:
        return [_NAMES[hint]], []
    if get_origin(hint) is Literal:
        return [], list(get_args(hint))
    if get_origin(hint) not in (Union, types.UnionType):
        return None
    parts = [_simple(part) for part in get_args(hint)]
    if None in parts:
        return None
    return (
        # Sorted, as Python keeps a union's order as it was first written anywhere in the process.
        sorted({name for names, _ in parts for name in names}),
        list(dict.fromkeys(choice for _, choices in parts for choice in choices)),
    )


def _default(value: Any) -> str:
    return "none" if value is None else "true" if value is True else "false" if value is False else str(value)


def _help(text: str) -> str:
    """Return the first sentences of a help text, without the default that Lightning repeats, in one line."""
    text = re.sub(r"\s+", " ", text.partition("Default:")[0]).strip()
    text = re.sub(r"``?([^`]*)``?", r"\1", text)
    text = re.sub(r":\w+:", "", text)
    whole = ""
    for sentence in re.split(r"(?<=[.;]) ", text):
        if whole and len(whole) + len(sentence) > _ENOUGH:
            break
        whole = f"{whole} {sentence}".strip()
    return whole


def main() -> None:
    """Write the file."""
    content = {"lightning": version("lightning"), "settings": collect()}
    lines = ",\n".join(f"    {json.dumps(entry)}" for entry in content["settings"])
    SETTINGS_FILE.write_text(f'{{\n  "lightning": "{content["lightning"]}",\n  "settings": [\n{lines}\n  ]\n}}\n')
    print(f"{len(content['settings'])} settings in {SETTINGS_FILE}")


if __name__ == "__main__":
    main()
