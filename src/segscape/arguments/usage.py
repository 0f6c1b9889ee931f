"""`segscape --json-usage`: all commands and arguments as JSON, for programs that call this one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

SCHEMA = 1
"""The version of the form of what is printed."""


class UsageAction(argparse.Action):
    """The action of `--json-usage`."""

    def __init__(self, option_strings: list[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the parser and its commands, and exit."""
        print(json.dumps({"schema": SCHEMA, **describe(parser)}))
        parser.exit()


def describe(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return a parser's description, arguments and commands, as plain values."""
    described: dict[str, Any] = {"name": parser.prog, "description": parser.description, "arguments": []}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            described["commands"] = [describe(inner) for inner in action.choices.values()]
        elif action.help != argparse.SUPPRESS:
            described["arguments"].append(_argument(action))
    return described


def _argument(action: argparse.Action) -> dict[str, Any]:
    default = str(action.default) if isinstance(action.default, Path) else action.default
    takes_value = action.nargs != 0
    return {
        "name": action.dest,
        "flags": list(action.option_strings),
        "metavar": action.metavar,
        "required": action.required,
        "takes_value": takes_value,
        "several": action.nargs in ("+", "*") or (isinstance(action.nargs, int) and action.nargs > 1),
        "default": None if default == argparse.SUPPRESS else default,
        "choices": None if action.choices is None else list(action.choices),
        # Of what stands behind a percent sign argparse prints one of two.
        "help": (action.help or "").replace("%(default)s", str(default)).replace("%%", "%"),
    }
