"""Weights files of strangers: a card or a tensor that no network could be used with is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from segscape.checkpoints.card import METADATA_KEY, WeightsCard
from segscape.checkpoints.shipped import find_weights, list_weights, read_card
from segscape.checkpoints.store import create_model, read_weights
from segscape.normalisation import Normalisation
from segscape.segmentation.segmenter import Segmenter

GOOD = WeightsCard("stdc1_seg", ("road", "sky"), ((1, 2, 3), (4, 5, 6)), Normalisation())


def test_every_shipped_card_is_read_back_as_it_is() -> None:
    for name in list_weights():
        card = read_card(find_weights(name))
        assert WeightsCard.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("normalisation", {"mean": [0.5, 0.5, float("nan")], "std": [1, 1, 1]}, "images cannot be normalised"),
        ("normalisation", {"mean": [0.5, 0.5, 0.5], "std": [1, 0, 1]}, "images cannot be normalised"),
        ("normalisation", {"mean": [0.5], "std": [1]}, "images cannot be normalised"),
        ("normalisation", 3, "TypeError"),
        ("class_names", [], "it has no classes"),
        ("class_names", ["road", "sky\x1b[2J"], "the name of class 1 is no text of printable characters"),
        ("class_names", ["road", 7], "the name of class 1 is no text of printable characters"),
        ("palette", [[1, 2, 3]], "1 colours for 2 classes"),
        ("palette", [[1, 2, 3], [4, 5, 600]], "a colour is not of levels from 0 to 255"),
        ("licence", "free\x07", "the licence is no text of printable characters"),
        ("training_size", [-1, 4], "a size is no number of pixels"),
        ("working_size", 1.5, "a size is no number of pixels"),
        ("working_resolution", [float("inf"), 1], "the working resolution cannot be"),
        ("working_resolution", "1", "IndexError"),
        ("score", {"miou": float("nan")}, "a score is no number"),
        ("surprise", 1, "surprise"),
    ],
)
def test_a_card_that_cannot_be_true(field: str, value: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "strange.safetensors"
    text = json.dumps({**json.loads(GOOD.to_json()), field: value})
    save_file({"a": torch.zeros(1)}, path, metadata={METADATA_KEY: text})
    with pytest.raises(ValueError, match="its card is damaged") as caught:
        read_card(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["[]", "3", "null", "", "{", "[" * 100_000, '{"network": "stdc1_seg"}'])
def test_a_card_that_is_no_card(text: str) -> None:
    with pytest.raises(ValueError, match="its card is damaged"):
        WeightsCard.from_json(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(value: float, random_weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "spoilt.safetensors"
    state = load_file(random_weights)
    key = next(key for key, tensor in state.items() if tensor.is_floating_point())
    state[key].view(-1)[0] = value
    card = read_card(random_weights)
    save_file(state, path, metadata={METADATA_KEY: card.to_json()})
    with pytest.raises(ValueError, match=f"its entry {key} holds values that are no numbers"):
        read_weights(path)


def test_more_classes_than_labels_can_tell_apart() -> None:
    names = tuple(f"class {number}" for number in range(256))
    card = WeightsCard("stdc1_seg", names, ((0, 0, 0),) * 256, Normalisation())
    with pytest.raises(ValueError, match="hold at most 255 classes; these weights have 256"):
        Segmenter(create_model("stdc1_seg", 256), card)
