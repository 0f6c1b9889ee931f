"""Write `src/segscape/cli/completions/segscape.<shell>`: what `segscape completion SHELL` prints.

Run it after a command, an argument, a network or weights came, went or changed; a test compares the files. Names are
written into the scripts: a shell that asked the command at every press of TAB would wait for Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import shtab

from segscape.arguments import whole_parser
from segscape.arguments.completion import SHELLS
from segscape.cli.commands.completion import COMPLETIONS
from segscape.config_file import shipped_configs
from segscape.figures import figures, networks


def script(shell: str) -> str:
    """Return the completion script of a shell."""
    parser = whole_parser()
    for action in _actions(parser):
        kind = getattr(action, "completes", None)
        if kind is not None:
            action.complete = _names_or_files(kind)  # type: ignore[attr-defined]
        elif any(word in str(action.metavar) for word in ("FILE", "FOLDER")) or action.dest in ("images", "photos"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
        else:
            yield action


def _names_or_files(kind: str) -> dict[str, Any]:
    """Return how each shell completes the names of a kind, or files."""
    names = {
        "weights": list(figures()["weights"]),
        "networks": [name for name, kept in networks().items() if kept["task"] != "classification"],
        "configs": shipped_configs(),
    }[kind]
    words, function = " ".join(names), f"_segscape_{kind}"
    return {
        "bash": function,
        "zsh": function,
        "fish": f"(printf '%s\\n' {words}; __fish_complete_path (commandline -ct))",
        "preamble": {
            "bash": f'{function}() {{\n  compgen -W "{words}" -- "$1"\n  compgen -f -- "$1"\n}}',
            "zsh": f"{function}() {{\n  _alternative 'names:{kind}:({words})' 'files:files:_files'\n}}",
        },
    }


def main() -> None:
    """Write the files."""
    COMPLETIONS.mkdir(exist_ok=True)
    for shell in SHELLS:
        path = COMPLETIONS / f"segscape.{shell}"
        path.write_text(script(shell))
        print(f"written: {path}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
