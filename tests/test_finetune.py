"""Fine-tuning on a user's own folder, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import segscape
from segscape.checkpoints.shipped import find_weights, read_card
from segscape.checkpoints.store import read_weights
from segscape.cli.main import main
from tests.fake.folder import write_folder

ROOT = Path(__file__).parents[1]


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


@pytest.mark.parametrize("classes", [("roof", "wheat", "road"), ("water", "wheat")])
def test_a_run_goes_on_with_its_own_classes_alone(own_data: Path, tmp_path: Path, capsys, classes: tuple) -> None:
    output = tmp_path / "run"
    assert main(_fit(own_data, output)) == 0
    before = {path: path.stat().st_mtime_ns for path in (output / "checkpoints").iterdir()}
    labels = own_data / "labels.yaml"
    spec = yaml.safe_load(labels.read_text())
    spec["classes"] = [{**entry, "name": name} for entry, name in zip(spec["classes"], classes, strict=False)]
    labels.write_text(yaml.safe_dump(spec))
    capsys.readouterr()
    assert main([*_fit(own_data, output), "--trainer.max_steps", "4"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "is of a run on another data set, with the classes water, wheat, road" in said
    assert before == {path: path.stat().st_mtime_ns for path in (output / "checkpoints").iterdir()}


def test_a_damaged_checkpoint_is_said_before_anything_is_done(own_data: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "run"
    assert main(_fit(own_data, output)) == 0
    last = output / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 100] = bytes(255 - value for value in content[middle : middle + 100])
    last.write_bytes(content)
    best = last.with_name("best.ckpt")
    whole = best.read_bytes()
    best.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert main([*_fit(own_data, output), "--trainer.max_steps", "4"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "last.ckpt is damaged, and its run has no other checkpoint; delete it to begin anew" in said
    assert last.read_bytes() == content
    # With the one before it, the run goes on from there.
    best.write_bytes(whole)
    assert main([*_fit(own_data, output), "--trainer.max_steps", "4"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "last.ckpt is damaged; the run goes on from the one before it, best.ckpt" in said
    assert torch.load(last, weights_only=True)["global_step"] == 4


@pytest.mark.parametrize(("section", "value"), [("data", 5), ("model", ["stdc1_seg"]), ("model", "stdc1_seg")])
def test_sections_of_another_type(section: str, value: object, own_data: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({section: value}))
    assert main([*_fit(own_data, tmp_path / "run"), "--config", str(tmp_path / "mine.yaml")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"`{section}` is a mapping of settings, not {value!r}" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "count"), [("batch_size", "0"), ("eval_batch_size", "0"), ("eval_batch_size", "null")]
)
def test_numbers_of_images_that_are_none(name: str, count: str, own_data: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.yaml").write_text(f"data: {{{name}: {count}}}\n")
    words = [word for word in _fit(own_data, tmp_path / "run") if word != "--data.batch_size"]
    words.remove("2")
    assert main([*words, "--config", str(tmp_path / "mine.yaml")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"data.{name} is a number of images, at least 1, not {'None' if count == 'null' else 0}" in said
    assert not (tmp_path / "run").exists()


def test_class_weights_are_one_for_each_class(own_data: Path, tmp_path: Path, capsys) -> None:
    loss = "{class_path: segscape.losses.CrossEntropy, init_args: {class_weights: [1.0, 2.0]}}"
    words = _fit(own_data, tmp_path / "run", "--model.losses", f"[{{output: logits, loss: {loss}}}]")
    assert main(words) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "has 2 class weights, and Fields has 3 classes (water, wheat, road); give one weight for each" in said
    assert not (tmp_path / "run").exists()


def test_callbacks_and_loggers_of_a_config_are_honoured(own_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    stop = "[{class_path: lightning.pytorch.callbacks.Timer, init_args: {duration: '00:00:00:03', interval: step}}]"
    words = _fit(own_data, output, "--trainer.callbacks", stop, "--trainer.logger", "false")
    assert main([*words, "--trainer.max_steps", "100000"]) == 0
    assert torch.load(output / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] < 100000
    assert not (output / "csv").exists()
    assert (output / "weights.safetensors").is_file()


def test_two_processes_train_with_heads_that_no_loss_acts_on(own_data: Path, tmp_path: Path) -> None:
    """The default losses leave out the head of the detail loss."""
    output = tmp_path / "run"
    words = _fit(own_data, output, "--model.name", "stdc1_seg", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    command = [sys.executable, "-m", "segscape.cli.main", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (output / "weights.safetensors").is_file()


def test_whole_images_of_several_sizes_are_measured_in_batches(own_data: Path, tmp_path: Path) -> None:
    """With the scores of one image at a time."""
    for number, size in ((1, (48, 40)), (3, (64, 96))):
        for kind, name in (("images", f"field-{number}.jpg"), ("masks", f"field-{number}.png")):
            path = own_data / kind / "val" / name
            Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)
    found = {}
    for batch in ("1", "3"):
        output = tmp_path / batch
        words = _words("validate", own_data, output, "--seed_everything", "3")
        assert main([*words, "--data.eval_batch_size", batch]) == 0
        found[batch] = json.loads((output / "val_scores.json").read_text())
    assert found["1"] == found["3"]
