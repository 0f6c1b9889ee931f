"""What is known of networks, weights and data sets without loading any: their names, and what is counted of them once.

`figures.json` is written by `scripts/renew_figures.py`, and a test counts everything again.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from segscape.messages import proposal

FIGURES_FILE = Path(str(files("segscape"))) / "figures.json"


@cache
def figures() -> dict[str, Any]:
    """Return all that is kept, by kind: `networks`, `weights`, `datasets`, and what `scripts/renew_figures.py` adds."""
    return json.loads(FIGURES_FILE.read_text())


def networks() -> dict[str, dict[str, Any]]:
    """Return what is kept of the registered networks by their names: the task, and what inference costs."""
    return figures()["networks"]


def check_network(name: str) -> None:
    """Refuse a name that no network has.

    Raises:
        ValueError: There is none; the message gives the nearest names.
    """
    if name in networks():
        return
    names = f"the names are {', '.join(sorted(networks()))}."
    raise ValueError(f"There is no network named {name!r}; {proposal(name, networks(), names)}")
