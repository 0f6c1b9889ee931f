"""The parser that all commands share, and the arguments that all of them have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from segscape.messages import one_line, proposal

USAGE_ERROR = 2
"""The exit status after wrong arguments."""


class Parser(argparse.ArgumentParser):
    """A parser that takes options by their whole names, and proposes the nearest one for a name that is none."""

    def __init__(self, **settings: Any) -> None:
        # An abbreviation that is clear today may be ambiguous with the next version's options.
        super().__init__(**{"allow_abbrev": False, **settings})
        self._words: Sequence[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse words, none of which may be unknown: argparse calls this of each command's parser."""
        self._words = args or []
        parsed, strange = super().parse_known_args(args, namespace)
        if strange:
            self.refuse(strange)
        return parsed, strange

    def _is_unknown(self, word: str) -> bool:
        return word != "--" and word.partition("=")[0] not in self._option_string_actions

    def refuse(self, strange: Sequence[str]) -> NoReturn:
        """Print that there are no such arguments, with the nearest options, and exit."""
        hints = []
        for word in strange:
            name = word.partition("=")[0]
            options = self._option_string_actions if word.startswith("-") else ()
            hint = proposal(name, options, "", most=1)
            hints.append(f"{name}: {hint}" if hint else name)
        self.error(f"there is no argument {', '.join(hints)}")

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and exit with the status of wrong arguments."""
        if message.startswith("the following arguments are required"):
            # What is missing may be there under a mistyped name.
            mistyped = [word for word in self._words if word.startswith("--") and self._is_unknown(word)]
            if mistyped:
                self.refuse(mistyped)
        # argparse prints the usage of all arguments before the message, which people then have to look for.
        self.exit(
            USAGE_ERROR, f"error: {one_line(_with_suggestion(message))}\n`{self.prog} --help` tells the arguments.\n"
        )


def _with_suggestion(message: str) -> str:
    """Return argparse's message on a choice that does not exist, with the nearest one that does."""
    before, found, choices = message.partition("(choose from ")
    if not found:
        return message
    wrong = before.split("invalid choice: ")[-1].strip(" '\"")
    names = [name.strip(" '\")") for name in choices.split(",")]
    hint = proposal(wrong, names, f"the choices are {', '.join(names)}.")
    return f"{before.strip()}; {hint}"


def add_reporting(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that set what a command prints."""
    group = parser.add_argument_group("what is printed")
    group.add_argument(
        "--json", action="store_true", help="print a line of JSON for each result, and nothing else on standard output"
    )
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("--quiet", action="store_true", help="print errors alone, beside what --json prints")
    loudness.add_argument("--verbose", action="store_true", help="print more: settings, times, where errors came from")


def add_dry_run(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--dry-run`.

    Args:
        parser: The command's.
        what: What is printed in place of the work.
    """
    parser.add_argument("--dry-run", action="store_true", help=f"print {what}, and stop")


def add_skip_existing(parser: argparse.ArgumentParser) -> None:
    """Add `--skip-existing`."""
    parser.add_argument(
        "--skip-existing", action="store_true", help="leave out images whose files are all there already"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")


def add_weights(parser: argparse.ArgumentParser, default: str, *, option: str = "--weights") -> None:
    """Add an option that takes a name of weights that ship, or a weights file."""
    action = parser.add_argument(
        option, default=default, metavar="NAME|FILE", help="a name or a weights file (default: %(default)s)"
    )
    action.completes = "weights"  # type: ignore[attr-defined]
