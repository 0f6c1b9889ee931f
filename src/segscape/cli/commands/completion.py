"""`segscape completion`: the completion script of a shell, as it ships."""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files
from pathlib import Path

COMPLETIONS = Path(str(files("segscape"))) / "cli" / "completions"
"""Holds a script for each shell, written by `scripts/renew_completions.py`."""


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape completion`."""
    sys.stdout.write((COMPLETIONS / f"segscape.{arguments.shell}").read_text())
    return 0
