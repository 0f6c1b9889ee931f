"""Docstrings' examples run in a folder of their own, which holds the files that they read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.example_files import put_example_files


@pytest.fixture(autouse=True)
def _files_of_examples(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    folder = tmp_path_factory.mktemp("examples")
    put_example_files(folder, "".join(example.source for example in request.node.dtest.examples))
    before = Path.cwd()
    os.chdir(folder)
    yield
    os.chdir(before)
