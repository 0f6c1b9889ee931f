"""`python -m segscape`: the command line."""

import sys

from segscape.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
