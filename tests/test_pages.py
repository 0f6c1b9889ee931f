"""The pages of networks and concepts: figures and tables as their scripts make them, and code that runs."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from scripts import concept_figures, network_figures, network_pages
from scripts.network_figures import Box, Figure
from torch import Tensor, nn

from segscape import arguments
from segscape.config_file import shipped_configs
from segscape.figures import networks
from segscape.networks.base import RefinementNetwork
from segscape.networks.layers import GlobalMean
from segscape.registry import model_entry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted((DOCS / "networks").glob("*.md")), *sorted((DOCS / "concepts").glob("*.md"))]
CLASSES = 7
MOST_BYTES = 30_000


@pytest.mark.parametrize("figure", network_figures.FIGURES, ids=lambda figure: figure.name)
def test_figures_are_what_the_script_draws(figure: Figure) -> None:
    path = network_figures.FOLDER / f"{figure.name}.svg"
    assert path.read_text() == network_figures.draw(figure), "python scripts/network_figures.py draws it anew"


@pytest.mark.parametrize("name", concept_figures.FIGURES)
def test_pictures_of_concepts_are_what_the_script_draws(name: str) -> None:
    path = concept_figures.FOLDER / f"{name}.svg"
    assert path.read_text() == concept_figures.FIGURES[name](), "python scripts/concept_figures.py draws it anew"


def test_no_other_figures_lie_there() -> None:
    names = {figure.name for figure in network_figures.FIGURES}
    assert {path.stem for path in network_figures.FOLDER.iterdir()} == names
    assert {path.stem for path in concept_figures.FOLDER.iterdir()} == set(concept_figures.FIGURES)


def test_pictures_are_small_and_need_nothing_from_outside() -> None:
    pictures = list((DOCS / "pictures").rglob("*.svg"))
    assert pictures
    for path in pictures:
        text = path.read_text()
        assert len(text.encode()) < MOST_BYTES, path
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "href" not in text, path
        assert "@import" not in text, path
        assert text.count("http") == 1, path  # the name space


@pytest.mark.parametrize("figure", network_figures.FIGURES, ids=lambda figure: figure.name)
def test_numbers_of_figures_are_those_of_the_networks(figure: Figure) -> None:
    for network in {box.network or figure.network for box in figure.boxes.values()}:
        boxes = [box for box in figure.boxes.values() if (box.network or figure.network) == network and box.module]
        maps, built = _maps(network, boxes, figure.size)
        for box in boxes:
            assert box.module is not None
            shape = maps[box.module, box.of]
            stated = CLASSES if box.channels == "K" else box.channels
            assert shape[1] == stated, (box, shape)
            if box.stride is not None:
                assert tuple(side // box.stride for side in figure.size) == tuple(shape[2:]), (box, shape)
            part = built.get_submodule(box.module)
            heads = built.parts.training_only if hasattr(built, "parts") else ()  # type: ignore[union-attr]
            assert box.training == (box.module.split(".")[0] in heads), box
            if box.of == "output" and any(isinstance(module, GlobalMean) for module in part.modules()):
                assert box.kind == "mean", box


def _maps(name: str, boxes: list[Box], size: tuple[int, int]) -> tuple[dict[tuple[str, str], Any], nn.Module]:
    """Return the shapes of what submodules are given and give, of a network built without memory."""
    entry = model_entry(name)
    shapes: dict[tuple[str, str], Any] = {}

    def keep(module: str, of: str) -> Any:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            value = inputs[0] if of == "input" else output
            first = value[0] if isinstance(value, tuple) else value
            assert isinstance(first, Tensor)
            shapes.setdefault((module, of), first.shape)

        return hook

    with torch.device("meta"), torch.no_grad():
        network = entry.create(1 if entry.task == "refinement" else CLASSES).train()
        for box in boxes:
            assert box.module is not None
            network.get_submodule(box.module).register_forward_hook(keep(box.module, box.of))
        images = torch.empty(2, 3, *size)
        if isinstance(network, RefinementNetwork):
            network(images, torch.empty(2, 1, *size), size=size)
        else:
            network(images)
    return shapes, network


@pytest.mark.parametrize("path", network_pages.pages(), ids=lambda path: path.stem)
def test_tables_are_what_the_script_writes(path: Path) -> None:
    text, system = path.read_text(), network_pages.pages()[path]
    assert network_pages.page(text, system) == text, "python scripts/network_pages.py writes it anew"
    begun = re.findall(r"<!-- Begin of (.+), written by scripts/network_pages.py -->", text)
    assert begun == re.findall(r"<!-- End of (.+) -->", text)
    assert set(begun) <= set(network_pages.TABLES)


def test_every_network_and_config_has_a_page() -> None:
    found = [name for system in network_pages.SYSTEMS.values() for name in system.names]
    assert sorted(found) == sorted(name for name, kept in networks().items() if kept["task"] != "classification")
    listed = [name for system in network_pages.SYSTEMS.values() for name in system.configs]
    assert sorted([*listed, "finetune"]) == shipped_configs()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_code_of_pages_runs(path: Path, tmp_path: Path) -> None:
    program = tmp_path / "page.py"
    program.write_text("\n".join(_blocks(path, "python")))
    # In a process of its own: streams may take so much memory beside what the process holds already.
    ran = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_of_pages_exist(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "\n".join(_blocks(path, "bash")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("segscape ")]
    for command in commands:
        arguments.parse(command[1:])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_of_pages_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.is_file(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", found.read_text(), flags=re.MULTILINE)
            assert anchor in {_slug(head) for head in heads}, target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_tests_that_pages_name_exist(path: Path) -> None:
    for file, name in re.findall(r"(tests/\w+\.py)::(\w+)", path.read_text()):
        tree = ast.parse((ROOT / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_pages_are_formatted(path: Path) -> None:
    text = path.read_text()
    for line in re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines():
        assert line.startswith("|") or len(line) <= 120, line


def _blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def _slug(head: str) -> str:
    """The anchor of a heading, as Python-Markdown makes it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower())
