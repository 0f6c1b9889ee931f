"""What the script that measures refiners says of one that changes nothing, and of one that draws every mask anew."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import measure_refiner

import segscape
from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.store import write_weights
from segscape.data.refinement.pairs import RefinementPairs
from segscape.metrics import boundary_accuracy
from tests.fake.refinement import write_folder

GRADES = ["perturbed", "reduced by 16", "reduced by 8", "reduced by 4", "exact"]


def _weights(path: Path, name: str) -> Path:
    torch.manual_seed(0)
    network = segscape.create_model(name)
    card = WeightsCard(name, ("foreground",), ((255, 255, 255),), network.normalisation)
    write_weights(path, card, network.state_dict())
    return path


def _measured(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> dict[str, dict[str, dict[str, float]]]:
    output = Path(words[0]).with_suffix(".json")
    monkeypatch.setattr(sys, "argv", ["measure_refiner.py", *map(str, words), "--output", str(output)])
    measure_refiner.main()
    return json.loads(output.read_text())["scores"]


def test_masks_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    write_folder(tmp_path / "shells")
    keeping = _weights(tmp_path / "keeping.safetensors", "crm_efficientnet_lite0")
    scores = _measured(monkeypatch, keeping, tmp_path / "shells", "--band", "3")
    assert list(scores) == ["shells"]
    assert list(scores["shells"]) == GRADES
    for row in scores["shells"].values():
        assert (row["iou"], row["mba"]) == (row["iou_before"], row["mba_before"])
    before = [scores["shells"][grade]["iou_before"] for grade in GRADES]
    assert before[1] < before[2] < before[3] < before[4] == 1
    assert "reduced by 16" in capsys.readouterr().out

    # The coarse scores by another way, image by image.
    pairs = [pair["truth"][0].numpy() for pair in RefinementPairs(tmp_path / "shells", "val")]
    masks = [
        dict(measure_refiner.coarse_masks(truth, f"a-{number}"))["reduced by 8"] for number, truth in enumerate(pairs)
    ]
    both = [(mask > 127, truth > 127) for mask, truth in zip(masks, pairs, strict=True)]
    iou = sum((a & b).sum() for a, b in both) / sum((a | b).sum() for a, b in both)
    row = scores["shells"]["reduced by 8"]
    assert row["iou_before"] == pytest.approx(float(iou), abs=1e-6)
    assert row["mba_before"] == pytest.approx(float(np.mean([boundary_accuracy(*pair) for pair in both])), abs=1e-6)

    drawing = _weights(tmp_path / "drawing.safetensors", "crm_resnet18")
    assert _measured(monkeypatch, drawing, tmp_path / "shells", "--least-side", "30")["shells"]["exact"]["iou"] < 1


def test_without_pairs_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping = _weights(tmp_path / "keeping.safetensors", "crm_efficientnet_lite0")
    with pytest.raises(FileNotFoundError, match="No pairs of image and mask for split val"):
        _measured(monkeypatch, keeping, tmp_path)
    assert not (tmp_path / "keeping.json").exists()
