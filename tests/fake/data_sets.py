"""What writes a tiny copy of each data set, found by its name.

A module of this package holds `write_<name>`, which writes the layout that is read, or `write_<name>_download`, which
writes what is downloaded, for `segscape data prepare`.
"""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

import tests.fake
from segscape.data.datasets import DATASETS
from segscape.data.prepare import prepare

Writer = Callable[[Path], None]


def _prepared(name: str, write_download: Writer) -> Writer:
    def write(root: Path) -> None:
        download = root.with_name(f"{root.name}-download")
        write_download(download)
        assert not prepare(name, download, root, workers=1, track=lambda outcomes, total: outcomes).problems

    return write


def _writer(name: str) -> Writer:
    modules = [
        importlib.import_module(f"tests.fake.{found.name}") for found in pkgutil.iter_modules(tests.fake.__path__)
    ]
    # Masks for refinement have folders of their own.
    owners = [module for module in modules if module.__name__ not in (__name__, "tests.fake.refinement")]
    for module in owners:
        if hasattr(module, f"write_{name}"):
            return getattr(module, f"write_{name}")
    for module in owners:
        if hasattr(module, f"write_{name}_download"):
            return _prepared(name, getattr(module, f"write_{name}_download"))
    raise AssertionError(f"tests/fake has no write_{name}, which writes a tiny copy of the data set for the tests.")


WRITERS: dict[str, Writer] = {name: _writer(name) for name in sorted(DATASETS)}
