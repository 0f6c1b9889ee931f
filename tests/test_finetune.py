"""Fine-tuning on a user's own folder, as a user runs it."""

from pathlib import Path

import pytest
import torch

import segscape
from segscape.checkpoints.store import find_weights, read_card, read_weights
from segscape.cli.main import main
from tests.fake.folder import write_folder


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    root = tmp_path / "own"
    write_folder(root)
    return root


def _words(command: str, root: Path, output: Path, *more: str) -> list[str]:
    return [
        *(command, "--config", "configs/finetune.yaml", "--data.root", str(root)),
        *("--model.name", "scapenet_lite0", "--trainer.default_root_dir", str(output), "--trainer.accelerator", "cpu"),
        *("--data.num_workers", "0", "--trainer.enable_progress_bar", "false"),
        *more,
    ]


def _fit(root: Path, output: Path, *more: str) -> list[str]:
    return _words(
        "fit",
        root,
        output,
        *("--data.batch_size", "2", "--data.augmentation.init_args.crop", "[64, 64]"),
        *("--trainer.max_steps", "2", "--trainer.check_val_every_n_epoch", "1", "--trainer.limit_val_batches", "1"),
        *("--trainer.enable_model_summary", "false"),
        *more,
    )


def test_the_classifier_is_adapted_and_said_to_be(own_data: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    output = tmp_path / "run"
    assert main(_fit(own_data, output, "--model.weights", "scapenet_lite0.street")) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "330 entries loaded; 2 of another shape and left fresh (classifier.bias, classifier.weight)" in printed
    assert "16 not in the weights and left fresh (aux16." in printed
    card = read_card(output / "weights.safetensors")
    assert card.class_names == ("water", "wheat", "road")
    assert "from scapenet_lite0.street" in card.training
    assert "CC BY-NC 4.0" in card.licence
    image = next((own_data / "images").rglob("*.*"))
    result = segscape.Segmenter.from_weights(output / "weights.safetensors").segment(image)
    assert result.labels.max() < card.num_classes
    # And from there on nothing is adapted any more.
    assert main(_words("validate", own_data, output, "--model.weights", str(output / "weights.safetensors"))) == 0


def test_a_frozen_backbone_stays(own_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    more = ("--model.weights", "scapenet_lite0.street", "--model.freeze_backbone", "true")
    assert main(_fit(own_data, output, *more)) == 0
    _, before = read_weights(find_weights("scapenet_lite0.street"))
    _, after = read_weights(output / "weights.safetensors")
    backbone = [key for key in after if key.startswith("backbone.")]
    assert len(backbone) > 100
    for key in backbone:
        # The average of the weights is rounded, even over equal ones.
        torch.testing.assert_close(after[key], before[key], rtol=1e-5, atol=1e-6)
    assert not torch.equal(before["lateral.32.conv.weight"], after["lateral.32.conv.weight"])


def test_an_untrained_classifier_is_not_measured(own_data: Path, tmp_path: Path, capsys) -> None:
    assert main(_words("validate", own_data, tmp_path / "run", "--model.weights", "scapenet_lite0.street")) == 1
    assert "`segscape fit` adapts them first" in " ".join(capsys.readouterr().err.split())


def test_weights_of_another_network_are_refused(own_data: Path, tmp_path: Path, capsys) -> None:
    more = ("--model.name", "stdc2_seg", "--model.weights", "scapenet_lite0.street")
    assert main(_fit(own_data, tmp_path / "run", *more)) == 1
    assert "holds weights of scapenet_lite0, not of stdc2_seg" in " ".join(capsys.readouterr().err.split())


def test_a_crop_that_the_network_cannot_take_is_explained(own_data: Path, tmp_path: Path, capsys) -> None:
    more = ("--model.name", "dabnet_resnet18_p4")
    assert main(_fit(own_data, tmp_path / "run", *more)) == 1
    assert "multiples of 128" in " ".join(capsys.readouterr().err.split())
