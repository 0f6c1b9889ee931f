"""Every golden of the authors' code, compared with ours."""

from collections.abc import Iterator

from tests.references import bisestdc, boundary, crm, dabnet, isdnet, isnet
from tests.references.common import Comparison

SYSTEMS = {
    "bisestdc": bisestdc,
    "boundary": boundary,
    "crm": crm,
    "dabnet": dabnet,
    "isdnet": isdnet,
    "isnet": isnet,
}


def every_comparison() -> Iterator[Comparison]:
    for system in SYSTEMS.values():
        yield from system.every_comparison()
