"""Where a command prints: tables and lines for people, or a line of JSON for each result (`--json`)."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from segscape.cli.console import PlainConsole

SCHEMA = 1
"""The version of the form of the lines of JSON: fields may be added, and none changes or goes without a new version."""


class Output:
    """The standard output of a command.

    Args:
        arguments: As the command's parser returns them, with `command`, `json` and `quiet`.

    Attributes:
        console: For tables and lines that people read; silent with `--json` and `--quiet`.
        errors: For errors, on standard error.
        quiet: Whether errors alone are printed.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.quiet: bool = arguments.quiet
        self._command: str = arguments.command
        self._as_json: bool = arguments.json
        self.console: Console = PlainConsole(quiet=arguments.quiet or arguments.json)
        self.errors: Console = PlainConsole(stderr=True)

    def record(self, kind: str, **fields: Any) -> None:
        """Print a line of JSON, if JSON is wanted.

        Args:
            kind: What the line is about, such as `image` or `summary`.
            fields: Its further fields; paths become text, arrays lists, and numbers that are none null.
        """
        if self._as_json:
            line = {"schema": SCHEMA, "command": self._command, "kind": kind, **_plain(fields)}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


def _plain(value: Any) -> Any:
    """Return a value made of what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def record_image(
    output: Output, image: Path, written: Mapping[str, Any], shares: Mapping[str, float], **fields: Any
) -> None:
    """Print the line of JSON of an image that is segmented.

    Args:
        output: The command's.
        image: Its file.
        written: The files that were written, by what they hold; None for those that are not wanted.
        shares: The share of each class, by name.
        fields: Further fields, such as `size` and `seconds`.
    """
    files = {what: path for what, path in written.items() if path is not None}
    output.record("image", status="done", image=image, **files, shares=shares, **fields)


def record_failure(output: Output, file: Path, error: Exception) -> None:
    """Print the line of JSON of a file that could not be done."""
    output.record("failure", status="failed", image=file, error=str(error))
