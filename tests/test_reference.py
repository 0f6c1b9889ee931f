"""The pages of docs/reference/ say what the code says today."""

from __future__ import annotations

import doctest
import inspect

import pytest
from scripts import docs_reference

import segscape


@pytest.mark.parametrize("name", docs_reference.PAGES)
def test_a_page_of_the_reference_is_up_to_date(name: str) -> None:
    kept = (docs_reference.FOLDER / name).read_text()
    assert kept == docs_reference.PAGES[name](), "run `python scripts/docs_reference.py`"


def test_every_command_and_argument_is_there() -> None:
    from segscape.arguments.usage import describe

    page = (docs_reference.FOLDER / "command-line.md").read_text()
    waiting = [describe(docs_reference.whole_parser())]
    while waiting:
        command = waiting.pop()
        waiting += command.get("commands", [])
        assert command["name"] in page
        for argument in command["arguments"]:
            if argument["name"] != "help":
                assert all(f"`{flag}`" in page for flag in argument["flags"]), argument


def test_every_config_and_key_is_there() -> None:
    page = (docs_reference.FOLDER / "configs.md").read_text()
    for name in (*docs_reference.shipped_configs(), *(setting.name for setting in docs_reference.settings())):
        assert f"`{name}`" in page, name


@pytest.mark.parametrize("name", segscape.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    """Under the heading that the site shows as code, and run as every docstring's examples are."""
    text = inspect.getdoc(getattr(segscape, name)) or ""
    examples = doctest.DocTestParser().get_examples(text.partition("\nExamples:\n")[2])
    assert any("segscape." in example.source for example in examples)
    assert not any(doctest.SKIP in example.options for example in examples)
