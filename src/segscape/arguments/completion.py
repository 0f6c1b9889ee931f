"""The arguments of `segscape completion`."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = (
        "Print the completion script of a shell. For bash: segscape completion bash > "
        "~/.local/share/bash-completion/completions/segscape"
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
