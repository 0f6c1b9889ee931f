"""Every golden of the authors' code, compared with ours: a module for each system, found by itself."""

import importlib
import pkgutil
from collections.abc import Iterator

from tests.references.common import Comparison


def every_comparison() -> Iterator[Comparison]:
    for found in pkgutil.iter_modules(__path__, f"{__name__}."):
        module = importlib.import_module(found.name)
        if hasattr(module, "every_comparison"):
            yield from module.every_comparison()
