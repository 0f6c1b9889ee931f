"""Every golden of the authors' code, compared with ours."""

from collections.abc import Iterator

from tests.references import bisestdc
from tests.references.common import Comparison

SYSTEMS = {"bisestdc": bisestdc}


def every_comparison() -> Iterator[Comparison]:
    for system in SYSTEMS.values():
        yield from system.every_comparison()
