"""What the pages for help show can be typed, read and run."""

from __future__ import annotations

import argparse
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from segscape.arguments import COMMANDS, training, whole_parser
from segscape.config_file import find_config
from segscape.labels.file import read_label_file
from tests.example_files import put_example_files

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("troubleshooting", "migration", "other-tools", "limits")
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """The code of a page in a language; of tabs, those of Segscape alone."""
    text = (DOCS / f"{page}.md").read_text()
    found = []
    for match in BLOCK.finditer(text):
        tab = re.findall(r'^=== "(.*)"', text[: match.start()], re.MULTILINE)[-1:] if match[1] else []
        if match[2] == language and tab in ([], ["Segscape"]):
            found.append(textwrap.dedent(match[3]))
    return found


def commands() -> list[str]:
    """Every command line of the pages."""
    joined = "\n".join(block.replace("\\\n", " ") for page in PAGES for block in blocks(page, "bash"))
    return [line for line in joined.splitlines() if line.startswith("segscape ")]


def _parser(words: list[str]) -> argparse.ArgumentParser:
    parser: Any = whole_parser()
    for word in words:
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not inner or word not in inner[0].choices:
            break
        parser = inner[0].choices[word]
    return parser


@pytest.mark.parametrize("line", commands())
def test_a_command_exists_with_its_arguments(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    assert words[0] in COMMANDS
    known = _parser(words)._option_string_actions
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert set(flags) <= set(known), set(flags) - set(known)
    for flag in flags:
        choices, value = known[flag].choices, words[words.index(flag) + 1 :][:1]
        assert choices is None or value[0] in choices, f"{flag} {value}"
    if "--config" in words and not (config := words[words.index("--config") + 1]).startswith("mine"):
        assert find_config(config).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for code in blocks(page, "python"):
        put_example_files(tmp_path, code)
        exec(compile(code, f"{page}.md", "exec"), names)
    if page == "migration":
        assert names["labels"].shape == (160, 240)
        assert names["logits"].shape == (2, 11, 16, 32)
        assert (tmp_path / "scene_labels.tif").is_file()
        loss = names["Focal"]()(torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 1], [1, 255]]]))
        # A quarter of the entropy at every pixel that has a label.
        assert loss.item() == pytest.approx(3 / 4 * torch.log(torch.tensor(2.0)).item() / 4)


@pytest.mark.parametrize(("page", "block"), [(page, block) for page in PAGES for block in blocks(page, "yaml")])
def test_settings_are_read(page: str, block: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(block)
    if "classes" in yaml.safe_load(block):
        assert read_label_file(file).num_classes == 2
    else:
        assert training.parse(["fit", "--config", str(file)]).given["data.root"] == "my_data"
