"""`segscape COMMAND ...`: checks the arguments, then `segscape.cli.run` loads what the work needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from segscape.arguments import COMMANDS, parse


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        words: The words after `segscape`; by default those of the process.

    Returns:
        The exit status, see `segscape.cli.run`.

    Raises:
        SystemExit: The arguments are wrong, which was printed (2), or help or the version was printed (0).
    """
    try:
        arguments = parse(sys.argv[1:] if words is None else list(words))
        COMMANDS[arguments.command].check(arguments)
    except (ValueError, OSError) as error:
        from segscape.cli.run import say_error

        return say_error(error)
    # Imported here: what stands above answers in a tenth of a second.
    from segscape.cli.run import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
