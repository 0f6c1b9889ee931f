"""The pages of networks and concepts: figures and tables as their scripts make them, and code that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from scripts import network_figures
from scripts.network_figures import Box, Figure
from torch import Tensor, nn

from segscape.networks.base import RefinementNetwork
from segscape.networks.layers import GlobalMean
from segscape.registry import model_entry

DOCS = Path(__file__).parents[1] / "docs"
CLASSES = 7
MOST_BYTES = 30_000


@pytest.mark.parametrize("figure", network_figures.FIGURES, ids=lambda figure: figure.name)
def test_figures_are_what_the_script_draws(figure: Figure) -> None:
    path = network_figures.FOLDER / f"{figure.name}.svg"
    assert path.read_text() == network_figures.draw(figure), "python scripts/network_figures.py draws it anew"


def test_no_other_figures_lie_there() -> None:
    names = {figure.name for figure in network_figures.FIGURES}
    assert {path.stem for path in network_figures.FOLDER.iterdir()} == names


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
